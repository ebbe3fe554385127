"""Progress of a running call, with a heartbeat: clients abort a call that stays silent for some minutes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from mcp_spaces.errors import SpacesError
from mcp_spaces.server.text import as_prose

if TYPE_CHECKING:
    from mcp.server import ServerRequestContext

    from mcp_spaces.core.context import Progress

STEP = 0.001
"""The protocol wants each value to be greater than the last, also where the operation itself repeats one."""


@dataclass(slots=True)
class Reporter:
    context: ServerRequestContext[Any, Any]
    last: float = -STEP

    async def __call__(self, done: float, total: float | None, message: str) -> None:
        self.last = max(done, self.last + STEP)
        await self.context.session.report_progress(self.last, total, as_prose(message)[:500])

    async def beat(self, every_s: float) -> None:
        started = anyio.current_time()
        while True:
            await anyio.sleep(every_s)
            await self(0, None, f"Running for {anyio.current_time() - started:.0f} s.")


@asynccontextmanager
async def reporting(context: ServerRequestContext[Any, Any], *, every_s: float) -> AsyncIterator[Progress]:
    """The progress callback of one call. Where no client waits for it, nothing is sent and nothing beats."""
    reporter = Reporter(context)
    if not context.meta or context.meta.get("progress_token") is None:
        yield reporter
        return
    refusal: SpacesError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reporter.beat, every_s)
        try:
            yield reporter
        except SpacesError as error:
            refusal = error  # the group would wrap it in a group of its own
        tasks.cancel_scope.cancel()
    if refusal is not None:
        raise refusal
