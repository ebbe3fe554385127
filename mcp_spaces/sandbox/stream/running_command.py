"""A command that runs in the sandbox: the port's Process, over a channel."""

from __future__ import annotations

import asyncio

from mcp_spaces.errors import WrongState
from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.port import Exit, OutputSink, Stream, TerminalSize
from mcp_spaces.sandbox.refusals import error_of
from mcp_spaces.sandbox.stream.agent_stream import AgentStream
from mcp_spaces.sandbox.stream.channel import Window, gone
from mcp_spaces.sandbox.stream.protocol import Violation, fields_of, whole


class RunningCommand:
    """`folder` is where it starts."""

    def __init__(self, stream: AgentStream, output: OutputSink, *, folder: str, is_fed: bool) -> None:
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[None] = loop.create_future()
        self.number = 0
        self._stream = stream
        self._output = output
        self._folder = folder
        self._exit: asyncio.Future[Exit] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._window = Window()
        self._input_closed = not is_fed

    def on_frame(self, kind: int, payload: bytes) -> bool:
        if kind == wire.STDOUT or kind == wire.STDERR:
            if not self.started.done() or self._exit.done():
                raise Violation("output of nothing that runs")
            self._output(Stream.STDOUT if kind == wire.STDOUT else Stream.STDERR, payload)
        elif kind == wire.GRANT:
            self._window.grant(payload)
        elif kind == wire.STARTED and not self.started.done():
            self.started.set_result(None)
        elif kind == wire.EXIT and self.started.done() and not self._exit.done():
            code, microseconds, out_of_memory = fields_of(payload, 3)
            self._window.end()
            self._exit.set_result(
                Exit(
                    exit_code=whole(code, high=255),
                    duration_ms=whole(microseconds) / 1000,
                    out_of_memory=bool(whole(out_of_memory, high=1)),
                )
            )
        elif kind == wire.GONE and self._exit.done():
            self._gone.set_result(None)
            return True
        elif kind == wire.FAILURE and not self.started.done():
            self._fail(error_of(fields_of(payload, 1)[0], path=self._folder))
            return True
        else:
            raise Violation("a frame out of turn")
        return False

    def on_lost(self, reason: str) -> None:
        self._fail(gone(reason))

    def _fail(self, error: Exception) -> None:
        self._window.end()
        for future in (self.started, self._exit):
            if not future.done():
                future.set_exception(error)
                # It may be that nobody waits for this one.
                future.exception()
        if not self._gone.done():
            self._gone.set_result(None)

    async def write(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            if self._input_closed:
                raise WrongState("The command's input is closed.", hint="Start the command anew to send it more.")
            room = await self._window.take(min(len(rest), wire.CHUNK))
            if not room:
                raise WrongState("The command has ended.", hint="Its output and exit code are still there to read.")
            self._stream.send(wire.CONTENT, self.number, bytes(rest[:room]))
            rest = rest[room:]

    async def close_stdin(self) -> None:
        if not self._input_closed:
            self._input_closed = True
            self._stream.send(wire.END, self.number)

    async def resize(self, size: TerminalSize) -> None:
        self._stream.send(wire.RESIZE, self.number, wire.pack([wire.whole(size.rows), wire.whole(size.columns)]))

    async def wait(self) -> Exit:
        return await asyncio.shield(self._exit)

    async def kill(self) -> None:
        if not self._gone.done():
            self._stream.send(wire.KILL, self.number)
            await asyncio.shield(self._gone)
