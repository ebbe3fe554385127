"""Servers inside sandboxes: reached by the sandboxes of the same space, and by the operator's port-forward."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from mcp_spaces.errors import Conflict, NotFound, SpacesError
from mcp_spaces.network.dialing import READ_AHEAD_BYTES, Upstream
from mcp_spaces.sandbox.port import Connection, LiveSandboxes, Sandbox
from mcp_spaces.spaces.model import RuntimeKind, RuntimeState
from mcp_spaces.spaces.port import Runtimes

LOOPBACK = "127.0.0.1"


class SpaceNeighbours:
    """Implements `Neighbours`."""

    def __init__(self, runtimes: Runtimes, live: Callable[[], LiveSandboxes]) -> None:
        self._runtimes = runtimes
        self._live = live

    async def dial(self, space_id: str, alias: str, port: int) -> Connection:
        for runtime in self._runtimes.of_space(space_id, kind=RuntimeKind.SANDBOX):
            if runtime.alias == alias and runtime.state is RuntimeState.ACTIVE:
                return await self._live().live(runtime.id).dial(port)
        raise NotFound("No such sandbox.", hint="sandbox_list shows what there is.")


@asynccontextmanager
async def forwarded(sandbox: Sandbox, port: int, *, local_port: int) -> AsyncIterator[int]:
    """While it lasts, connections to `local_port` of this machine's loopback reach `port` inside; 0 takes a free one,
    and the port is returned. Raises Conflict when it is taken."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        outside = Upstream(reader, writer)
        try:
            await _join(outside, await sandbox.dial(port))
        except SpacesError:
            pass
        finally:
            outside.close()

    try:
        server = await asyncio.start_server(on_connection, LOOPBACK, local_port, limit=READ_AHEAD_BYTES)
    except OSError:
        raise Conflict(f"Port {local_port} of this machine is taken.", hint="Choose another one, or 0.") from None
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


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
