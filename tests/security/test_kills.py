"""SIGKILL at any instant (K01, K02), orphans (K05) and leftovers (D15), with real daemons and, for the last, Docker.

Clients keep a ledger of what was acknowledged; after each kill and restart the ledger is compared with what is there.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.sandbox.container import INSTANCE_LABEL
from tests.sandbox.leftovers import loop_devices
from tests.security.app import LITTLE, eventually, short_folder
from tests.security.daemons import DriverName, Nursery, nursery
from tests.security.lines import DaemonGoneError, Line, Said, line_to

pytestmark = pytest.mark.anyio

FAKE_KILLS = 280
DOCKER_KILLS = 30
LANES = 2
KILLS_A_FOLDER = 35
"""A fresh state folder now and then, so that the database stays small and first starts are killed too."""
CLIENTS = 3
SPACES = 4


@pytest.fixture
async def nurse() -> AsyncIterator[Nursery]:
    async with nursery() as opened:
        yield opened


@pytest.fixture
def state() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder / "state"


# ------------------------------------------------------------------------------------------------ the ledger


@dataclass
class Fact:
    """What a thing may look like: one value once the last change was acknowledged, two while one is under way."""

    known: Any = None
    coming: Any = None
    settled: bool = True

    def changing(self, value: Any) -> None:
        self.coming, self.settled = value, False

    def changed(self) -> None:
        self.known, self.settled = self.coming, True

    def refused(self) -> None:
        self.settled = True

    def allows(self, found: Any) -> bool:
        return found == self.known or (not self.settled and found == self.coming)

    def found(self, value: Any) -> None:
        """After a restart: whatever was under way has happened or not."""
        self.known, self.settled = value, True


@dataclass
class Ledger:
    """Of one state folder. Each fact is written by one client only, so that there is no other order than its own."""

    rng: random.Random
    runs: dict[str, str] = field(default_factory=dict)
    """Run ids of answers, with the state that the record has to have."""
    labels: dict[str, Fact] = field(default_factory=dict)
    """By space id: its label `n`, None where the space is gone."""
    files: dict[tuple[str, str], Fact] = field(default_factory=dict)
    """By space id and path in storage: the sha256, None where there is none."""
    written: dict[tuple[str, str], Fact] = field(default_factory=dict)
    """By runtime id and path in its workspace: the content."""
    homes: dict[str, str] = field(default_factory=dict)
    """By runtime id: its space."""
    approvals: dict[str, Fact] = field(default_factory=dict)
    """By id: its state."""
    keys: dict[str, Fact] = field(default_factory=dict)
    """By token: whether it is valid."""
    acknowledged: int = 0
    writes: int = 0
    """Acknowledged ones, in sandboxes."""

    def note(self, said: Said) -> None:
        self.acknowledged += 1
        if said.run_id is not None:
            self.runs[said.run_id] = "succeeded"


async def work_as_agent(line: Line, ledger: Ledger, number: int) -> None:
    """Until the daemon goes. Each client has spaces of its own."""
    rng = ledger.rng
    while True:
        mine = sorted(await spaces_of(line, number))
        gone = [one for one in mine if one in ledger.labels and ledger.labels[one].known is None]
        assert not gone, f"deleted spaces are back: {gone}"
        action = rng.choice(
            ("create", "upload", "upload", "upload", "delete", "label", "launch", "write", "ask", "drop")
        )
        if action == "create" or not mine:
            if len(mine) < SPACES:
                await create_space(line, ledger, number)
            continue
        space = rng.choice(mine)
        match action:
            case "upload":
                await upload(line, ledger, space)
            case "delete":
                await delete_file(line, ledger, space)
            case "label":
                await label(line, ledger, space)
            case "launch" | "write":
                await write_in_sandbox(line, ledger, space)
            case "ask":
                await ask(line, ledger, space)
            case "drop" if rng.random() < 0.3:
                await delete_space(line, ledger, space)
            case _:
                pass


async def spaces_of(line: Line, number: int) -> list[str]:
    said = await line.call("space.list", limit=200)
    return [one["id"] for one in said.content["spaces"] if one["name"].startswith(f"client-{number}-")]


async def create_space(line: Line, ledger: Ledger, number: int) -> None:
    name = f"client-{number}-{ledger.rng.getrandbits(40):x}"
    said = await line.call("space.create", name=name, labels={"n": "0"})
    assert said.code is None
    ledger.note(said)
    ledger.labels[said.content["id"]] = Fact("0")


async def delete_space(line: Line, ledger: Ledger, space: str) -> None:
    fact = ledger.labels.setdefault(space, Fact("0"))
    fact.changing(None)
    for (owner, _), file in ledger.files.items():
        if owner == space:
            file.changing(None)
    for (runtime, _), file in ledger.written.items():
        # A kill in the middle of a delete may leave the runtime's row without its files.
        if ledger.homes[runtime] == space:
            file.changing(None)
    said = await line.call("space.delete", space=space, force=True)
    assert said.code is None, said
    ledger.note(said)
    fact.changed()
    for key in [key for key in ledger.files if key[0] == space]:
        del ledger.files[key]


async def upload(line: Line, ledger: Ledger, space: str) -> None:
    path = f"folder/{ledger.rng.randrange(4)}.txt"
    content = f"{ledger.rng.getrandbits(64):x}" * ledger.rng.choice((1, 10, 5000))
    fact = ledger.files.setdefault((space, path), Fact())
    fact.changing(hashlib.sha256(content.encode()).hexdigest())
    said = await line.call("storage.upload", space=space, path=path, content=content, overwrite=True)
    assert said.code is None, said
    ledger.note(said)
    fact.changed()


async def delete_file(line: Line, ledger: Ledger, space: str) -> None:
    path = f"folder/{ledger.rng.randrange(4)}.txt"
    fact = ledger.files.setdefault((space, path), Fact())
    fact.changing(None)
    said = await line.call("storage.delete", space=space, path=path)
    assert said.code in (None, "not_found"), said
    fact.changed()


async def label(line: Line, ledger: Ledger, space: str) -> None:
    fact = ledger.labels.setdefault(space, Fact("0"))
    fact.changing(f"{ledger.rng.getrandbits(40):x}")
    said = await line.call("space.update", space=space, patch={"labels": {"n": fact.coming}})
    assert said.code is None, said
    ledger.note(said)
    fact.changed()


async def write_in_sandbox(line: Line, ledger: Ledger, space: str) -> None:
    launched = await line.call("sandbox.launch", space=space, alias="main", scope={"limits": LITTLE})
    if launched.code == "wrong_state":
        # A delete that was killed in its middle leaves a stopped space.
        ledger.note(await line.call("space.up", space=space))
        return
    if launched.code not in (None, "conflict"):
        # What a launch may be refused for here: the engine's or the space's limits, never a fault of ours.
        assert launched.code in ("quota", "runtime_unavailable"), launched
        return
    listed = await line.call("sandbox.list", space=space)
    runtime = listed.content["sandboxes"][0]["id"]
    content = f"{ledger.rng.getrandbits(64):x}"
    ledger.homes[runtime] = space
    fact = ledger.written.setdefault((runtime, "kept.txt"), Fact())
    fact.changing(content)
    said = await line.call("sandbox.write_file", space=space, path="kept.txt", content=content)
    if said.code is None:
        ledger.note(said)
        ledger.writes += 1
        fact.changed()
    if ledger.rng.random() < 0.3:
        ledger.note(await line.call("sandbox.stop", space=space))


async def ask(line: Line, ledger: Ledger, space: str) -> None:
    said = await line.call("sandbox.shell", space=space, command=f"git push origin {ledger.rng.getrandbits(40):x}")
    if said.code == "approval_needed":
        ledger.acknowledged += 1
        ledger.approvals[said.details["approval_id"]] = Fact("pending")
    else:
        assert said.code in ("not_found", "wrong_state", "quota", "runtime_unavailable"), said


async def work_as_operator(line: Line, ledger: Ledger) -> None:
    while True:
        pending = [one for one, fact in ledger.approvals.items() if fact.settled and fact.known == "pending"]
        if pending and ledger.rng.random() < 0.5:
            grant = ledger.rng.random() < 0.5
            fact = ledger.approvals[pending[0]]
            fact.changing("approved" if grant else "denied")
            said = await line.call("approval.grant" if grant else "approval.deny", approval=pending[0])
            assert said.code is None, said
            ledger.note(said)
            fact.changed()
        elif ledger.keys and ledger.rng.random() < 0.3:
            token = next(iter(ledger.keys))
            fact = ledger.keys.pop(token)
            fact.changing(False)
            ledger.keys[token] = fact
            said = await line.call("key.revoke", key=f"key_{token.split('_')[1]}")
            assert said.code is None, said
            ledger.note(said)
            fact.changed()
        elif len(ledger.keys) < 8:
            said = await line.call("key.create", label="one")
            ledger.note(said)
            ledger.keys[said.content["token"]] = Fact(True)
        else:
            ledger.note(await line.call("principal.list"))


async def work(state: Path, ledger: Ledger, number: int | None) -> None:
    with suppress(DaemonGoneError):
        async with line_to(state, operator=number is None) as line:
            if number is None:
                await work_as_operator(line, ledger)
            else:
                await work_as_agent(line, ledger, number)


async def work_until_killed(
    nurse: Nursery,
    state: Path,
    ledger: Ledger,
    driver: DriverName,
    *,
    running: int | None = None,
    stillborn: float = 0.15,
) -> None:
    """One daemon's life, or the rest of it: killed in the middle of its work, after so much of it and not after some
    time, since what a slow machine does less of is no proof. With the chance of `stillborn`, one that is only starting
    does not even get to listen."""
    pid = running or await nurse.start(state, driver)
    if running is None and ledger.rng.random() < stillborn:
        await anyio.sleep(ledger.rng.uniform(0, 0.04 if driver == "fake" else 0.4))
        os.kill(pid, signal.SIGKILL)
        await nurse.ready()
    else:
        if running is None:
            assert await nurse.ready(), (state / "daemon.log").read_text("utf-8")[-3000:]
        acknowledged = ledger.acknowledged + ledger.rng.randrange(2, 9)
        writes = ledger.writes + (1 if driver == "docker" and ledger.rng.random() < 0.5 else 0)
        async with anyio.create_task_group() as tasks:
            for number in (*range(CLIENTS), None):
                tasks.start_soon(work, state, ledger, number)
            with anyio.move_on_after(10):
                await eventually(lambda: ledger.acknowledged >= acknowledged and ledger.writes >= writes)
            # The instant of the kill is what varies.
            await anyio.sleep(ledger.rng.uniform(0, 0.02))
            os.kill(pid, signal.SIGKILL)
    assert await nurse.gone() == -signal.SIGKILL


# ------------------------------------------------------------------------------------------- what has to hold


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


# --------------------------------------------------------------------------------------------------- the tests


@pytest.mark.timeout(900)
async def test_k01_kills_at_random_points_lose_no_acknowledged_operation_and_leave_no_orphan() -> None:
    acknowledged: list[int] = []

    async def lane(number: int) -> None:
        rng = random.Random(f"k01-{number}")
        async with nursery() as nurse:
            for first in range(0, FAKE_KILLS // LANES, KILLS_A_FOLDER):
                with short_folder() as folder:
                    ledger, state, running = Ledger(rng), folder / "state", None
                    for _ in range(min(KILLS_A_FOLDER, FAKE_KILLS // LANES - first)):
                        await work_until_killed(nurse, state, ledger, "fake", running=running, stillborn=0.75)
                        # What was compared lives on and is the next to be killed; every fifth is stopped in peace.
                        running = await check(nurse, state, ledger, "fake")
                        if rng.random() < 0.2:
                            assert await nurse.stop(running) == 0
                            running = None
                    if running is not None:
                        assert await nurse.stop(running) == 0
                    acknowledged.append(ledger.acknowledged)

    async with anyio.create_task_group() as tasks:
        for number in range(LANES):
            tasks.start_soon(lane, number)
    # A daemon that acknowledges nothing would lose nothing either.
    assert sum(acknowledged) > FAKE_KILLS


@pytest.mark.timeout(900)
async def test_k01_k05_d15_kills_with_docker_leave_no_container_volume_loop_device_or_file(
    nurse: Nursery, state: Path
) -> None:
    ledger = Ledger(random.Random("docker"))
    for _ in range(DOCKER_KILLS):
        await work_until_killed(nurse, state, ledger, "docker")
        if (state / "state.db").exists():
            assert await nurse.stop(await check(nurse, state, ledger, "docker")) == 0
            assert await left_after_starts(nurse, state) == []
    assert ledger.acknowledged > DOCKER_KILLS
    assert ledger.writes, "no sandbox was ever written to"


async def test_k05_what_a_killed_daemon_had_begun_to_make_is_gone_after_the_next_start(
    nurse: Nursery, state: Path
) -> None:
    """Killed the moment that the engine has the container, before any row says that it runs."""
    pid = await nurse.running(state, "docker")
    async with line_to(state) as line:
        await line.call("space.create", name="work")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launch_and_be_killed, line)
            await eventually(lambda: containers(state) != [])
            os.kill(pid, signal.SIGKILL)
            assert await nurse.gone() == -signal.SIGKILL
    again = await nurse.running(state, "docker")
    with closing(sqlite3.connect(f"file:{state / 'state.db'}?mode=ro", uri=True)) as database:
        assert database.execute(
            "SELECT count(*) FROM runtimes WHERE state NOT IN ('stopped', 'failed')"
        ).fetchone() == (0,)
    assert await nurse.stop(again) == 0
    assert await left_after_starts(nurse, state) == []


async def launch_and_be_killed(line: Line) -> None:
    with suppress(DaemonGoneError):
        await line.call("sandbox.launch", scope={"limits": LITTLE})


async def test_k02_an_effect_without_a_recorded_outcome_is_told_as_interrupted_and_never_done_again(
    nurse: Nursery, state: Path
) -> None:
    pid = await nurse.running(state)
    async with line_to(state) as line:
        await line.call("space.create", name="work")
        runtime = (await line.call("sandbox.launch")).content["id"]
        marker = state / "fake" / runtime / "marker"
        command = "echo once >> marker; sleep 60"

        async def call() -> None:
            with pytest.raises(DaemonGoneError):
                await line.call("sandbox.shell", once="deploy-1", command=command)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await eventually(lambda: marker.exists() and marker.read_text() == "once\n")
            os.kill(pid, signal.SIGKILL)
            assert await nurse.gone() == -signal.SIGKILL
    again = await nurse.running(state)
    async with line_to(state) as line, line_to(state, operator=True) as operator:
        (run,) = (await line.call("run.list", operation="sandbox.shell")).content["runs"]
        assert run["state"] == "interrupted"
        outcomes = (await operator.call("audit.list", limit=100)).content["rows"]
        (outcome,) = [one for one in outcomes if one["run"] == run["id"] and one["kind"] == "outcome"]
        assert "unknown" in str(outcome)
        assert (await operator.call("audit.verify")).content["intact"] is True
        await line.call("sandbox.launch", alias="main")
        repeated = await line.call("sandbox.shell", once="deploy-1", command=command)
        assert repeated.code == "conflict"
    assert marker.read_text() == "once\n"
    await nurse.stop(again)


# ----------------------------------------------------------------------------------------------- what is left


def instance(state: Path) -> str:
    with closing(sqlite3.connect(f"file:{state / 'state.db'}?mode=ro", uri=True)) as database:
        return str(database.execute("SELECT value FROM settings WHERE name = 'instance_id'").fetchone()[0])


def containers(state: Path) -> list[str]:
    return engine_says("ps", "-aq", "--filter", f"label={INSTANCE_LABEL}={instance(state)}")


def engine_says(*words: str) -> list[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout.split()


async def left_after_starts(nurse: Nursery, state: Path) -> list[str]:
    """What the engine made for the killed daemon after the next one's first look goes with a later start: the
    daemons here do not live until their second look."""
    for _ in range(3):
        if not await leftovers(state):
            return []
        assert await nurse.stop(await nurse.running(state, "docker")) == 0
    return await leftovers(state)


async def leftovers(state: Path) -> list[str]:
    """Of a daemon that was stopped: containers, volumes, loop devices, and files of workspaces without a runtime."""
    label = f"label={INSTANCE_LABEL}={instance(state)}"
    volumes = engine_says("volume", "ls", "-q", "--filter", label)
    known = {f"{one}.ext4" for one in runtime_ids(state)}
    files = [path.name for path in (state / "workspaces").glob("*.ext4") if path.name not in known]
    files += [path.name for path in (state / "workspaces").glob("**/*.part")]
    # The kernel lets go of a loop device a moment after the last unmount.
    with suppress(TimeoutError):
        await eventually(lambda: loop_devices(state) == [], seconds=5)
    return [*containers(state), *volumes, *files, *loop_devices(state)]
