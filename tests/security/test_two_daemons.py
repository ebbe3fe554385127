"""One daemon for one state folder (K18): the second refuses, whatever the first is doing, and changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from mcp_spaces import places
from mcp_spaces.server.daemon import EXIT_REFUSED
from tests.security.app import ROOT, short_folder
from tests.security.daemons import nursery
from tests.security.lines import line_to

pytestmark = pytest.mark.anyio


@pytest.fixture
def state() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder / "state"


def serve(state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mcp_spaces", "serve", "--state-dir", str(state)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": str(state.parent)},
    )


async def test_k18_a_second_daemon_refuses_names_the_first_and_leaves_it_serving(state: Path) -> None:
    async with nursery() as nurse:
        first = await nurse.running(state)
        async with line_to(state) as line:
            space = (await line.call("space.create", name="work")).content["id"]
            await line.call("sandbox.launch")
            before = (state / "audit.head").read_bytes()
            second = await anyio.to_thread.run_sync(serve, state)
            assert second.returncode == EXIT_REFUSED
            assert f"process {first}" in second.stderr and "Traceback" not in second.stderr
            assert (state / "audit.head").read_bytes() == before
            # Neither the sockets nor the sandboxes of the first were touched.
            assert (await line.call("sandbox.shell", space=space, command="echo here")).content["stdout"] == "here\n"
        async with line_to(state) as another:
            assert (await another.call("space.list")).code is None
        await nurse.stop(first)


async def test_k18_of_many_that_start_at_once_one_serves(state: Path) -> None:
    async with nursery() as one, nursery() as two, nursery() as three:
        nurses = (one, two, three)
        ready: dict[int, bool] = {}
        pids: dict[int, int] = {}

        async def start(number: int) -> None:
            pids[number] = await nurses[number].start(state)
            ready[number] = await nurses[number].ready()

        async with anyio.create_task_group() as tasks:
            for number in range(len(nurses)):
                tasks.start_soon(start, number)
        (serving,) = [number for number, listens in ready.items() if listens]
        for number, nurse in enumerate(nurses):
            if number != serving:
                assert await nurse.gone() == EXIT_REFUSED
        async with line_to(state) as line:
            assert (await line.call("space.create", name="work")).code is None
        assert await nurses[serving].stop(pids[serving]) == 0


def holder(state: Path) -> str:
    return Path(places.daemon_lock(str(state))).read_text()


async def test_k18_a_lock_of_a_dead_daemon_holds_nobody_up(state: Path) -> None:
    async with nursery() as nurse:
        first = await nurse.running(state)
        await nurse.stop(first, signal.SIGKILL)
        assert holder(state) == str(first)
        second = await nurse.running(state)
        assert holder(state) == str(second) != str(first)
        await nurse.stop(second)
