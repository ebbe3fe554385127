"""The daemon's end of a sandbox's stream: many calls at a time over one socket.

asyncio's own protocol and transport carry it, without a task per sandbox: a chunk of output costs one callback.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import cast

from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.stream.channel import Channel, gone
from mcp_spaces.sandbox.stream.protocol import Demultiplexer, FrameReader, Violation, fields_of, whole

RECEIVE_BYTES = 256 * 1024
LAST_WORDS_S = 1.0
"""How long a stream whose shortcut ended waits for its own end."""
MAX_AGENT_WORDS = 8 * 1024
"""How much of what the agent writes to its own stderr (a traceback) is kept for the log."""


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
