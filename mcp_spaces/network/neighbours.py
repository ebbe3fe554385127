"""Servers inside sandboxes, as the sandboxes of the same space reach them."""

from __future__ import annotations

from collections.abc import Callable

from mcp_spaces.errors import NotFound
from mcp_spaces.sandbox.port import Connection, LiveSandboxes
from mcp_spaces.spaces.model import RuntimeKind, RuntimeState
from mcp_spaces.spaces.port import Runtimes


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
