"""A container's shell, asked through `docker exec`: it starts programs and runs scripts of ours, as long as the container
lives.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio.lowlevel

from mcp_spaces.core.tasks import Aside, shielded
from mcp_spaces.errors import QuotaExceeded, RuntimeUnavailable, SpacesError, TimedOut
from mcp_spaces.sandbox.docker import exec_scripts as scripts
from mcp_spaces.sandbox.docker.engine import Engine, Threads
from mcp_spaces.sandbox.docker.exec_answers import kills_of
from mcp_spaces.sandbox.docker.exec_process import ExecProcess, ExecStreams, connected
from mcp_spaces.sandbox.port import WORKSPACE, OutputSink, Stream, TerminalSize
from mcp_spaces.sandbox.refusals import error_of
from mcp_spaces.sandbox.stream.channel import gone
from mcp_spaces.sandbox.stream.protocol import Violation

MAX_ANSWER_BYTES = 32 << 20
MAX_WORDS_BYTES = 16 * 1024
CALL_TIMEOUT_S = 120.0
NO_PROCESS = (2, 126, 254)
"""How a script of ours ends that found no process for a program: in dash, in the engine, in bash."""


class ExecShell:
    """`life` is the attach stream of the container's first process: when it ends, the container did. `closed` is done,
    with the reason, once it is over for whatever reason."""

    def __init__(
        self, *, container_id: str, engine: Engine, life: ExecStreams, thread: Threads, log: logging.Logger
    ) -> None:
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._container_id = container_id
        self._engine = engine
        self._life = life
        self._thread = thread
        self._log = log
        self._running: set[ExecProcess] = set()
        self._aside = Aside()
        life.over.add_done_callback(lambda _: self.close("its container ended"))

    def close(self, reason: str) -> None:
        """Over and out: everything that runs ends with `reason`. Idempotent."""
        if not self.closed.done():
            self.closed.set_result(reason)
        self._life.close()
        for process in list(self._running):
            process.close()
        self._running.clear()

    async def start(
        self,
        argv: Sequence[str],
        *,
        output: OutputSink,
        env: Mapping[str, str],
        terminal: TerminalSize | None,
        is_fed: bool,
    ) -> ExecProcess:
        """A program of a caller's. Raises RuntimeUnavailable, QuotaExceeded."""
        killed_before = await self._out_of_memory_kills()

        async def out_of_memory(code: int) -> bool:
            try:
                return code != 0 and await self._out_of_memory_kills() > killed_before
            except SpacesError:
                # How it ended is known all the same.
                return False

        return await self._start(
            argv, output=output, env=env, terminal=terminal, is_fed=is_fed, out_of_memory=out_of_memory
        )

    async def call(
        self, script: str, *arguments: str, content: bytes | None = None, path: str = "", undo: Sequence[str] = ()
    ) -> bytes:
        """Run a script of ours and return its stdout, at most MAX_ANSWER_BYTES. `content` is its stdin; `path` is named
        in what it refuses; `undo` is another one, with its arguments, for what is left of this one where it is killed.
        Raises what the script refuses, RuntimeUnavailable, TimedOut."""
        words, answer, flooded = bytearray(), bytearray(), False

        def take(stream: Stream, piece: bytes) -> None:
            nonlocal flooded
            kept, most = (answer, MAX_ANSWER_BYTES) if stream is Stream.STDOUT else (words, MAX_WORDS_BYTES)
            if len(kept) + len(piece) <= most:
                kept += piece
            elif stream is Stream.STDOUT:
                flooded = True

        process: ExecProcess | None = None
        try:
            process = await self._start(
                ["/bin/sh", "-c", script, "sh", *arguments],
                output=take,
                env={},
                terminal=None,
                is_fed=True,
                out_of_memory=_unasked,
            )
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if content is not None:
                    await process.write(content)
                await process.close_stdin()
                ended = await process.wait()
        except TimeoutError:
            await self._take_back(process, undo)
            raise TimedOut("The file operation took too long.", hint="Try a smaller part.") from None
        except asyncio.CancelledError:
            self._aside.start(self._take_back(process, undo))
            raise
        self._check(ended.exit_code, bytes(words), flooded=flooded, path=path)
        return bytes(answer)

    def _check(self, exit_code: int, words: bytes, *, flooded: bool, path: str) -> None:
        """How a script ended, and its stderr. Raises what it refuses, and RuntimeUnavailable where it failed."""
        _, refused, word = words.strip().rpartition(b"refused:")
        if exit_code and refused:
            if word == b"limit":
                raise TimedOut("The expression takes too many steps.", hint="Simplify the pattern.")
            try:
                raise error_of(word, path=path)
            except Violation:
                raise RuntimeUnavailable("The sandbox answered nonsense.", hint="Start it again.") from None
        if exit_code in NO_PROCESS:
            raise error_of(b"no_process", path=path)
        if exit_code or flooded:
            self._log.info("a script in a sandbox failed (%d): %r", exit_code, words[:500])
            raise RuntimeUnavailable("The sandbox's shell could not do it.", hint="Use an image with python3.")

    async def _take_back(self, process: ExecProcess | None, undo: Sequence[str]) -> None:
        """None: it was killed before anybody had it."""
        if process is not None:
            await process.kill()
        if undo:
            await self.call(*undo)

    async def _start(
        self,
        argv: Sequence[str],
        *,
        output: OutputSink,
        env: Mapping[str, str],
        terminal: TerminalSize | None,
        is_fed: bool,
        out_of_memory: Callable[[int], Awaitable[bool]],
    ) -> ExecProcess:
        if self.closed.done():
            raise gone(self.closed.result())
        marker = secrets.token_hex(12)
        # The marker last: what it finds is what a kill reaches.
        environment = {**({"TERM": "xterm-256color"} if terminal else {}), **env, "MCP_SPACES_COMMAND": marker}
        exec_id = await self._thread(
            lambda: self._engine.create_exec(
                self._container_id,
                argv,
                stdin=is_fed,
                stdout=True,
                stderr=True,
                tty=terminal is not None,
                environment=environment,
                workdir=WORKSPACE,
            ),
        )

        async def begin() -> ExecStreams:
            connection = await self._thread(lambda: self._engine.start_exec(exec_id, tty=terminal is not None))
            return await connected(connection, output=output, terminal=terminal is not None)

        # A caller who goes away meanwhile leaves a command that can be killed, and no half of one.
        streams = await shielded(begin())

        async def inspect() -> dict[str, Any]:
            try:
                return await self._thread(lambda: self._engine.inspect_exec(exec_id))
            except SpacesError:
                # The container went, and its execs with it.
                if self.closed.done():
                    raise gone(self.closed.result()) from None
                raise

        async def kill_all() -> None:
            try:
                await self.call(scripts.KILL, marker)
            except QuotaExceeded:
                await self.call(scripts.KILL_ALONE, marker)

        async def resize(size: TerminalSize) -> None:
            await self._thread(lambda: self._engine.resize_exec(exec_id, rows=size.rows, columns=size.columns))

        process = ExecProcess(
            streams,
            is_fed=is_fed,
            terminal=terminal is not None,
            inspect=inspect,
            kill_all=kill_all,
            resize=resize,
            out_of_memory=out_of_memory,
            gone=self.closed,
        )
        self._running.add(process)
        process.on_ended(lambda: self._running.discard(process))
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            await shielded(process.kill())
            raise
        return process

    async def _out_of_memory_kills(self) -> int:
        return kills_of(await self.call(scripts.OUT_OF_MEMORY))


async def _unasked(_code: int) -> bool:
    """Why a script of ours ended, it says itself."""
    return False
