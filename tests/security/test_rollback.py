"""K13: an older state put back in the place of the newest."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from mcp_spaces.errors import WrongState
from mcp_spaces.runs.audit import Audit
from mcp_spaces.server.daemon import EXIT_REFUSED
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.database import ANCHOR_NAME
from tests.security.app import ROOT, open_world, short_folder
from tests.storage.bench import SEALER, open_bench

pytestmark = pytest.mark.anyio


async def test_k13_an_older_copy_put_back_is_a_cut_tail(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with open_bench(tmp_path) as bench:
        await bench.upload("a")
    old = path.read_bytes()
    async with open_bench(tmp_path) as bench:
        await bench.upload("b")
    path.write_bytes(old)
    assert (await Audit(path, SEALER).verify_tail()).finding == "cut"


def command(*words: str, state: Path, ready_fd: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mcp_spaces", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=() if ready_fd is None else (ready_fd,),
        env={"PATH": os.environ["PATH"], "HOME": str(state.parent), "MCP_SPACES_STATE_DIR": str(state)},
    )


def accepted_once(state: Path) -> None:
    """`mcp-spaces serve --accept-rollback`, until it listens."""
    ready, tell = os.pipe()
    daemon = command("serve", "--accept-rollback", "--ready-fd", str(tell), state=state, ready_fd=tell)
    os.close(tell)
    assert os.read(ready, 1) == b"1", daemon.communicate(timeout=60)
    os.close(ready)
    daemon.terminate()
    daemon.communicate(timeout=60)
    assert daemon.returncode == 0


async def test_k13_no_daemon_starts_on_an_older_database_until_an_operator_takes_it() -> None:
    with short_folder() as folder:
        state = folder / "state"
        async with open_world(folder) as world:
            await world.space("first")
        old = (state / "state.db").read_bytes()
        async with open_world(folder) as world:
            await world.space("second")
        (state / "state.db").write_bytes(old)
        anchor = (state / ANCHOR_NAME).read_bytes()
        # What an MCP client spawns, and what a person runs: both say what to do, and leave the evidence.
        for words, code in ((["stdio"], 3), (["serve"], EXIT_REFUSED)):
            with command(*words, state=state) as process:
                _, told = process.communicate(timeout=90)
            assert process.returncode == code
            assert "The newest records are not the newest that there were" in told
            assert f"mcp-spaces serve --accept-rollback --state-dir {state}" in told
        assert (state / ANCHOR_NAME).read_bytes() == anchor
        assert (await Audit(state / "state.db", Sealer((state / "seal.key").read_bytes())).verify()).finding == "cut"
        await anyio.to_thread.run_sync(accepted_once, state)
        async with open_world(folder) as world:
            assert [one.name for one in (await world.govern("space.list")).spaces] == ["first"]
            assert (await world.govern("audit.verify")).intact
            row = world.row("SELECT body FROM audit WHERE kind = 'rollback_accepted'")
            assert row is not None
            assert json.loads(row["body"])["anchor"].startswith(f"{int(anchor[:20])}:")


@pytest.mark.parametrize("damage", ["gone", "empty", "damaged", "another row"])
async def test_k13_without_an_anchor_that_fits_no_daemon_starts(tmp_path: Path, damage: str) -> None:
    async with open_world(tmp_path) as world:
        await world.space("first")
    anchor = tmp_path / "state" / ANCHOR_NAME
    content = {"empty": "", "damaged": "nonsense", "another row": f"{2:020d} {'00' * 32}\n"}
    anchor.unlink()
    if damage in content:
        anchor.write_text(content[damage])
    for _ in range(2):
        with pytest.raises(WrongState, match="newest records"):
            async with open_world(tmp_path):
                pass
    async with open_world(tmp_path, accept_rollback=True):
        pass
    async with open_world(tmp_path) as world:
        assert world.count("SELECT count(*) FROM audit WHERE kind = 'rollback_accepted'") == 1


async def test_k13_an_anchor_that_lags_after_a_kill_and_a_new_directory_are_no_rollback(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.space("first")
        anchor = tmp_path / "state" / ANCHOR_NAME
        lagging = anchor.read_bytes()
        await world.space("second")
    anchor.write_bytes(lagging)
    async with open_world(tmp_path, accept_rollback=True) as world:
        assert world.count("SELECT count(*) FROM audit WHERE kind = 'rollback_accepted'") == 0


async def test_k13_where_the_row_is_gone_at_which_the_anchor_stands_no_daemon_starts(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.space("first")
        anchor = tmp_path / "state" / ANCHOR_NAME
        lagging = anchor.read_bytes()
        await world.space("second")
    with closing(sqlite3.connect(tmp_path / "state" / "state.db")) as outside, outside:
        outside.execute("DELETE FROM audit WHERE seq = ?", (int(lagging[:20]),))
    anchor.write_bytes(lagging)
    with pytest.raises(WrongState, match="is another one"):
        async with open_world(tmp_path):
            pass
