"""A database of a newer program is not for this one: it says so, and leaves it as it is."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from mcp_spaces.errors import WrongState
from mcp_spaces.network.records import read_log
from mcp_spaces.server.daemon import EXIT_REFUSED
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.database import ANCHOR_NAME, Database
from mcp_spaces.state.migrations import STEPS
from tests.security.app import ROOT, open_world, short_folder

pytestmark = pytest.mark.anyio

SEALER = Sealer(b"k" * 32)
NEWER = "9999_hover"


def upgrade(path: Path) -> None:
    """As a newer program would: one more step, with what it makes."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE hovers (id TEXT PRIMARY KEY) STRICT")
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('mcp-spaces', ?, 'later')",
            (NEWER,),
        )


async def test_a_newer_schema_is_refused_and_nothing_in_it_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    Database.open(path, sealer=SEALER).close()
    upgrade(path)
    before = path.read_bytes()
    (tmp_path / ANCHOR_NAME).unlink()
    with pytest.raises(WrongState) as caught:
        Database.open(path, sealer=SEALER)
    assert NEWER in caught.value.message and STEPS[-1] in caught.value.message
    assert "Upgrade mcp-spaces" in caught.value.hint and "backup" in caught.value.hint
    assert path.read_bytes() == before
    assert not (tmp_path / ANCHOR_NAME).exists()


async def test_a_schema_behind_this_program_is_still_brought_up(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    Database.open(path, sealer=SEALER).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE pins")
        connection.execute("DROP INDEX events_of_network")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name IN (?, ?)", STEPS[-2:])
        # A damaged row is no reason not to start.
        for body in ('{"runtime":"rt_one"}', '{"runtime":"rt_o'):
            connection.execute(
                "INSERT INTO events (run_id, at, type, body) VALUES ('run_one', 1.0, 'network.allowed', ?)", (body,)
            )
    database = Database.open(path, sealer=SEALER)
    assert database.read("SELECT count(*) AS n FROM pins")[0]["n"] == 0
    assert len(read_log(database, "rt_one", after=0, limit=10)) == 1
    database.close()


def started(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mcp_spaces", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "MCP_SPACES_STATE_DIR": str(folder / "state")},
    )


async def test_whoever_starts_an_older_daemon_reads_what_to_do() -> None:
    with short_folder() as folder:
        state = folder / "state"
        async with open_world(folder) as world:
            await world.space("kept")
        upgrade(state / "state.db")
        before = (state / "state.db").read_bytes()
        for words, code in ((["stdio"], 3), (["serve"], EXIT_REFUSED)):
            ended = await anyio.to_thread.run_sync(started, words, folder)
            assert ended.returncode == code
            assert NEWER in ended.stderr and "Upgrade mcp-spaces." in ended.stderr
        assert (state / "state.db").read_bytes() == before
