"""Sandboxes started before somebody asks, one or two per profile (image and limits). Each is handed out once."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from mcp_spaces.errors import SpacesError
from mcp_spaces.sandbox.port import SandboxLimits
from mcp_spaces.sandbox.stream.attached import AttachedSandbox

POOL_PREFIX = "pool-"
"""How the ids of what waits here begin, and no runtime's."""
MAX_PROFILES = 4
"""Warm containers cost about 15 MB each; the profiles used last are kept warm."""


@dataclass(frozen=True, slots=True)
class Profile:
    image_id: str
    limits: SandboxLimits


@dataclass(frozen=True, slots=True)
class Warm:
    """A sandbox that belongs to nobody yet, under a runtime id of its own."""

    pool_id: str
    sandbox: AttachedSandbox


class Pool:
    """`make` launches one for a profile, cold; `size` of 0 keeps nothing."""

    def __init__(self, *, size: int, make: Callable[[Profile], Awaitable[Warm]], log: logging.Logger) -> None:
        self._size = size
        self._make = make
        self._log = log
        self._warm: OrderedDict[Profile, list[Warm]] = OrderedDict()
        self._refilling: dict[Profile, asyncio.Task[None]] = {}
        self._freeing: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def held(self) -> Collection[str]:
        """Ids of what waits here."""
        return {warm.pool_id for waiting in self._warm.values() for warm in waiting}

    @property
    def containers(self) -> Collection[str]:
        return {warm.sandbox.container_id for waiting in self._warm.values() for warm in waiting}

    @property
    def busy(self) -> bool:
        """Something is being started or freed."""
        return bool(self._refilling or self._freeing)

    def take(self, profile: Profile) -> Warm | None:
        """One that is alive, or None. What is taken is gone from the pool for good, whatever becomes of it."""
        waiting = self._warm.get(profile, [])
        while waiting:
            warm = waiting.pop(0)
            if warm.sandbox.alive:
                return warm
            self._free(warm)
        return None

    def want(self, profile: Profile, *, after_s: float = 0) -> None:
        """Keep this profile warm from now on; fills up in the background, beginning after so many seconds."""
        if self._size and not self._closed:
            self._warm.setdefault(profile, [])
            self._warm.move_to_end(profile)
            while len(self._warm) > MAX_PROFILES:
                _, dropped = self._warm.popitem(last=False)
                for warm in dropped:
                    self._free(warm)
            if profile not in self._refilling:
                self._refilling[profile] = asyncio.ensure_future(self._refill(profile, after_s))

    async def filled(self) -> None:
        """Until nothing is being started."""
        while self._refilling:
            await asyncio.wait(list(self._refilling.values()))

    async def aclose(self) -> None:
        self._closed = True
        await self.filled()
        for waiting in self._warm.values():
            for warm in waiting:
                self._free(warm)
        self._warm.clear()
        if self._freeing:
            await asyncio.wait(list(self._freeing))

    async def _refill(self, profile: Profile, after_s: float) -> None:
        try:
            await asyncio.sleep(after_s)
            while not self._closed and len(self._warm.get(profile, [])) < self._size and profile in self._warm:
                warm = await self._make(profile)
                waiting = self._warm.get(profile)
                if waiting is None or self._closed:
                    self._free(warm)
                else:
                    waiting.append(warm)
        except SpacesError as error:
            # The next launch is cold, and says what is wrong if it still is.
            self._log.warning("the pool could not be filled: %s", error)
        finally:
            self._refilling.pop(profile, None)

    def _free(self, warm: Warm) -> None:
        task = asyncio.ensure_future(warm.sandbox.stop())
        self._freeing.add(task)
        task.add_done_callback(self._freed)

    def _freed(self, task: asyncio.Task[None]) -> None:
        self._freeing.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.warning("a warm sandbox could not be freed: %s", task.exception())
