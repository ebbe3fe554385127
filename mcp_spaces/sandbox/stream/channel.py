"""A call's channel on the stream: frames in, an answer out, and how much may be sent meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.refusals import error_of
from mcp_spaces.sandbox.stream.protocol import Violation, fields_in, fields_of, whole


class Channel(Protocol):
    def on_frame(self, kind: int, payload: bytes) -> bool:
        """True when it was the channel's last. Raises Violation."""

    def on_lost(self, reason: str) -> None: ...


def gone(reason: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"The sandbox is gone: {reason}.", hint="Start the runtime again; the workspace's files are kept."
    )


class Window:
    """How much may still be sent before the other end took something."""

    def __init__(self) -> None:
        self._room = wire.WINDOW
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
        # A grant of nothing wakes nobody: who is woken and finds no room would ask again without end.
        if self._room:
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
            fields = fields_in(payload)
            self._answered(fields)
            if not self.answer.done():
                self.answer.set_result(fields)
        elif kind == wire.FAILURE:
            error = error_of(fields_of(payload, 1)[0], path=self._path)
            if not self.answer.done():
                self.answer.set_exception(error)
        else:
            raise Violation("a frame that is no answer")
        self.window.end()
        return True

    def on_lost(self, reason: str) -> None:
        self.window.end()
        if not self.answer.done():
            self.answer.set_exception(gone(reason))
