"""What has to hold once a killed daemon was started again: all that was acknowledged, and nothing that is half there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.security.daemons import DriverName, Nursery
from tests.security.kills.ledger import Fact, Ledger
from tests.security.lines import DaemonGoneError, line_to


async def check(nurse: Nursery, state: Path, ledger: Ledger, driver: DriverName) -> int:
    """Start once more, and compare. The process id of the daemon, which has nothing to do yet."""
    pid = await nurse.running(state, driver)
    async with line_to(state, operator=True) as operator:
        verified = await operator.call("audit.verify")
        assert verified.content["intact"] is True, verified
        for token, fact in list(ledger.keys.items()):
            async with line_to(state, key=token) as line:
                try:
                    valid = (await line.call("space.list")).code is None
                except (DaemonGoneError, AssertionError):
                    valid = False
            assert fact.allows(valid), f"a key is {'valid' if valid else 'nobody'} again"
            if valid:
                fact.found(valid)
            else:
                del ledger.keys[token]
    check_rows(state, ledger, keep_runs=f"daemon {pid}")
    if driver == "fake":
        check_fake_workspaces(state, ledger)
    # A traceback of ours names our files; the fake's agents, whose daemon was killed, may end with one of their own.
    said = (state / "daemon.log").read_text("utf-8")
    assert "/mcp_spaces/" not in said, said[said.index("/mcp_spaces/") - 500 :][:4000]
    return pid


def check_rows(state: Path, ledger: Ledger, *, keep_runs: str) -> None:
    with closing(sqlite3.connect(f"file:{state / 'state.db'}?mode=ro", uri=True)) as database:
        rows = database.execute
        assert rows("PRAGMA integrity_check").fetchone()[0] == "ok"
        states = dict(rows("SELECT id, state FROM runs").fetchall())
        lost = {run: states.get(run) for run, expected in ledger.runs.items() if states.get(run) != expected}
        assert lost == {}, keep_runs
        # What is open now was opened by this very daemon, which is told to do nothing.
        assert [run for run, state in states.items() if state == "running"] == []
        bodies = dict(rows("SELECT id, json_extract(body, '$.requested.labels.n') FROM spaces").fetchall())
        check_facts("space", ledger.labels, bodies)
        files = {(space, path): blob for space, path, blob in rows("SELECT namespace, path, blob FROM files")}
        check_facts("file", ledger.files, files)
        check_facts("approval", ledger.approvals, dict(rows("SELECT id, state FROM approvals").fetchall()))
        assert rows("SELECT id FROM runtimes WHERE state NOT IN ('stopped', 'failed')").fetchall() == []
        # No file without its space, no content without its row, no row without its content, nothing half written.
        assert rows("SELECT path FROM files WHERE namespace NOT IN (SELECT id FROM spaces)").fetchall() == []
        named = {(space, blob) for (space, _), blob in files.items()}
        named |= {(f"runs.{space}", blob) for space, blob in rows("SELECT space_id, blob FROM artifacts")}
        on_disk = {(path.parent.parent.name, path.name) for path in (state / "blobs").glob("[!.]*/??/*")}
        assert on_disk == named
        assert list((state / "blobs" / ".incoming").iterdir()) == []


def check_facts(kind: str, facts: dict[Any, Fact], found: dict[Any, Any]) -> None:
    wrong = {
        key: (found.get(key), fact.known, fact.coming) for key, fact in facts.items() if not fact.allows(found.get(key))
    }
    assert wrong == {}, f"{kind}: found, acknowledged, under way"
    for key, fact in facts.items():
        fact.found(found.get(key))


def check_fake_workspaces(state: Path, ledger: Ledger) -> None:
    known = runtime_ids(state)
    folders = {path.name for path in (state / "fake").iterdir()} if (state / "fake").exists() else set()
    assert folders <= known, "workspaces that nobody owns"
    for (runtime, path), fact in list(ledger.written.items()):
        if runtime not in known:
            del ledger.written[runtime, path]
            continue
        file = state / "fake" / runtime / path
        found = file.read_text("utf-8") if file.exists() else None
        assert fact.allows(found), (found, fact)
        fact.found(found)


def runtime_ids(state: Path) -> set[str]:
    with closing(sqlite3.connect(f"file:{state / 'state.db'}?mode=ro", uri=True)) as database:
        return {row[0] for row in database.execute("SELECT id FROM runtimes")}
