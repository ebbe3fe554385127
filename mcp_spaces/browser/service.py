"""The browser runtimes of this daemon: what is made and taken away with each, and what their pages were told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from mcp_spaces.browser.keeping import Profiles
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.model import BrowserOptions, Isolation
from mcp_spaces.browser.port import BrowserDriver, ContextSpec
from mcp_spaces.browser.secrets.fill_limits import FillLimits
from mcp_spaces.browser.sizes import browser_limits
from mcp_spaces.browser.store import BrowserStore
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.core.tasks import shielded
from mcp_spaces.errors import NotFound, RuntimeUnavailable, SpacesError
from mcp_spaces.network.model import RuntimeRef
from mcp_spaces.network.port import RuntimeGateway
from mcp_spaces.spaces.live_runtimes import LiveRuntimes
from mcp_spaces.spaces.model import Runtime, RuntimeKind, RuntimeState
from mcp_spaces.spaces.port import Runtimes, Spaces

log = logging.getLogger(__name__)

END_S = 5.0
BEGIN_S = 30.0
"""How long a browser may take for its first page."""


class BrowserService(LiveRuntimes[LiveBrowser]):
    """Implements `RuntimeControl`."""

    kind = RuntimeKind.BROWSER

    def __init__(
        self,
        *,
        driver: BrowserDriver,
        store: BrowserStore,
        runtimes: Runtimes,
        spaces: Spaces,
        gateway: RuntimeGateway,
        clock: Clock,
        announce: Callable[[str], None],
    ) -> None:
        super().__init__(runtimes=runtimes, spaces=spaces, clock=clock, announce=announce)
        self.store = store
        self.driver = driver
        self.gateway = gateway
        self.fills = FillLimits(clock)
        self.profiles = Profiles(store, alias_of=self._alias_of)

    # What runs

    def run_of(self, runtime_id: str) -> str:
        """The run whose doing it is that the browser fetches something now; empty when nothing runs there."""
        live = self._live.get(runtime_id)
        return "" if live is None else live.current_run or live.run_id

    def filled_in(self, space_id: str) -> list[str]:
        """The secrets that were filled in in any browser of the space that runs now."""
        return [value for live in self._of_space(space_id) for value in live.secrets]

    def known_in(self, space_id: str) -> list[Redactor]:
        """What knows the secrets that were filled in there. Asked before every call: mostly there are none."""
        if not any(live.secrets for live in self._live.values()):
            return []
        return [live.redactor for live in self._of_space(space_id)]

    def is_busy(self, space_id: str) -> bool:
        return any(live.leased_until is not None for live in self._of_space(space_id))

    def _of_space(self, space_id: str) -> list[LiveBrowser]:
        return [self._live[one.id] for one in self._rows(space_id) if one.id in self._live]

    def _alias_of(self, runtime_id: str) -> str:
        runtime = self.runtimes.get(runtime_id)
        return "" if runtime is None else runtime.alias

    # Starting

    async def start_new(
        self, runtime: Runtime, options: BrowserOptions, *, space_version: int, run_id: str
    ) -> tuple[Runtime, LiveBrowser]:
        """Whatever is raised, nothing of it is left."""
        make = partial(self._open, options=options, run_id=run_id)
        return await self._start_new(runtime, make, space_version=space_version)

    async def start_again(
        self, runtime_id: str, change: Callable[[Runtime], Runtime], options: BrowserOptions, *, run_id: str
    ) -> tuple[Runtime, LiveBrowser]:
        """Raises Conflict when it runs already. When starting fails, the row says FAILED and why."""
        return await self._start_again(runtime_id, change, partial(self._open, options=options, run_id=run_id))

    async def _open(self, runtime: Runtime, *, options: BrowserOptions, run_id: str) -> LiveBrowser:
        await self.store.set_options(runtime.id, options)
        storage = None
        if options.profile is not None:
            storage = await self.profiles.claim(runtime.space_id, options.profile, runtime_id=runtime.id)
        who = RuntimeRef(
            runtime.id,
            runtime.space_id,
            runtime.alias,
            greases=True,
            blocked=options.block_hosts,
            proxy=options.proxy,
        )
        self.gateway.admit(who)
        space = self._spaces.get(runtime.space_id)
        if space is None:
            raise NotFound("No such space.", hint="space_list shows the spaces that you can see.")
        spec = ContextSpec(
            runtime_id=runtime.id,
            space_id=runtime.space_id,
            accept=lambda connection: self.gateway.accept(who, connection),
            limits=browser_limits(options.isolation, runtime.ceiling.limits, space.ceiling.limits),
            own_process=options.isolation is Isolation.PROCESS,
            viewport=options.viewport,
            locale=options.locale,
            timezone=options.timezone,
            storage=storage,
        )
        refusal = partial(self.gateway.refusal, runtime.id)
        live = LiveBrowser(await self.driver.open(spec), options, run_id=run_id, refusal=refusal)
        # Already among the live ones: what its first page fetches is its run's doing, and a failure closes it.
        self._live[runtime.id] = live
        try:
            async with asyncio.timeout(BEGIN_S):
                await live.begin()
        except TimeoutError:
            raise RuntimeUnavailable("The browser opened no page in time.", hint="Try again.") from None
        return live

    async def warm(self) -> None:
        """Where browsers were used before, the next launch need not wait. Never raises."""
        if self.runtimes.all(kind=self.kind):
            try:
                await self.driver.warm()
            except SpacesError as error:
                log.info("no browser is kept warm: %s", error.message)

    # Profiles

    def stirred(self, runtime_id: str) -> None:
        """An operation was done there: what it changed of a profile is kept within two seconds."""
        live = self._live.get(runtime_id)
        if live is not None:
            self.profiles.stirred(runtime_id, live)

    async def keep_profile(self, runtime_id: str) -> None:
        """What the browser remembers now is on the disk when this returns. Nothing happens without a profile."""
        live = self._live.get(runtime_id)
        if live is not None:
            await self.profiles.keep(runtime_id, live)

    async def _keep(self, runtime_id: str) -> None:
        try:
            await self.keep_profile(runtime_id)
        except Exception as error:  # noqa: BLE001 - Playwright's errors, a timeout, a full disk: it stops all the same
            log.warning("the profile of %s is kept as it was before: %s", runtime_id, type(error).__name__)

    # Stopping

    async def fail(self, runtime_id: str, *, reason: str) -> None:
        """Close it with all it holds; what it remembers is not kept. Idempotent."""
        await shielded(self._fail(runtime_id, reason))

    async def aclose(self) -> None:
        await super().aclose()
        await self.driver.aclose()

    async def _fail(self, runtime_id: str, reason: str) -> None:
        async with self._lock(runtime_id):
            runtime = self.runtimes.get(runtime_id)
            if runtime is None or runtime_id not in self._live:
                return
            await self._drop(runtime_id)
            await self._tell(runtime_id, RuntimeState.FAILED, reason=reason)
        self._announce(runtime.space_id)

    async def _closed(self, live: LiveBrowser) -> str:
        return await live.live.closed()

    async def _close(self, live: LiveBrowser) -> None:
        await live.live.close()

    async def _end(self, runtime_id: str, live: LiveBrowser | None) -> None:
        try:
            if live is not None:
                live.recording.discard()
                await self._unhear(live)
            await super()._end(runtime_id, live)
        finally:
            self.profiles.release(runtime_id)

    async def _broke_off(self, runtime_id: str, live: LiveBrowser) -> None:
        self.profiles.release(runtime_id)
        live.recording.discard()
        for opened in live.pages.values():
            opened.crashed = True
            opened.stirred.set()

    async def _unhear(self, live: LiveBrowser) -> None:
        """A browser that is shared goes on, and would tell of every download for ever."""
        try:
            async with asyncio.timeout(END_S):
                await live.downloads.end()
        except Exception as error:  # noqa: BLE001 - Playwright's Error: it may be gone, and its sessions with it
            log.debug("a session is gone already: %s", type(error).__name__)

    def _cut_off(self, runtime_id: str) -> None:
        self.gateway.detach(runtime_id)

    async def _reap(self) -> None:
        if removed := await self.driver.reap():
            log.info("reaped %d browsers that nobody owned", len(removed))
