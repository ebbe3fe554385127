"""The browser runtimes of this daemon: live ones by runtime id, their rows kept true, their profiles kept safe."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakValueDictionary

import anyio.lowlevel

from mcp_spaces.browser.keeping import Profiles
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.model import BrowserOptions, Isolation
from mcp_spaces.browser.port import BrowserDriver, ContextSpec, StorageState
from mcp_spaces.browser.secrets.fill_limits import FillLimits
from mcp_spaces.browser.sizes import browser_limits
from mcp_spaces.browser.store import BrowserStore
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.limits import Limits
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.core.scope import covers
from mcp_spaces.core.tasks import shielded, side_by_side
from mcp_spaces.errors import Conflict, NotFound, RuntimeUnavailable, SpacesError, WrongState
from mcp_spaces.network.model import RuntimeRef
from mcp_spaces.network.port import RuntimeGateway
from mcp_spaces.spaces.model import Runtime, RuntimeKind, RuntimeState, SpaceState
from mcp_spaces.spaces.port import Runtimes, Spaces

log = logging.getLogger(__name__)

END_S = 5.0
BEGIN_S = 30.0
"""How long a browser may take for its first page."""


class BrowserService:
    """Implements `RuntimeControl`. Call `reconcile` before the first call and `aclose` after the last one. One lock a
    runtime; `announce` is told the id of each space that changed."""

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
        self.store = store
        self.runtimes = runtimes
        self.driver = driver
        self._spaces = spaces
        self.gateway = gateway
        self.fills = FillLimits(clock)
        self._clock = clock
        self._announce = announce
        self.profiles = Profiles(store, alias_of=self._alias_of)
        self._live: dict[str, LiveBrowser] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Each for as long as somebody holds it or waits for it."""

    # What runs

    def started(self, runtime_id: str) -> LiveBrowser:
        """Raises NotFound, WrongState (stopped, failed or not yet started) or RuntimeUnavailable."""
        live = self._live.get(runtime_id)
        if live is not None:
            return live
        runtime = self.runtimes.get(runtime_id)
        if runtime is None:
            raise NotFound("No such browser.", hint="browser_list shows what there is.")
        if runtime.state in (RuntimeState.STARTING, RuntimeState.STOPPING):
            raise WrongState(f"Browser {runtime.alias} is {runtime.state}.", hint="Try again in a moment.")
        if runtime.state is RuntimeState.ACTIVE:
            raise RuntimeUnavailable(f"Browser {runtime.alias} is going.", hint="See browser_list in a moment.")
        why = f": {runtime.reason}" if runtime.reason else ""
        raise WrongState(
            f"Browser {runtime.alias} has {'failed' if runtime.state is RuntimeState.FAILED else 'stopped'}{why}.",
            hint=f"browser_launch alias={runtime.alias} starts it again.",
        )

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

    # Starting

    async def start_new(
        self, runtime: Runtime, options: BrowserOptions, *, space_version: int, run_id: str
    ) -> tuple[Runtime, LiveBrowser]:
        """Whatever is raised, nothing of it is left."""
        async with self._lock(runtime.id):
            # Once it is stored it is started or removed, also when the caller goes away in this very moment.
            await shielded(self.runtimes.add(runtime, space_version=space_version))
            try:
                await anyio.lowlevel.checkpoint_if_cancelled()
                await self.store.set_options(runtime.id, options)
                return await self._start(runtime, options, run_id)
            except BaseException:
                await shielded(self.runtimes.remove(runtime.id))
                self._announce(runtime.space_id)
                raise

    async def start_again(
        self, runtime_id: str, change: Callable[[Runtime], Runtime], options: BrowserOptions, *, run_id: str
    ) -> tuple[Runtime, LiveBrowser]:
        """Raises Conflict when it runs already. When starting fails, the row says FAILED and why."""
        async with self._lock(runtime_id):

            def claim(runtime: Runtime) -> Runtime:
                if runtime.holds:
                    raise Conflict(
                        f"Browser {runtime.alias} is {runtime.state} already.",
                        hint="Use it as it is, or choose another alias.",
                    )
                return change(runtime).model_copy(update={"state": RuntimeState.STARTING, "reason": ""})

            runtime = await shielded(self.runtimes.reactivate(runtime_id, claim))
            try:
                await anyio.lowlevel.checkpoint_if_cancelled()
                await self.store.set_options(runtime_id, options)
                return await self._start(runtime, options, run_id)
            except BaseException as error:
                reason = error.message if isinstance(error, SpacesError) else "its start was cancelled"
                await shielded(self.runtimes.set_state(runtime_id, RuntimeState.FAILED, reason=reason))
                self._announce(runtime.space_id)
                raise

    async def _start(self, runtime: Runtime, options: BrowserOptions, run_id: str) -> tuple[Runtime, LiveBrowser]:
        storage = None
        if options.profile is not None:
            storage = await self.profiles.claim(runtime.space_id, options.profile, runtime_id=runtime.id)
        try:
            return await self._begin(runtime, options, run_id, storage)
        except BaseException:
            await shielded(self._drop(runtime.id))
            raise

    async def _begin(
        self, runtime: Runtime, options: BrowserOptions, run_id: str, storage: StorageState | None
    ) -> tuple[Runtime, LiveBrowser]:
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
        live = LiveBrowser(await self.driver.open(spec), options, run_id=run_id)
        self._live[runtime.id] = live
        try:
            async with asyncio.timeout(BEGIN_S):
                await live.begin()
        except TimeoutError:
            raise RuntimeUnavailable("The browser opened no page in time.", hint="Try again.") from None
        self._watchers[runtime.id] = asyncio.create_task(self._watch(runtime, live))
        active = await self._activate(runtime)
        if self._live.get(runtime.id) is not live:
            raise RuntimeUnavailable(f"The browser ended: {await live.live.closed()}.", hint="Try again.")
        self._announce(runtime.space_id)
        return active, live

    def _alias_of(self, runtime_id: str) -> str:
        runtime = self.runtimes.get(runtime_id)
        return "" if runtime is None else runtime.alias

    async def _activate(self, runtime: Runtime) -> Runtime:
        """In one transaction with a last look at the space: it may have been stopped or narrowed meanwhile (T09)."""
        now = self._clock.now()
        active = await self.runtimes.reactivate(
            runtime.id, lambda row: row.model_copy(update={"state": RuntimeState.ACTIVE, "started_at": now})
        )
        space = self._spaces.get(runtime.space_id)
        if space is None or space.state is not SpaceState.RUNNING or not covers(space.ceiling, active.ceiling):
            raise Conflict(
                "The space was narrowed or stopped while the browser started.",
                hint="Repeat the call: it is judged by the new ceiling.",
            )
        return active

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

    async def _try_to_keep(self, runtime_id: str) -> None:
        try:
            await self.keep_profile(runtime_id)
        except Exception as error:  # noqa: BLE001 - Playwright's errors, a timeout, a full disk: it stops all the same
            log.warning("the profile of %s is kept as it was before: %s", runtime_id, type(error).__name__)

    # Stopping

    async def stop(self, runtime_id: str, *, reason: str) -> Runtime | None:
        """Free it; its profile stays. Idempotent: answers with the row, or None when there is none."""
        return await shielded(self._stop(runtime_id, reason))

    async def delete(self, runtime_id: str) -> None:
        """Idempotent. A profile belongs to the space, and stays."""
        await shielded(self._delete(runtime_id))

    async def fail(self, runtime_id: str, *, reason: str) -> None:
        """Close it with all it holds; what it remembers is not kept. Idempotent."""
        await shielded(self._fail(runtime_id, reason))

    async def stop_all(self, space_id: str, *, reason: str) -> None:
        await side_by_side([self.stop(one.id, reason=reason) for one in self._rows(space_id)])

    async def stop_beyond(self, space_id: str, limits: Limits, *, reason: str) -> None:
        wide = [one for one in self._rows(space_id) if one.holds and one.exceeds(limits)]
        await side_by_side([self.stop(one.id, reason=reason) for one in wide])

    async def delete_all(self, space_id: str) -> None:
        await side_by_side([self.delete(one.id) for one in self._rows(space_id)])

    async def reconcile(self) -> None:
        """At start: no browser of a former daemon is used again, its profiles are."""
        for runtime in self.runtimes.all(kind=RuntimeKind.BROWSER):
            if runtime.holds:
                await self.runtimes.set_state(runtime.id, RuntimeState.STOPPED, reason="the daemon restarted")
        try:
            removed = await self.driver.reap()
        except RuntimeUnavailable as error:
            log.warning("browsers of the last daemon are not reaped yet: %s", error.message)
        else:
            if removed:
                log.info("reaped %d browsers that nobody owned", len(removed))

    async def warm(self) -> None:
        """Where browsers were used before, the next launch need not wait. Never raises."""
        if self.runtimes.all(kind=RuntimeKind.BROWSER):
            try:
                await self.driver.warm()
            except SpacesError as error:
                log.info("no browser is kept warm: %s", error.message)

    async def aclose(self) -> None:
        with suppress(SpacesError):
            await side_by_side([self.stop(runtime_id, reason="the daemon stopped") for runtime_id in list(self._live)])
        await self.driver.aclose()

    async def _stop(self, runtime_id: str, reason: str) -> Runtime | None:
        async with self._lock(runtime_id):
            runtime = self.runtimes.get(runtime_id)
            if runtime is None or (runtime_id not in self._live and not runtime.holds):
                return runtime
            await self.runtimes.set_state(runtime_id, RuntimeState.STOPPING, reason=reason)
            await self._try_to_keep(runtime_id)
            await self._drop(runtime_id)
            stopped = await self.runtimes.set_state(runtime_id, RuntimeState.STOPPED, reason=reason)
        self._announce(runtime.space_id)
        return stopped

    async def _fail(self, runtime_id: str, reason: str) -> None:
        async with self._lock(runtime_id):
            runtime = self.runtimes.get(runtime_id)
            if runtime is None or runtime_id not in self._live:
                return
            await self._drop(runtime_id)
            await self.runtimes.set_state(runtime_id, RuntimeState.FAILED, reason=reason)
        self._announce(runtime.space_id)

    async def _delete(self, runtime_id: str) -> None:
        runtime = await self._stop(runtime_id, "it is being deleted")
        if runtime is not None:
            await self.runtimes.remove(runtime_id)
            self._announce(runtime.space_id)

    async def _drop(self, runtime_id: str) -> None:
        live = self._live.pop(runtime_id, None)
        watcher = self._watchers.pop(runtime_id, None)
        if watcher is not None:
            watcher.cancel()
        self.gateway.detach(runtime_id)
        if live is not None:
            live.recording.discard()
            await self._unhear(live)
            await live.live.close()
        self.profiles.release(runtime_id)

    async def _unhear(self, live: LiveBrowser) -> None:
        """A browser that is shared goes on, and would tell of every download for ever."""
        try:
            async with asyncio.timeout(END_S):
                await live.downloads.end()
        except Exception as error:  # noqa: BLE001 - Playwright's Error: it may be gone, and its sessions with it
            log.debug("a session is gone already: %s", type(error).__name__)

    async def _watch(self, runtime: Runtime, live: LiveBrowser) -> None:
        reason = await live.live.closed()
        if self._live.get(runtime.id) is not live:
            return
        del self._live[runtime.id]
        self._watchers.pop(runtime.id, None)
        self.gateway.detach(runtime.id)
        self.profiles.release(runtime.id)
        log.warning("browser %s ended by itself: %s", runtime.id, reason)
        live.recording.discard()
        for opened in live.pages.values():
            opened.crashed = True
            opened.stirred.set()
        with suppress(SpacesError):
            async with self._lock(runtime.id):
                # Somebody may have started it again meanwhile.
                if runtime.id not in self._live:
                    await self.runtimes.fail(runtime.id, reason=reason)
        await live.live.close()
        self._announce(runtime.space_id)

    def _rows(self, space_id: str) -> list[Runtime]:
        return self.runtimes.of_space(space_id, kind=RuntimeKind.BROWSER)

    def _of_space(self, space_id: str) -> list[LiveBrowser]:
        return [self._live[one.id] for one in self._rows(space_id) if one.id in self._live]

    def _lock(self, runtime_id: str) -> asyncio.Lock:
        return self._locks.setdefault(runtime_id, asyncio.Lock())
