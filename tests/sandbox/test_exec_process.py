"""A command through `docker exec`: how its end is found out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from mcp_spaces.sandbox.docker.exec_process import POLL_S, ExecProcess, ExecStreams
from mcp_spaces.sandbox.port import TerminalSize
from tests.sandbox.rigs import LOG, PATIENCE_S, Output

pytestmark = pytest.mark.anyio
FASTER_ONES = 8
"""The first polls follow each other faster: at 2, 4, 8, 16 and 32 ms."""


class Engine:
    """Of one exec, which runs until `ended()`; counts how often it is asked, and how often it was told to kill."""

    def __init__(self, ended: Callable[[Engine], bool]) -> None:
        self.asked = self.killed = 0
        self._ended = ended

    async def inspect(self) -> dict[str, Any]:
        self.asked += 1
        await anyio.lowlevel.checkpoint()
        return {"Running": not self._ended(self), "ExitCode": 3}

    async def kill_all(self) -> None:
        self.killed += 1

    async def resize(self, size: TerminalSize) -> None: ...

    async def out_of_memory(self, code: int) -> bool:
        return False

    def process(self, streams: ExecStreams) -> ExecProcess:
        return ExecProcess(
            streams,
            is_fed=False,
            terminal=False,
            inspect=self.inspect,
            kill_all=self.kill_all,
            resize=self.resize,
            out_of_memory=self.out_of_memory,
            gone=asyncio.get_running_loop().create_future(),
            log=LOG,
        )


async def test_a_program_that_closed_its_output_and_runs_on_is_asked_for_now_and_then() -> None:
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + 3 * POLL_S
    engine = Engine(lambda _: loop.time() >= ends_at)
    streams = ExecStreams(output=Output(), terminal=False)
    process = engine.process(streams)
    streams.close()
    with anyio.fail_after(PATIENCE_S):
        assert (await process.wait()).exit_code == 3
    assert engine.asked <= 3 + FASTER_ONES


async def test_a_kill_that_came_before_its_program_ran_is_repeated() -> None:
    engine = Engine(lambda this: this.killed == 2)
    process = engine.process(ExecStreams(output=Output(), terminal=False))
    with anyio.fail_after(PATIENCE_S):
        await process.kill()
        await process.kill()
    # Once more after its end, for what it left behind, and never again.
    assert (engine.killed, (await process.wait()).exit_code) == (3, 3)
