"""A local browser's ways out: listening sockets whose connections go to a context's `accept`."""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import socket
from collections.abc import Callable

import anyio

from mcp_spaces.browser.driver.host import WayOut
from mcp_spaces.browser.port import Accept
from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.port import Connection

Connect = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Connection]
"""The port's Connection over a socket."""

HEAD_BYTES_MAX = 64 << 10
HEAD_S = 10.0
ASK = (
    b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="mcp-spaces"\r\n'
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)
_CREDENTIALS = re.compile(rb"\r\nproxy-authorization:[ \t]*basic[ \t]+([A-Za-z0-9+/=]+)[ \t]*(?=\r\n)", re.IGNORECASE)


class Door:
    """Without a password whoever reaches the socket goes through: where only the browser can, that is enough."""

    def __init__(self, accept: Accept, connect: Connect, *, locked: bool) -> None:
        self._accept = accept
        self._connect = connect
        self._user, self._password = ("mcp-spaces", secrets.token_urlsafe(24)) if locked else ("", "")
        self._server: asyncio.Server | None = None

    async def open(self, listener: socket.socket) -> WayOut:
        # It listens before it is ours to close.
        with anyio.CancelScope(shield=True):
            self._server = await asyncio.start_server(self._on_connection, sock=listener, limit=HEAD_BYTES_MAX)
        return WayOut(int(listener.getsockname()[1]), self._user, self._password)

    def close(self) -> None:
        """Connections that stand are their owner's to close. Idempotent."""
        if self._server is not None:
            self._server.close()

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self._connect(reader, writer)
        if not self._password:
            self._accept(connection)
            return
        try:
            async with asyncio.timeout(HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
            if self._opens(head):
                self._accept(Begun(_CREDENTIALS.sub(b"", head), connection))
                return
            await connection.send(ASK)
            await connection.finish()
            # What is left unread would reset the connection before the answer is read.
            async with asyncio.timeout(HEAD_S):
                while await connection.receive():
                    pass
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, RuntimeUnavailable):
            pass
        connection.close()

    def _opens(self, head: bytes) -> bool:
        found = _CREDENTIALS.findall(head)
        wanted = base64.b64encode(f"{self._user}:{self._password}".encode())
        return len(found) == 1 and secrets.compare_digest(found[0], wanted)


class Begun:
    """A connection whose first bytes were read already."""

    def __init__(self, first: bytes, rest: Connection) -> None:
        self._first = first
        self._rest = rest
        self.send, self.finish, self.close = rest.send, rest.finish, rest.close

    async def receive(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        return await self._rest.receive()
