"""The life that runtimes of every kind share: rows kept true to what really runs (decision 0019).

A row says STARTING before anything is made, ACTIVE once it works, STOPPING before anything is taken away. Whatever goes
wrong in between, nothing is left running that no row tells of.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

import anyio.lowlevel

from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.core.limits import Limits
from mcp_spaces.core.scope import Scope, covers
from mcp_spaces.core.tasks import shielded, side_by_side
from mcp_spaces.errors import Conflict, NotFound, RuntimeUnavailable, SpacesError, WrongState
from mcp_spaces.spaces.model import Runtime, RuntimeKind, RuntimeState, SpaceState, free_alias
from mcp_spaces.spaces.port import Runtimes, Spaces

ALIAS_ATTEMPTS = 5

L = TypeVar("L")

log = logging.getLogger(__name__)


class LiveRuntimes(ABC, Generic[L]):
    """The runtimes of one kind that this daemon runs: live objects `L` by runtime id. A kind says below how one of its
    own is taken away; how one is made comes with each start.

    Call `reconcile` before the first call and `aclose` after the last one. One lock a runtime: what starts, stops and
    deletes it comes one after the other, and whoever comes later finds the state that the one before left. `announce`
    is told the id of each space that changed.
    """

    kind: RuntimeKind
    again = "starts it again."
    """What the call that launches a stopped one does, for hints."""

    def __init__(self, *, runtimes: Runtimes, spaces: Spaces, clock: Clock, announce: Callable[[str], None]) -> None:
        self.runtimes = runtimes
        self._spaces = spaces
        self._clock = clock
        self._announce = announce
        self._live: dict[str, L] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Each for as long as somebody holds it or waits for it."""
        self._untold: dict[str, tuple[RuntimeState, str] | None] = {}
        """What rows have yet to say of runtimes that ended: state and reason, or that they go. The disk was full."""

    # What a kind knows of its own

    @abstractmethod
    async def _closed(self, live: L) -> str:
        """Returns, and why, once it has ended by itself."""

    @abstractmethod
    async def _close(self, live: L) -> None:
        """Free what it holds. Idempotent."""

    @abstractmethod
    async def _reap(self) -> None:
        """Remove what a former daemon left and no row tells of. Raises RuntimeUnavailable without an engine."""

    @abstractmethod
    def _cut_off(self, runtime_id: str) -> None:
        """Take its network away: the first thing to go."""

    async def _keep(self, runtime_id: str) -> None:
        """Before it is stopped: keep what is to outlive it. Never raises."""

    async def _end(self, runtime_id: str, live: L | None) -> None:
        """It is no longer among the live ones: close it, with all that hangs on it. None where it never came to live."""
        if live is not None:
            await self._close(live)

    async def _broke_off(self, runtime_id: str, live: L) -> None:
        """It ended by itself: tell those who wait for something there."""

    async def _erase_files(self, runtime_id: str) -> None:
        """It is being deleted: what a stop leaves."""

    def _not_ended(self) -> None:
        """Something of one that was to stop may be left."""

    # What runs

    def started(self, runtime_id: str) -> L:
        """Raises NotFound, WrongState (stopped, failed or not yet started) or RuntimeUnavailable."""
        live = self._live.get(runtime_id)
        if live is not None:
            return live
        runtime = self.row(runtime_id)
        name = f"{self.kind.capitalize()} {runtime.alias}"
        match runtime.state:
            case RuntimeState.STARTING | RuntimeState.STOPPING:
                raise WrongState(f"{name} is {runtime.state}.", hint="Try again in a moment.")
            case RuntimeState.ACTIVE:
                raise RuntimeUnavailable(f"{name} is going.", hint=f"See {self.kind}_list in a moment.")
            case RuntimeState.STOPPED | RuntimeState.FAILED:
                why = f": {runtime.reason}" if runtime.reason else ""
                raise WrongState(
                    f"{name} has {'failed' if runtime.state is RuntimeState.FAILED else 'stopped'}{why}.",
                    hint=f"{self.kind}_launch space={runtime.space_id} alias={runtime.alias} {self.again}",
                )

    def row(self, runtime_id: str) -> Runtime:
        """Raises NotFound."""
        runtime = self.runtimes.get(runtime_id)
        if runtime is None:
            raise NotFound(f"No such {self.kind}.", hint=f"{self.kind}_list shows what there is.")
        return runtime

    def named(self, space_id: str, alias: str) -> Runtime | None:
        """The runtime of the space with this alias, of whatever kind."""
        return next((one for one in self.runtimes.of_space(space_id) if one.alias == alias), None)

    # Starting

    def fresh(self, space_id: str, alias: str, *, ceiling: Scope, asked: tuple[str, ...], image: str = "") -> Runtime:
        """The row of one that is to be launched; nothing knows of it yet."""
        return Runtime(
            id=new_id("rt"),
            space_id=space_id,
            kind=self.kind,
            alias=alias,
            state=RuntimeState.STARTING,
            image=image,
            ceiling=ceiling,
            asked=asked,
            created_at=self._clock.now(),
        )

    async def first_free(
        self, space_id: str, default: str, start: Callable[[str], Awaitable[tuple[Runtime, L]]]
    ) -> tuple[Runtime, L]:
        """Start a new one as `default`, `default-2` … Raises what `start` does."""
        for _ in range(ALIAS_ATTEMPTS - 1):
            alias = self._free_alias(space_id, default)
            try:
                return await start(alias)
            except Conflict:
                # Unless another launch took it just now, it is about something else.
                if self._free_alias(space_id, default) == alias:
                    raise
        return await start(self._free_alias(space_id, default))

    def _free_alias(self, space_id: str, default: str) -> str:
        return free_alias({one.alias for one in self.runtimes.of_space(space_id)}, default)

    async def _start_new(
        self, runtime: Runtime, make: Callable[[Runtime], Awaitable[L]], *, space_version: int
    ) -> tuple[Runtime, L]:
        """Store a new runtime and start it. Whatever is raised, nothing of it is left."""
        async with self._lock(runtime.id):
            # Once it is stored it is started or erased, also when the caller goes away in this very moment.
            await shielded(self.runtimes.add(runtime, space_version=space_version))
            self._announce(runtime.space_id)
            try:
                return await self._start(runtime, make)
            except BaseException:
                await shielded(self._erase(runtime))
                raise

    async def _start_again(
        self, runtime_id: str, change: Callable[[Runtime], Runtime], make: Callable[[Runtime], Awaitable[L]]
    ) -> tuple[Runtime, L]:
        """Start a stopped or failed runtime. Raises Conflict when it is neither.

        When starting fails, the row says FAILED and why.
        """
        async with self._lock(runtime_id):

            def claim(runtime: Runtime) -> Runtime:
                if runtime.holds:
                    raise Conflict(
                        f"{self.kind.capitalize()} {runtime.alias} is {runtime.state} already.",
                        hint="Use it as it is, stop it first, or choose another alias.",
                    )
                return change(runtime).model_copy(update={"state": RuntimeState.STARTING, "reason": ""})

            runtime = await shielded(self.runtimes.reactivate(runtime_id, claim))
            self._announce(runtime.space_id)
            try:
                return await self._start(runtime, make)
            except BaseException as error:
                reason = error.message if isinstance(error, SpacesError) else "its start was cancelled"
                with suppress(SpacesError):
                    await shielded(self._tell(runtime_id, RuntimeState.FAILED, reason=reason))
                self._announce(runtime.space_id)
                raise

    async def _start(self, runtime: Runtime, make: Callable[[Runtime], Awaitable[L]]) -> tuple[Runtime, L]:
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
            live = await make(runtime)
            self._live[runtime.id] = live
            self._watchers[runtime.id] = asyncio.create_task(self._watch(runtime, live))
            active = await self._activate(runtime)
            if self._live.get(runtime.id) is not live:
                raise RuntimeUnavailable(
                    f"The {self.kind} ended as it started: {await self._closed(live)}.",
                    hint="Try again; see mcp-spaces doctor.",
                )
        except BaseException:
            await shielded(self._drop(runtime.id))
            raise
        self._announce(runtime.space_id)
        return active, live

    async def _activate(self, runtime: Runtime) -> Runtime:
        """In one transaction with a last look at the space: it may have been stopped or narrowed meanwhile (T09)."""
        now = self._clock.now()
        active = await self.runtimes.reactivate(
            runtime.id, lambda row: row.model_copy(update={"state": RuntimeState.ACTIVE, "started_at": now})
        )
        space = self._spaces.get(runtime.space_id)
        if space is None or space.state is not SpaceState.RUNNING or not covers(space.ceiling, active.ceiling):
            raise Conflict(
                f"The space was narrowed or stopped while the {self.kind} started.",
                hint="Repeat the call: it is judged by the new ceiling.",
            )
        return active

    # Stopping

    async def stop(self, runtime_id: str, *, reason: str) -> None:
        """Free it; what a kind keeps stays. Idempotent; without a row nothing happens."""
        await shielded(self._stop(runtime_id, reason))

    async def delete(self, runtime_id: str) -> None:
        """It, its row, and what no other runtime can use. Idempotent."""
        await shielded(self._delete(runtime_id))

    async def stop_all(self, space_id: str, *, reason: str) -> None:
        await side_by_side([self.stop(one.id, reason=reason) for one in self._rows(space_id)])

    async def stop_beyond(self, space_id: str, limits: Limits, *, reason: str) -> None:
        wide = [one for one in self._rows(space_id) if one.holds and one.exceeds(limits)]
        await side_by_side([self.stop(one.id, reason=reason) for one in wide])

    async def delete_all(self, space_id: str) -> None:
        await side_by_side([self.delete(one.id) for one in self._rows(space_id)])

    async def reconcile(self) -> None:
        """At start: nothing that a former daemon ran is used again; what it kept is."""
        for runtime in self.runtimes.all(kind=self.kind):
            if runtime.state is RuntimeState.STARTING and runtime.started_at is None:
                # Its first start: nobody was told of it, and it may have no files to start on.
                await self.runtimes.remove(runtime.id)
            elif runtime.holds:
                await self.runtimes.set_state(runtime.id, RuntimeState.STOPPED, reason="the daemon restarted")
        try:
            await self._reap()
        except RuntimeUnavailable as error:
            # Spaces and records work without an engine.
            log.warning("what the last daemon left of each %s is not reaped yet: %s", self.kind, error.message)

    async def settle(self) -> None:
        """Raises DiskFull, Busy while what ended can still not be recorded."""
        for runtime_id in list(self._untold):
            async with self._lock(runtime_id):
                runtime = self.runtimes.get(runtime_id)
                # Somebody may have ended it once more, and started it again since.
                if runtime_id in self._untold and runtime and runtime.holds and runtime_id not in self._live:
                    if told := self._untold[runtime_id]:
                        await self.runtimes.set_state(runtime_id, told[0], reason=told[1])
                    else:
                        await self.runtimes.remove(runtime_id)
                    self._announce(runtime.space_id)
                self._untold.pop(runtime_id, None)

    async def aclose(self) -> None:
        """Stop everything; the rows say so, as far as they can still be written."""
        with suppress(SpacesError):
            await side_by_side([self.stop(runtime_id, reason="the daemon stopped") for runtime_id in list(self._live)])

    async def _stop(self, runtime_id: str, reason: str) -> None:
        async with self._lock(runtime_id):
            runtime = self.runtimes.get(runtime_id)
            if runtime is None or (runtime_id not in self._live and not runtime.holds):
                return
            await self.runtimes.set_state(runtime_id, RuntimeState.STOPPING, reason=reason)
            await self._keep(runtime_id)
            try:
                await self._drop(runtime_id)
            except SpacesError as error:
                self._not_ended()
                told = f"it could not be stopped: {error.message}"
                await self._tell(runtime_id, RuntimeState.FAILED, reason=told)
                raise
            await self._tell(runtime_id, RuntimeState.STOPPED, reason=reason)
        self._announce(runtime.space_id)

    async def _delete(self, runtime_id: str) -> None:
        await self._stop(runtime_id, "it is being deleted")
        async with self._lock(runtime_id):
            runtime = self.runtimes.get(runtime_id)
            if runtime is not None:
                await self._erase(runtime)

    async def _erase(self, runtime: Runtime) -> None:
        """The files first: a row without files is deleted again, files without a row are only found by `_reap`."""
        try:
            await self._erase_files(runtime.id)
        finally:
            self._untold[runtime.id] = None
            await self.runtimes.remove(runtime.id)
            del self._untold[runtime.id]
            self._announce(runtime.space_id)

    async def _tell(self, runtime_id: str, state: RuntimeState, *, reason: str) -> None:
        """The last word on one that is not live any more: `settle` has it where this fails."""
        self._untold[runtime_id] = (state, reason)
        await self.runtimes.set_state(runtime_id, state, reason=reason)
        del self._untold[runtime_id]

    async def _drop(self, runtime_id: str) -> None:
        live = self._live.pop(runtime_id, None)
        watcher = self._watchers.pop(runtime_id, None)
        if watcher is not None:
            watcher.cancel()
        self._cut_off(runtime_id)
        await self._end(runtime_id, live)

    async def _watch(self, runtime: Runtime, live: L) -> None:
        reason = await self._closed(live)
        if self._live.get(runtime.id) is not live:
            return
        del self._live[runtime.id]
        self._watchers.pop(runtime.id, None)
        self._cut_off(runtime.id)
        log.warning("%s %s ended by itself: %s", self.kind, runtime.id, reason)
        await self._broke_off(runtime.id, live)
        with suppress(SpacesError):
            async with self._lock(runtime.id):
                # Somebody may have started it again meanwhile.
                if runtime.id not in self._live:
                    self._untold[runtime.id] = (RuntimeState.FAILED, reason)
                    await self.runtimes.fail(runtime.id, reason=reason)
                    del self._untold[runtime.id]
        with suppress(SpacesError):
            await self._close(live)
        self._announce(runtime.space_id)

    def _rows(self, space_id: str) -> list[Runtime]:
        return self.runtimes.of_space(space_id, kind=self.kind)

    def _lock(self, runtime_id: str) -> asyncio.Lock:
        return self._locks.setdefault(runtime_id, asyncio.Lock())
