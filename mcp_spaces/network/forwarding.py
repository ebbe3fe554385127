"""A server inside a sandbox, as the operator reaches it: by a port of this machine's loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio

from mcp_spaces.errors import Conflict, SpacesError
from mcp_spaces.network.dialing import READ_AHEAD_BYTES, Upstream
from mcp_spaces.sandbox.port import Connection, Sandbox

LOOPBACK = "127.0.0.1"
CONNECTIONS_MAX = 100
"""At a time, to one port that is forwarded; more are closed at once."""


@asynccontextmanager
async def forwarded(sandbox: Sandbox, port: int, *, local_port: int) -> AsyncIterator[int]:
    """While it lasts, connections to `local_port` of this machine's loopback reach `port` inside; 0 takes a free one,
    and the port is returned. They end with it. Raises Conflict when the port is taken."""
    joined: dict[asyncio.Task[None], Connection] = {}
    is_over = False

    def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        outside = Upstream(reader, writer)
        # One that was accepted just before the end may come here just after it.
        if is_over or len(joined) >= CONNECTIONS_MAX:
            outside.close()
            return
        task = asyncio.create_task(through(outside))
        joined[task] = outside
        # Also of one that was cancelled before it began.
        task.add_done_callback(lambda ended: joined.pop(ended).close())

    async def through(outside: Connection) -> None:
        with suppress(SpacesError):
            await _join(outside, await sandbox.dial(port))

    try:
        # It listens before it is ours to close.
        with anyio.CancelScope(shield=True):
            server = await asyncio.start_server(on_connection, LOOPBACK, local_port, limit=READ_AHEAD_BYTES)
    except OSError:
        raise Conflict(f"Port {local_port} of this machine is taken.", hint="Choose another one, or 0.") from None
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        is_over = True
        server.close()
        ending = list(joined)
        for task in ending:
            task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*ending, return_exceptions=True)


async def _join(one: Connection, other: Connection) -> None:
    async def pump(source: Connection, sink: Connection) -> None:
        try:
            while content := await source.receive():
                await sink.send(content)
            await sink.finish()
        except SpacesError:
            source.close()
            sink.close()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pump, one, other)
            tasks.start_soon(pump, other, one)
    finally:
        one.close()
        other.close()
