"""Containers that the engine makes for a daemon that is already dead: a second look, some seconds after the first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mcp_spaces.errors import SpacesError
from mcp_spaces.sandbox.docker.container import DRIVER_LABEL, INSTANCE_LABEL
from mcp_spaces.sandbox.docker.engine import Engine, Threads

LATER_S = 10.0
"""A create that was under way when its daemon was killed lands within moments, on a busy machine within seconds."""


async def a_while() -> None:
    await asyncio.sleep(LATER_S)


class Latecomers:
    """Removes containers of this instance that another driver object asked for. What this one makes, in the same
    moment too, is told by its label. `expect` may be called any number of times; there is one second look, when
    `later` has ended."""

    def __init__(
        self,
        *,
        engine: Engine,
        instance_id: str,
        driver_id: str,
        thread: Threads,
        later: Callable[[], Awaitable[object]],
        log: logging.Logger,
    ) -> None:
        self._engine = engine
        self._label = f"{INSTANCE_LABEL}={instance_id}"
        self._driver_id = driver_id
        self._thread = thread
        self._later = later
        self._log = log
        self._look: asyncio.Task[None] | None = None
        self._has_begun = False

    def expect(self) -> None:
        """The first look was taken: the second comes."""
        if self._look is None:
            self._look = asyncio.ensure_future(self._look_again())

    async def aclose(self) -> None:
        """Forgotten if it is not due yet; a look that has begun is seen through."""
        if self._look is not None:
            if not self._has_begun:
                self._look.cancel()
            await asyncio.wait([self._look])

    async def _look_again(self) -> None:
        await self._later()
        # Its thread would go on behind a cancellation, and find what the next daemon makes.
        self._has_begun = True
        try:
            removed = await self._thread(self._remove)
        except SpacesError as error:
            self._log.warning("what came late is left to the next start: %s", error.message)
        else:
            if removed:
                self._log.info("removed %d containers that were made for a dead daemon", removed)

    def _remove(self) -> int:
        late = [
            container["Id"]
            for container in self._engine.containers(self._label)
            if (container.get("Labels") or {}).get(DRIVER_LABEL) != self._driver_id
        ]
        for container_id in late:
            self._engine.remove(container_id)
        return len(late)
