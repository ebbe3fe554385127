"""Names to addresses, and addresses to connections: the only code of ours that opens a connection to elsewhere."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import anyio

from mcp_spaces.errors import RuntimeUnavailable, TimedOut
from mcp_spaces.sandbox.port import Connection

RESOLVE_S = 5.0
CONNECT_S = 10.0
LOOKUPS = 8
"""Threads of one space that wait for DNS at a time: slow names hold up whoever asks for them, and nobody else."""
MAX_ADDRESSES = 16
PIECE_BYTES = 64 * 1024
READ_AHEAD_BYTES = 256 * 1024


def look_up(name: str) -> list[str]:
    """Its addresses, IPv4 and IPv6, each once, as this machine's resolver orders them. Blocks. Raises OSError, UnicodeError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


class SystemResolver:
    """`look_up` blocks for as long as this machine's resolver takes, which may be much longer than `resolve_s`."""

    def __init__(self, look_up: Callable[[str], list[str]] = look_up, *, resolve_s: float = RESOLVE_S) -> None:
        self._look_up = look_up
        self._resolve_s = resolve_s
        self._threads = anyio.CapacityLimiter(math.inf)
        self._lookups: WeakValueDictionary[str, anyio.CapacityLimiter] = WeakValueDictionary()

    async def addresses(self, host: str, *, space_id: str) -> Sequence[str]:
        # The dot: no search list of this machine makes another name of it.
        absolute = host + "." if "." in host else host
        lookups = self._lookups.get(space_id)
        if lookups is None:
            lookups = self._lookups[space_id] = anyio.CapacityLimiter(LOOKUPS)
        # Only the look-up's own time counts, and its place is free when its thread is, not when nobody waits any more.
        place = object()
        await lookups.acquire_on_behalf_of(place)
        looking = asyncio.ensure_future(anyio.to_thread.run_sync(self._look_up, absolute, limiter=self._threads))
        looking.add_done_callback(lambda _: lookups.release_on_behalf_of(place))
        try:
            with anyio.fail_after(self._resolve_s):
                return (await asyncio.shield(looking))[:MAX_ADDRESSES]
        except TimeoutError:
            raise TimedOut("The name could not be looked up in time.", hint="Try again.") from None
        except (OSError, UnicodeError):
            return []


class SystemDialer:
    async def dial(self, address: str, port: int) -> Connection:
        try:
            with anyio.fail_after(CONNECT_S):
                reader, writer = await asyncio.open_connection(address, port, limit=READ_AHEAD_BYTES)
        except (OSError, TimeoutError):
            raise RuntimeUnavailable("Nobody answers there.", hint="Is the server up?") from None
        return Upstream(reader, writer)


class Upstream:
    """The port's Connection over a socket of this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> bytes:
        try:
            return await self._reader.read(PIECE_BYTES)
        except OSError:
            raise _broken() from None

    async def send(self, content: bytes) -> None:
        try:
            self._writer.write(content)
            await self._writer.drain()
        except OSError:
            raise _broken() from None

    async def finish(self) -> None:
        try:
            if self._writer.can_write_eof() and not self._writer.is_closing():
                self._writer.write_eof()
        except OSError:
            raise _broken() from None

    def close(self) -> None:
        self._writer.transport.abort()


def _broken() -> RuntimeUnavailable:
    return RuntimeUnavailable("The connection broke.", hint="Try again.")
