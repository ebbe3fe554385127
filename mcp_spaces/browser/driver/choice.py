"""Where browsers run when nobody said so: in containers where that works, else with this machine's own Chromium."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from mcp_spaces.browser.port import BrowserDriver, ContextSpec, Debugging, LiveContext
from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.port import Wall

log = logging.getLogger(__name__)

NEEDED = ("browser engine", "browser image", "browser program")


class ChosenDriver:
    """Chooses once, at the first need: a browser never moves to weaker walls because an engine went away. While
    neither can be had, the first one's error is the answer, and the next call looks again."""

    def __init__(self, first: BrowserDriver, second: BrowserDriver) -> None:
        self.name = "auto"
        """From then on the chosen one's."""
        self._both = (first, second)
        self._chosen: BrowserDriver | None = None
        self._lock = asyncio.Lock()

    async def _choose(self) -> BrowserDriver:
        async with self._lock:
            if self._chosen is None:
                first, second = self._both
                missing = _missing(await first.walls())
                if missing is None:
                    self._chosen, self.name = first, first.name
                elif _missing(await second.walls()) is None:
                    log.warning("browsers run with the %s driver: %s", second.name, missing.found)
                    self._chosen, self.name = second, second.name
                else:
                    raise RuntimeUnavailable(missing.found, hint=f"Run: {missing.mend}")
            return self._chosen

    async def open(self, spec: ContextSpec) -> LiveContext:
        return await (await self._choose()).open(spec)

    async def debug(self, live: LiveContext) -> Debugging:
        return await (await self._choose()).debug(live)

    async def warm(self) -> None:
        await (await self._choose()).warm()

    async def reap(self) -> Sequence[str]:
        """The daemon before may have chosen otherwise. Raises what the chosen one's reaping does."""
        removed: list[str] = []
        failure: RuntimeUnavailable | None = None
        for driver in self._both:
            try:
                removed += await driver.reap()
            except RuntimeUnavailable as error:
                failure = error
        if failure is not None and not removed:
            raise failure
        return removed

    async def walls(self) -> Sequence[Wall]:
        try:
            return await (await self._choose()).walls()
        except RuntimeUnavailable:
            return [wall for driver in self._both for wall in await driver.walls() if not wall.holds]

    async def aclose(self) -> None:
        for driver in self._both:
            await driver.aclose()


def _missing(walls: Sequence[Wall]) -> Wall | None:
    return next((wall for wall in walls if wall.name in NEEDED and not wall.holds), None)
