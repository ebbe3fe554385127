"""What changed, for whoever listens: connections that announce new tool lists and resources, the key watch, and the
gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

BUFFER = 256
"""Changes that a slow listener may be behind. Of more only the kind is kept, since each only says "look again"."""

Kind = Literal["tools", "context", "resources", "keys", "secrets"]


@dataclass(frozen=True, slots=True)
class Change:
    """`tools`: who may call what · `context`: a space's picture · `resources`: which there are · `keys`: one went ·
    `secrets`: some were stored anew or deleted."""

    kind: Kind
    space_id: str | None = None
    principal_id: str | None = None


@dataclass(eq=False, slots=True)
class _Listener:
    changes: MemoryObjectSendStream[Change]
    missed: set[Kind] = field(default_factory=set)


class Changes:
    def __init__(self) -> None:
        self._listeners: set[_Listener] = set()

    def announce(self, *changes: Change) -> None:
        """Never waits and never fails."""
        for listener in tuple(self._listeners):
            for change in changes:
                try:
                    listener.changes.send_nowait(change)
                except anyio.WouldBlock:
                    listener.missed.add(change.kind)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    self._listeners.discard(listener)
                    break

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Change]]:
        """What is announced from now on."""
        send, receive = anyio.create_memory_object_stream[Change](BUFFER)
        listener = _Listener(send)
        self._listeners.add(listener)
        try:
            yield _iterate(receive, listener.missed)
        finally:
            self._listeners.discard(listener)
            send.close()
            receive.close()


async def _iterate(receive: MemoryObjectReceiveStream[Change], missed: set[Kind]) -> AsyncIterator[Change]:
    async for change in receive:
        yield change
        # It was full when they came, so that there was something to be read before them.
        while missed and not receive.statistics().current_buffer_used:
            yield Change(missed.pop())
