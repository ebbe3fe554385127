"""What changed, for whoever listens: connections that announce new tool lists and resources, the key watch, and the
gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

BUFFER = 256
"""Changes that a slow listener may be behind; more are dropped, since each only says "look again"."""


@dataclass(frozen=True, slots=True)
class Change:
    """`tools`: who may call what · `context`: a space's picture · `resources`: which there are · `keys`: one went ·
    `secrets`: some were stored anew or deleted."""

    kind: Literal["tools", "context", "resources", "keys", "secrets"]
    space_id: str | None = None
    principal_id: str | None = None


class Changes:
    def __init__(self) -> None:
        self._listeners: set[MemoryObjectSendStream[Change]] = set()

    def announce(self, *changes: Change) -> None:
        """Never waits and never fails."""
        for listener in tuple(self._listeners):
            for change in changes:
                try:
                    listener.send_nowait(change)
                except anyio.WouldBlock:
                    # It will see all of it when it reads on: every change says only "look again".
                    break
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    self._listeners.discard(listener)
                    break

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Change]]:
        """What is announced from now on."""
        send, receive = anyio.create_memory_object_stream[Change](BUFFER)
        self._listeners.add(send)
        try:
            yield _iterate(receive)
        finally:
            self._listeners.discard(send)
            send.close()
            receive.close()


async def _iterate(receive: MemoryObjectReceiveStream[Change]) -> AsyncIterator[Change]:
    async for change in receive:
        yield change
