"""Profiles while browsers use them: each by one runtime at a time, and put away again and again, not only at the end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.port import StorageState
from mcp_spaces.browser.store import BrowserStore
from mcp_spaces.errors import Conflict

log = logging.getLogger(__name__)

READ_S = 5.0
"""How long reading all that a browser remembers may take; a page that hangs keeps it from being read."""
COOKIES_S = 2.0
LATER_S = 1.0
"""A profile is looked at so long after an operation: what a site sets then is mostly there."""
WHOLE_S = 10.0
"""Cookies cost 3 ms and are compared each time. All the rest costs 30 to 200 ms: it is read when they have changed,
and otherwise when it was not for so long."""


@dataclass(slots=True)
class _InUse:
    space_id: str
    name: str
    runtime_id: str
    state: StorageState | None = None
    cookies: list[Any] | None = None
    read_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    stirred: bool = False
    """Since it was looked at last: what an operation changes while the profile is being read may not be in it."""
    task: asyncio.Task[None] | None = None


class Profiles:
    def __init__(
        self,
        store: BrowserStore,
        *,
        alias_of: Callable[[str], str],
        later_s: float = LATER_S,
        whole_s: float = WHOLE_S,
    ) -> None:
        self._store = store
        self._alias_of = alias_of
        self._later_s = later_s
        self._whole_s = whole_s
        self._in_use: dict[tuple[str, str], _InUse] = {}
        self._of_runtime: dict[str, _InUse] = {}

    async def claim(self, space_id: str, name: str, *, runtime_id: str) -> StorageState | None:
        """From now on the profile is this runtime's, until `release`. Raises Conflict."""
        self.check_free(space_id, name)
        taken = _InUse(space_id, name, runtime_id)
        self._in_use[space_id, name] = self._of_runtime[runtime_id] = taken
        try:
            taken.state = await self._store.profile(space_id, name)
        except BaseException:
            self.release(runtime_id)
            raise
        return taken.state

    def check_free(self, space_id: str, name: str) -> None:
        """Raises Conflict: two browsers never share a profile at a time."""
        taken = self._in_use.get((space_id, name))
        if taken is not None:
            raise Conflict(
                f"Profile {name} is in use by browser {self._alias_of(taken.runtime_id)}.",
                hint="Stop that one first, or launch without a profile.",
            )

    def release(self, runtime_id: str) -> None:
        """Idempotent."""
        taken = self._of_runtime.pop(runtime_id, None)
        if taken is not None:
            del self._in_use[taken.space_id, taken.name]
            if taken.task is not None:
                taken.task.cancel()

    def stirred(self, runtime_id: str, live: LiveBrowser) -> None:
        """An operation was done: what it changed is kept soon. Costs the operation nothing."""
        taken = self._of_runtime.get(runtime_id)
        if taken is None:
            return
        taken.stirred = True
        if taken.task is None or taken.task.done():
            taken.task = asyncio.ensure_future(self._soon(taken, live))

    async def keep(self, runtime_id: str, live: LiveBrowser) -> None:
        """All that the browser remembers now is on the disk when this returns; where a page hangs, its cookies are.
        Nothing happens without a profile. Raises Playwright's errors, TimeoutError, and what storing raises."""
        taken = self._of_runtime.get(runtime_id)
        if taken is not None:
            async with taken.lock:
                await self._keep(taken, live)

    async def _soon(self, taken: _InUse, live: LiveBrowser) -> None:
        while taken.stirred:
            await asyncio.sleep(self._later_s)
            taken.stirred = False
            if not live.secret_inside:
                await self._look(taken, live)

    async def _look(self, taken: _InUse, live: LiveBrowser) -> None:
        try:
            async with taken.lock:
                cookies = await self._cookies(live)
                if cookies != taken.cookies or time.monotonic() - taken.read_at >= self._whole_s:
                    await self._keep(taken, live)
                else:
                    # Whatever else has changed waits for its time, and not for another operation.
                    taken.stirred = True
        except Exception as error:  # noqa: BLE001 - the browser may be going; its end keeps the profile, or says why not
            log.info("profile %s of %s is kept later: %s", taken.name, taken.space_id, type(error).__name__)

    async def _keep(self, taken: _InUse, live: LiveBrowser) -> None:
        try:
            async with asyncio.timeout(READ_S):
                state: dict[str, Any] = dict(await live.live.context.storage_state(indexed_db=True))
        except TimeoutError:
            before = taken.state or {}
            state = {**before, "cookies": await self._cookies(live)}
        taken.cookies, taken.read_at = state.get("cookies"), time.monotonic()
        if state != taken.state:
            await self._store.keep_profile(taken.space_id, taken.name, state)
            taken.state = state

    async def _cookies(self, live: LiveBrowser) -> list[Any]:
        async with asyncio.timeout(COOKIES_S):
            return list(await live.live.context.cookies())
