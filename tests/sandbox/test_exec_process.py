"""A command through `docker exec`: how its end is found out."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

from mcp_spaces.errors import TimedOut
from mcp_spaces.sandbox.docker import engine as docker
from mcp_spaces.sandbox.docker import exec_scripts as scripts
from mcp_spaces.sandbox.docker.exec_fallback import ExecSandbox
from mcp_spaces.sandbox.docker.exec_process import POLL_S, ExecProcess, ExecStreams
from mcp_spaces.sandbox.docker.exec_shell import ExecShell
from mcp_spaces.sandbox.port import TerminalSize
from tests.leaps import leap
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


class SlowEngine:
    """Begins its first exec, which runs until it is killed, when `answers` is set."""

    def __init__(self) -> None:
        self.asked = anyio.Event()
        self.answers = threading.Event()
        self.marker = ""
        self.killed: list[str] = []

    def create_exec(self, _container_id: str, argv: Sequence[str], **options: Any) -> str:
        if scripts.KILL in argv:
            self.killed.append(argv[-1])
            return "kill"
        self.marker = options["environment"]["MCP_SPACES_COMMAND"]
        return "search"

    def start_exec(self, exec_id: str, *, tty: bool) -> docker.Hijacked:
        if exec_id == "search":
            anyio.from_thread.run_sync(self.asked.set)
            assert self.answers.wait(PATIENCE_S)
        ours, theirs = socket.socketpair()
        theirs.close()
        return docker.Hijacked(ours, b"")

    def inspect_exec(self, exec_id: str) -> dict[str, Any]:
        return {"Running": exec_id == "search" and not self.killed, "ExitCode": 0}


async def test_a_search_whose_time_is_over_while_it_is_being_started_is_killed() -> None:
    engine = SlowEngine()
    shell = ExecShell(
        container_id="container",
        engine=cast(docker.Engine, engine),
        life=ExecStreams(output=Output(), terminal=False),
        thread=docker.Threads(4),
        log=LOG,
    )
    sandbox = ExecSandbox(container_id="container", image_id="sha256:0", shell=shell, free=anyio.lowlevel.checkpoint)
    timeout_s = PATIENCE_S / 2

    async def search() -> None:
        with pytest.raises(TimedOut):
            await sandbox.search("x", timeout_s=timeout_s)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(search)
            await engine.asked.wait()
            leap(timeout_s)
            await anyio.wait_all_tasks_blocked()
            engine.answers.set()
    assert set(engine.killed) == {engine.marker}
    await sandbox.stop()
