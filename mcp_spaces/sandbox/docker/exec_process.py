"""One command through `docker exec`: a socket for its streams, and questions to the engine about its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from mcp_spaces.core.tasks import heard
from mcp_spaces.errors import QuotaExceeded, WrongState
from mcp_spaces.sandbox.agent.wire import CHUNK
from mcp_spaces.sandbox.docker.engine import Hijacked
from mcp_spaces.sandbox.port import Exit, OutputSink, Stream, TerminalSize
from mcp_spaces.sandbox.stream.channel import gone
from mcp_spaces.sandbox.stream.protocol import Demultiplexer, Violation

POLL_S = 0.05
FIRST_POLL_S = 0.001
"""How soon the first question follows the end of the streams, which mostly is that of the program."""
KILL_AGAIN_S = 0.2
KILL_AGAIN_MOST_S = 5.0
"""How long after a kill the next one follows, where nothing ended."""
LINGER_S = 0.2
"""How long output is still taken after the program ended, when something that it left behind holds its streams."""


class ExecStreams(asyncio.BufferedProtocol):
    """The socket of one exec. `over` is done when the other end closed."""

    def __init__(self, *, output: OutputSink, terminal: bool) -> None:
        self.over = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray(CHUNK)
        self._view = memoryview(self._buffer)
        self._output: OutputSink | None = output
        self._writable = asyncio.Event()
        self._writable.set()
        self._feed = self._to_stdout
        if not terminal:
            self._feed = Demultiplexer(stdout=self._to_stdout, stderr=self._to_stderr).feed

    def _to_stdout(self, content: memoryview) -> None:
        if self._output is not None and content:
            self._output(Stream.STDOUT, bytes(content))

    def _to_stderr(self, content: memoryview) -> None:
        if self._output is not None and content:
            self._output(Stream.STDERR, bytes(content))

    def drop(self) -> None:
        """What still comes is nobody's."""
        self._output = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.take(self._view[:nbytes])

    def take(self, content: bytes | memoryview) -> None:
        try:
            self._feed(memoryview(content))
        except Violation:
            self.close()

    def eof_received(self) -> bool:
        self.close()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def close(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
        self._writable.set()
        if self.transport is not None:
            self.transport.abort()

    async def write(self, content: bytes) -> None:
        if self.transport is not None and not self.over.done():
            self.transport.write(content)
            await self._writable.wait()


async def connected(hijacked: Hijacked, *, output: OutputSink, terminal: bool) -> ExecStreams:
    """Over the socket that the engine gave; what came before is told first."""
    streams = ExecStreams(output=output, terminal=terminal)
    streams.take(hijacked.early)
    await hijacked.carry(streams)
    return streams


class ExecProcess:
    """The port's Process. `inspect` asks the engine about the exec; `kill_all` kills what carries its marker."""

    def __init__(
        self,
        streams: ExecStreams,
        *,
        is_fed: bool,
        terminal: bool,
        inspect: Callable[[], Awaitable[dict[str, Any]]],
        kill_all: Callable[[], Awaitable[None]],
        resize: Callable[[TerminalSize], Awaitable[None]],
        out_of_memory: Callable[[int], Awaitable[bool]],
        gone: asyncio.Future[str],
    ) -> None:
        self._streams = streams
        self._terminal = terminal
        self._inspect = inspect
        self._kill_all = kill_all
        self._resize = resize
        self._out_of_memory = out_of_memory
        self._gone = gone
        self._input_closed = not is_fed
        self._all_killed = False
        self._began = asyncio.get_running_loop().time()
        self._exit = asyncio.ensure_future(self._watch())
        self._exit.add_done_callback(heard)

    def on_ended(self, forget: Callable[[], object]) -> None:
        self._exit.add_done_callback(lambda _: forget())

    async def _watch(self) -> Exit:
        over, pause = self._streams.over, FIRST_POLL_S
        while True:
            # A program that closed its streams may run on for hours: its end has to be asked for, now and then.
            pause = min(2 * pause, POLL_S) if over.done() else POLL_S
            waited_for = [self._gone] if over.done() else [over, self._gone]
            await asyncio.wait(waited_for, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            if self._gone.done():
                # What its program ended with then is the end of the container.
                raise gone(self._gone.result())
            found = await self._inspect()
            if not found["Running"] and found.get("ExitCode") is not None:
                break
        duration_ms = (asyncio.get_running_loop().time() - self._began) * 1000
        await asyncio.wait((self._streams.over,), timeout=LINGER_S)
        self._streams.drop()
        code = int(found["ExitCode"]) & 255
        return Exit(exit_code=code, duration_ms=duration_ms, out_of_memory=await self._out_of_memory(code))

    async def write(self, content: bytes) -> None:
        if self._input_closed:
            raise WrongState("The command's input is closed.", hint="Start the command anew to send it more.")
        if self._exit.done():
            raise WrongState("The command has ended.", hint="Its output and exit code are still there to read.")
        for at in range(0, len(content), CHUNK):
            await self._streams.write(content[at : at + CHUNK])

    async def close_stdin(self) -> None:
        if not self._input_closed:
            if self._terminal:
                await self._streams.write(b"\x04")
            elif self._streams.transport is not None and not self._streams.over.done():
                self._streams.transport.write_eof()
            self._input_closed = True

    async def resize(self, size: TerminalSize) -> None:
        if self._terminal:
            await self._resize(size)

    async def wait(self) -> Exit:
        return await asyncio.shield(self._exit)

    async def kill(self) -> None:
        pause = KILL_AGAIN_S
        while not self._gone.done() and not self._all_killed:
            # The engine says that it began before its program stands, and what does not run yet is not found. Once more
            # after its end, for what it left behind.
            had_ended = self._exit.done()
            try:
                await self._kill_all()
                self._all_killed = had_ended
            except QuotaExceeded:
                # Not even a shell finds a process there, now.
                pass
            await asyncio.wait((self._exit, self._gone), timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            pause = min(2 * pause, KILL_AGAIN_MOST_S)

    def close(self) -> None:
        self._streams.close()
