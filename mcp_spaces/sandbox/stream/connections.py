"""The port's Connection over a channel of the stream: one that the agent accepted, or one that was dialled."""

from __future__ import annotations

import asyncio
from collections import deque

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.refusals import error_of
from mcp_spaces.sandbox.stream.agent_stream import AgentStream, Window, gone
from mcp_spaces.sandbox.stream.protocol import Violation, fields_of

ROOM_BYTES = wire.WINDOW // 4
"""What was taken is granted again in pieces of this size."""


class RelayChannel:
    def __init__(self, stream: AgentStream, number: int = 0) -> None:
        """With a number, one that the agent accepted; without, one that is being dialled: see `started`."""
        self.number = number
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if number:
            self.started.set_result(None)
        self._stream = stream
        self._window = Window()
        self._received: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._room = wire.WINDOW
        self._owed = 0
        self._all_received = False
        self._finished = False
        self._closed = False
        self._lost: str | None = None

    # Frames

    def on_frame(self, kind: int, payload: bytes) -> bool:
        if kind == wire.REPLY and self.started.done() and not self._all_received:
            self._room -= len(payload)
            if self._room < 0 or not payload:
                raise Violation("more bytes than there is room for")
            if not self._closed:
                self._received.append(payload)
                self._arrived.set()
        elif kind == wire.GRANT:
            self._window.grant(payload)
        elif kind == wire.FINISHED and self.started.done() and not self._all_received:
            self._all_received = True
            self._arrived.set()
        elif kind == wire.STARTED and not self.started.done():
            self.started.set_result(None)
        elif kind == wire.GONE and self.started.done():
            # Without a FINISHED before it was cut off.
            self._end("the connection was closed" if not self._all_received else None)
            return True
        elif kind == wire.FAILURE and not self.started.done():
            error = error_of(fields_of(payload, 1)[0], path="")
            self._fail_start(error)
            return True
        else:
            raise Violation("a frame out of turn")
        return False

    def on_lost(self, reason: str) -> None:
        self._fail_start(gone(reason))
        self._end(reason)

    def _fail_start(self, error: Exception) -> None:
        if not self.started.done():
            self.started.set_exception(error)
            # It may be that nobody waits for it any more.
            self.started.exception()

    def _end(self, lost: str | None) -> None:
        self._lost = self._lost or lost
        self._window.end()
        self._arrived.set()

    # The port's side

    async def receive(self) -> bytes:
        while not self._received:
            if self._closed or self._lost is not None:
                raise _broken(self._lost or "it was closed")
            if self._all_received:
                return b""
            self._arrived.clear()
            await self._arrived.wait()
        content = self._received.popleft()
        self._owed += len(content)
        if self._owed >= ROOM_BYTES or not self._received:
            self._room += self._owed
            self._stream.send(wire.ROOM, self.number, wire.pack([wire.whole(self._owed)]))
            self._owed = 0
        return content

    async def send(self, content: bytes) -> None:
        if self._finished:
            raise _broken(self._lost or "its end was said")
        if len(content) <= wire.CHUNK and self._window.take_now(len(content)):
            self._stream.send(wire.CONTENT, self.number, content)
            return
        rest = memoryview(content)
        while rest:
            room = await self._window.take(min(len(rest), wire.CHUNK))
            if not room or self._finished:
                raise _broken(self._lost or "it was closed")
            self._stream.send(wire.CONTENT, self.number, bytes(rest[:room]))
            rest = rest[room:]

    async def finish(self) -> None:
        if not self._finished and not self._closed:
            self._finished = True
            self._stream.send(wire.END, self.number)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._received.clear()
            self._end(None)
            self._stream.send(wire.KILL, self.number)


def _broken(reason: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(f"The connection broke: {reason}.", hint="Try again.")
