"""Bytes both ways between a runtime and elsewhere, counted, until both sides are done."""

from __future__ import annotations

import anyio

from mcp_spaces.network.flow import Buffered, Flow
from mcp_spaces.network.scrubbing import Stream


async def relay(flow: Flow, client: Buffered, upstream: Buffered, *, search: Stream | None = None) -> None:
    """`search` takes secrets out of what comes back. Raises Refused above the budget, and what the connections raise."""

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
            if search is not None:
                content = search.feed(content)
            if content:
                await client.connection.send(content)
        if search is not None and (rest := search.finish()):
            await client.connection.send(rest)
        await client.connection.finish()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outwards)
        tasks.start_soon(inwards)
