"""How long a daemon may take to start, and what it says when nothing comes of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from mcp_spaces.errors import TimedOut, WrongState
from mcp_spaces.server.daemon import only_daemon, run
from mcp_spaces.server.unix import make_private
from mcp_spaces.settings import Settings
from tests.security.app import nobody, short_folder
from tests.server.small_app import SmallApp, small_app


async def test_a_daemon_whose_parts_hang_gives_up_in_the_time_that_it_has() -> None:
    ended = anyio.Event()

    @asynccontextmanager
    async def hanging(_: Settings) -> AsyncIterator[SmallApp]:
        try:
            await anyio.sleep_forever()
            raise AssertionError
            yield
        finally:
            ended.set()

    with short_folder() as folder, anyio.fail_after(20), pytest.raises(TimedOut, match="Nothing was ready"):
        await run(Settings(state_dir=folder, start_s=0.05), hanging)
    assert ended.is_set()


async def test_once_it_listens_nothing_ends_it_but_a_signal() -> None:
    ready, tell = os.pipe()
    os.set_blocking(ready, False)
    said: list[bytes] = []
    deadlines: list[float] = []

    @asynccontextmanager
    async def opened(settings: Settings) -> AsyncIterator[SmallApp]:
        async def work() -> None:
            await anyio.wait_readable(ready)
            said.extend([os.read(ready, 2), os.read(ready, 2)])
            deadlines.append(anyio.current_effective_deadline())
            outer.cancel_scope.cancel()

        async with small_app(settings.state_dir) as app, anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            yield app

    with short_folder() as folder:
        make_private(folder / "state")
        async with anyio.create_task_group() as outer:
            outer.start_soon(run, Settings(state_dir=folder / "state", http_port=0), opened, tell)
        assert not (folder / "state" / "agent.sock").exists()
    assert deadlines == [float("inf")]
    # One byte, and the end.
    assert said == [b"1", b""]
    os.close(ready)


def test_a_state_directory_that_cannot_be_written_is_said_before_anything_else(tmp_path: Path) -> None:
    with pytest.raises(WrongState, match="cannot be written: No such file or directory"), only_daemon(tmp_path / "no"):
        pass
    with short_folder() as folder:
        folder.chmod(0o755)
        with nobody(), pytest.raises(WrongState, match="cannot be written"), only_daemon(folder):
            pass


def test_k18_the_lock_names_its_holder_alone_and_is_let_go_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "daemon.lock").write_text("123456789012345")
    with only_daemon(tmp_path):
        assert (tmp_path / "daemon.lock").read_text() == str(os.getpid())
        with pytest.raises(WrongState, match=f"process {os.getpid()}"), only_daemon(tmp_path):
            pass
    with only_daemon(tmp_path):
        pass
