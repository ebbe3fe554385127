"""Bytes both ways between a runtime and elsewhere, counted, until both sides are done."""

from __future__ import annotations

import anyio

from mcp_spaces.network.flow import Buffered, Flow


async def relay(flow: Flow, client: Buffered, upstream: Buffered) -> None:
    """Raises Refused above the budget, and what the connections raise."""

    async def outwards() -> None:
        while content := await client.some():
            flow.spending.up(len(content))
            flow.touch()
            await upstream.connection.send(content)
        await upstream.connection.finish()

    async def inwards() -> None:
        while content := await upstream.some():
            flow.spending.down(len(content))
            flow.touch()
            await client.connection.send(content)
        await client.connection.finish()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outwards)
        tasks.start_soon(inwards)
