"""The daemon's end of a sandbox's stream: many calls at a time over one socket.

asyncio's own protocol and transport carry it, without a task per sandbox: a chunk of output costs one callback.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from mcp_spaces.errors import RuntimeUnavailable, WrongState
from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.port import Exit, OutputSink, Stream, TerminalSize
from mcp_spaces.sandbox.refusals import error_of
from mcp_spaces.sandbox.stream.protocol import Demultiplexer, FrameReader, Violation, fields_of, whole

RECEIVE_BYTES = 256 * 1024
LAST_WORDS_S = 1.0
"""How long a stream whose shortcut ended waits for its own end."""
MAX_AGENT_WORDS = 8 * 1024
"""How much of what the agent writes to its own stderr (a traceback) is kept for the log."""


class Channel(Protocol):
    def on_frame(self, kind: int, payload: bytes) -> bool:
        """True when it was the channel's last. Raises Violation."""

    def on_lost(self, reason: str) -> None: ...


class AgentStream(asyncio.BufferedProtocol):
    """Frames to and from one agent. `closed` is done, with the reason, once it is over for whatever reason."""

    def __init__(self, *, log: logging.Logger, multiplexed: bool = True) -> None:
        """`multiplexed` is Docker's way; a fake sends frames as they are."""
        loop = asyncio.get_running_loop()
        self.hello: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[str] = loop.create_future()
        self._log = log
        self._buffer = bytearray(RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._frames = FrameReader(self._on_frame)
        self._feed = self._frames.feed
        if multiplexed:
            self._feed = Demultiplexer(stdout=self._frames.feed, stderr=self._on_agent_words).feed
        self.on_accepted: Callable[[int, int], Channel | None] = lambda port, number: None
        """Of a proxy port and a number: makes the channel of a connection that the agent accepted there, or none."""
        self._accepted = 0
        self._channels: dict[int, Channel] = {}
        self._next_channel = 1
        self._transport: asyncio.Transport | None = None
        self._shortcut: asyncio.Transport | None = None
        self._agent_words = bytearray()

    # Transport

    async def continue_over(self, connection: socket.socket) -> None:
        """From now on frames come and go over this connection. Ours stays for as long as the sandbox lives."""
        loop = asyncio.get_running_loop()
        self._shortcut, _ = await loop.create_unix_connection(
            lambda: _Shortcut(self._buffer, feed=self._frames.feed, broken=self.close, over=self._on_shortcut_over),
            sock=connection,
        )
        self._feed = Demultiplexer(stdout=_refuse, stderr=self._on_agent_words).feed

    def _on_shortcut_over(self) -> None:
        # What its agent said last, a traceback maybe, comes by way of the engine, and so does its container's end.
        asyncio.get_running_loop().call_later(LAST_WORDS_S, self.close, "its agent left")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._feed(self._view[:nbytes])
        except Violation as violation:
            self.close(f"its agent broke the protocol: {violation}")

    def eof_received(self) -> bool:
        # Not left to the transport, which would first wait for somebody to take what is still to be sent.
        self.close("its container ended")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.close("its container ended")

    def close(self, reason: str) -> None:
        """Over and out: every open call gets `reason`. Idempotent."""
        if self.closed.done():
            return
        if self._agent_words:
            self._log.warning("a sandbox's agent said: %r", bytes(self._agent_words))
        self.closed.set_result(reason)
        for transport in (self._transport, self._shortcut):
            if transport is not None:
                transport.abort()
        if not self.hello.done():
            self.hello.set_exception(gone(reason))
            # Whoever waits for it hears of it; nobody has to.
            self.hello.exception()
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            channel.on_lost(reason)

    def _on_agent_words(self, content: memoryview) -> None:
        self._agent_words += content[: MAX_AGENT_WORDS - len(self._agent_words)]

    # Frames

    def _on_frame(self, kind: int, number: int, payload: bytes) -> None:
        channel = self._channels.get(number)
        if channel is not None:
            if channel.on_frame(kind, payload):
                del self._channels[number]
                self._accepted -= number % 2 == 0
        elif kind == wire.ACCEPTED and number and number % 2 == 0:
            self._accept(number, whole(fields_of(payload, 1)[0]))
        elif kind == wire.HELLO and number == 0 and not self.hello.done():
            version, _ = fields_of(payload, 2)
            if version != wire.VERSION:
                raise Violation("another version")
            self.hello.set_result(None)
        elif not self.closed.done():
            raise Violation("a frame for no call")

    def _accept(self, number: int, port: int) -> None:
        self._accepted += 1
        channel = self.on_accepted(port, number) if self._accepted <= wire.MAX_CONNECTIONS else None
        if channel is None:
            raise Violation("a connection that nobody asked for")
        self._channels[number] = channel

    def send(self, kind: int, channel: int, payload: bytes = b"") -> None:
        way_out = self._shortcut or self._transport
        if way_out is not None and not self.closed.done():
            way_out.write(wire.frame(kind, channel, payload))

    def open(self, channel: Channel, fields: Sequence[bytes], *, content: bytes | None = None) -> int:
        """Begin a call; `content` of at most a window goes along at once. Raises RuntimeUnavailable."""
        if self.closed.done():
            raise gone(self.closed.result())
        number = self._next_channel
        self._next_channel = (number + 2) % (1 << 32)
        self._channels[number] = channel
        way_out = self._shortcut or self._transport
        if way_out is None:
            raise gone("it is not connected")
        frames = wire.frame(wire.OPEN, number, wire.pack(fields))
        if content is not None:
            frames += wire.frame(wire.CONTENT, number, content) + wire.frame(wire.END, number)
        way_out.write(frames)
        return number


class _Shortcut(asyncio.BufferedProtocol):
    """Frames as they are, over a connection of their own. The buffer may be shared: what it holds is taken at once."""

    def __init__(
        self,
        buffer: bytearray,
        *,
        feed: Callable[[memoryview], None],
        broken: Callable[[str], None],
        over: Callable[[], None],
    ) -> None:
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._feed = feed
        self._broken = broken
        self._over = over

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._feed(self._view[:nbytes])
        except Violation as violation:
            self._broken(f"its agent broke the protocol: {violation}")

    def eof_received(self) -> bool:
        self._over()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._over()


def _refuse(_content: memoryview) -> None:
    raise Violation("frames on a stream that it left")


def gone(reason: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"The sandbox is gone: {reason}.", hint="Start the runtime again; the workspace's files are kept."
    )


class Window:
    """How much may still be sent before the other end took something."""

    def __init__(self) -> None:
        self._room = wire.WINDOW
        self._taken_most = wire.WINDOW
        self._more = asyncio.Event()
        self._more.set()
        self.over = False

    async def take(self, wanted: int) -> int:
        """At least 1 and at most `wanted` bytes; 0 when it is over."""
        while not self._room and not self.over:
            await self._more.wait()
        if self.over:
            return 0
        taken = min(wanted, self._room)
        self._room -= taken
        if not self._room:
            self._more.clear()
        return taken

    def take_now(self, size: int) -> bool:
        """All of `size`, or nothing: then it has to be waited for."""
        if self.over or size > self._room:
            return False
        self._room -= size
        if not self._room:
            self._more.clear()
        return True

    def charge(self, size: int) -> None:
        """For what was sent along with the opening frame."""
        self._room -= size

    def grant(self, payload: bytes) -> None:
        self._room += whole(fields_of(payload, 1)[0], high=wire.WINDOW)
        if self._room > wire.WINDOW:
            raise Violation("more room than there is")
        self._more.set()

    def end(self) -> None:
        self.over = True
        self._more.set()


class CallChannel:
    """A file operation: content in pieces, then fields, or a failure."""

    def __init__(
        self,
        *,
        path: str,
        most_bytes: int,
        each: Callable[[bytes], None] | None = None,
        answered: Callable[[list[bytes]], None] = lambda fields: None,
    ) -> None:
        """At most `most_bytes` of content are accepted; `each` takes them as they come, else they are gathered.
        `answered` is told the fields before any later frame is read, and may raise Violation."""
        self.answer: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        self.content = bytearray()
        self.window = Window()
        self._path = path
        self._left = most_bytes
        self._each = each or self.content.extend
        self._answered = answered

    def on_frame(self, kind: int, payload: bytes) -> bool:
        if kind == wire.REPLY:
            self._left -= len(payload)
            if self._left < 0:
                raise Violation("more content than asked for")
            if not self.answer.done():
                self._each(payload)
            return False
        if kind == wire.GRANT:
            self.window.grant(payload)
            return False
        if kind == wire.RESULT:
            try:
                fields = wire.unpack(payload)
            except wire.Malformed as error:
                raise Violation("malformed fields") from error
            self._answered(fields)
            if not self.answer.done():
                self.answer.set_result(fields)
        elif kind == wire.FAILURE:
            error_ = error_of(fields_of(payload, 1)[0], path=self._path)
            if not self.answer.done():
                self.answer.set_exception(error_)
        else:
            raise Violation("a frame that is no answer")
        self.window.end()
        return True

    def on_lost(self, reason: str) -> None:
        self.window.end()
        if not self.answer.done():
            self.answer.set_exception(gone(reason))


class RunningCommand:
    """The port's Process, over a channel. `folder` is where it starts."""

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
