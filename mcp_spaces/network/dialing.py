"""Names to addresses, and addresses to connections: the only code of ours that opens a connection to elsewhere."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import anyio

from mcp_spaces.errors import RuntimeUnavailable, TimedOut
from mcp_spaces.sandbox.port import Connection

RESOLVE_S = 5.0
CONNECT_S = 10.0
RESOLVERS = 16
"""Threads that wait for DNS at a time: a slow server holds these up, and nothing else."""
MAX_ADDRESSES = 16
PIECE_BYTES = 64 * 1024
READ_AHEAD_BYTES = 256 * 1024


class SystemResolver:
    def __init__(self) -> None:
        self._threads = anyio.CapacityLimiter(RESOLVERS)

    async def addresses(self, host: str) -> Sequence[str]:
        # The dot: no search list of this machine makes another name of it.
        absolute = host + "." if "." in host else host
        try:
            with anyio.fail_after(RESOLVE_S):
                found = await anyio.to_thread.run_sync(
                    lambda: socket.getaddrinfo(absolute, None, type=socket.SOCK_STREAM),
                    limiter=self._threads,
                    abandon_on_cancel=True,
                )
        except TimeoutError:
            raise TimedOut("The name could not be looked up in time.", hint="Try again.") from None
        except (OSError, UnicodeError):
            return []
        return list(dict.fromkeys(str(one[4][0]) for one in found))[:MAX_ADDRESSES]


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
