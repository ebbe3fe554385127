"""D02, D06, D07 through the whole way of a call: pipeline, operation, Docker. The driver's own are beside this file."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from mcp_spaces.core.answer import ANSWER_CHARACTERS
from mcp_spaces.sandbox.cutting import cost
from mcp_spaces.sandbox.output import OUTPUT_LIMIT_BYTES
from tests.leaps import leap
from tests.sandbox.app_fixture import Room, open_room
from tests.sandbox.rigs import IMAGE, docker_driver

pytestmark = pytest.mark.anyio

MIB = 1 << 20
GROWTH_BYTES = 16 * MIB


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with (
        docker_driver(tmp_path / "driver") as driver,
        open_room(tmp_path, driver=driver, image=IMAGE, preset="permissive") as opened,
    ):
        yield opened


def peak_bytes() -> int:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def test_d06_a_flood_is_cut_off_and_memory_stays_flat(room: Room) -> None:
    await room.shell("head -c 1000000 /dev/zero | tr '\\0' x")
    before = max(peak_bytes(), psutil.Process().memory_info().rss)
    with anyio.fail_after(60):
        ran = await room.shell("yes | head -c 104857600; echo not reached > reached")
    assert peak_bytes() - before < GROWTH_BYTES
    assert (ran.stopped_by, ran.exit_code) == ("output_limit", 137)
    assert cost(ran.stdout) <= ANSWER_CHARACTERS
    row = room.database.read_one("SELECT size_bytes FROM artifacts WHERE id = ?", (ran.artifact,))
    assert row is not None
    assert OUTPUT_LIMIT_BYTES < row["size_bytes"] <= OUTPUT_LIMIT_BYTES + MIB
    assert (await room.shell("cat reached; pgrep yes")).stdout == ""


async def test_d06_a_flood_of_a_job_keeps_the_last_of_it(room: Room) -> None:
    before = max(peak_bytes(), psutil.Process().memory_info().rss)
    job = (await room.shell("yes | head -c 104857600; echo end", background=True)).job
    with anyio.fail_after(60):
        ended = await room.call("job.wait", job=job)
        assert ended.state == "exited" and ended.output_bytes == 104_857_604
        last = await room.call("job.read", job=job, cursor=ended.output_bytes - 6)
    assert "".join(one.text for one in last.output) == "y\nend\n"
    assert peak_bytes() - before < GROWTH_BYTES


async def test_d07_a_timeout_leaves_no_process_and_the_next_command_works(room: Room) -> None:
    ran: list[Any] = []

    async def run() -> None:
        command = "setsid sleep 4242 & (nohup sleep 4242 > /dev/null &) ; trap '' TERM; echo started; sleep 4242"
        ran.append(await room.shell(command, timeout_s=500))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await room.shell("until [ $(pgrep -c -x sleep) = 3 ]; do :; done")
        leap(500)
    (ended,) = ran
    assert (ended.exit_code, ended.stopped_by, ended.stdout) == (124, "timeout", "started\n")
    after = await room.shell("pgrep -f 'sleep 424[2]'; echo works")
    assert after.stdout == "works\n"


async def test_d02_running_out_of_memory_is_told_as_such(room: Room) -> None:
    await room.call("sandbox.delete")
    await room.call("sandbox.launch", scope={"limits": {"memory_bytes": 128 * MIB}})
    ran = await room.shell("python3 -c 'x = bytearray(1 << 30)\nx[::4096] = b\"x\" * (len(x) // 4096)'")
    assert ran.stopped_by == "oom" and ran.exit_code != 0
    assert (await room.shell("echo works")).stdout == "works\n"
