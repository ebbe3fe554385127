"""Up, down, delete, and the reaper that does the last two when a space's time is over."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anyio

from mcp_spaces.core.active import ActiveCall, ActiveCalls
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.tasks import shielded
from mcp_spaces.errors import SpacesError, WrongState
from mcp_spaces.spaces.model import Space, SpaceState
from mcp_spaces.spaces.port import RuntimeControl, Runtimes
from mcp_spaces.spaces.store import SpaceStore
from mcp_spaces.storage.port import StorageControl

log = logging.getLogger(__name__)

LONGEST_NAP_S = 60.0
"""The reaper wakes at the next deadline; no later than this, because a machine's clock may jump."""


class Lifecycle:
    """`announce` is told the id of each space that changed; `announce_listed` each one that came, went or has another
    name, which is what lists of spaces show."""

    def __init__(
        self,
        *,
        spaces: SpaceStore,
        runtimes: Runtimes,
        controls: Sequence[RuntimeControl],
        storage: StorageControl,
        active: ActiveCalls,
        clock: Clock,
        announce: Callable[[str], None],
        announce_listed: Callable[[Space], None],
    ) -> None:
        self._spaces = spaces
        self._runtimes = runtimes
        self._controls = controls
        self._storage = storage
        self._active = active
        self._clock = clock
        self._announce = announce
        self._announce_listed = announce_listed
        self._wake = anyio.Event()

    def changed(self, space: Space) -> None:
        """Tell who listens, and look at the deadlines again."""
        self._announce(space.id)
        self._wake.set()

    def listed(self, space: Space) -> None:
        """`changed` for a space that was created, or has another name."""
        self._announce_listed(space)
        self._wake.set()

    async def up(self, space_id: str) -> Space:
        return await shielded(self._up(space_id))

    async def _up(self, space_id: str) -> Space:
        space = await self._set_state(space_id, SpaceState.RUNNING)
        self.changed(space)
        return space

    async def down(self, space_id: str, *, reason: str) -> Space:
        """The state first, so that nothing starts while runtimes are being freed; then every call inside is ended."""
        return await shielded(self._down(space_id, reason))

    async def _down(self, space_id: str, reason: str) -> Space:
        space = await self._set_state(space_id, SpaceState.STOPPED)
        # Open connections do not wait for the last call to end.
        self._announce(space_id)
        await self._active.end_where(lambda call: _is_inside(call, space_id), reason=reason)
        for control in self._controls:
            await control.stop_all(space_id, reason=reason)
        self.changed(space)
        return space

    async def stop_beyond(self, space: Space, *, reason: str) -> None:
        """What runs is not made smaller: where it is larger than the space's limits are now, it ends."""
        for control in self._controls:
            await shielded(control.stop_beyond(space.id, space.ceiling.limits, reason=reason))

    async def delete(self, space_id: str, *, force: bool) -> None:
        """Everything that belongs to the space alone. A kill in the middle leaves a stopped space to delete again.

        Raises WrongState while runtimes are active, unless `force`.
        """
        active = [one.alias for one in self._runtimes.of_space(space_id) if one.holds]
        if active and not force:
            raise WrongState(
                f"Runtimes are active: {', '.join(active)}.", hint="Stop them (space_down), or delete with force=true."
            )
        # Read while it is there: only its owner is to hear that it went.
        space = await self.down(space_id, reason="the space is being deleted")
        with anyio.CancelScope(shield=True):
            for control in self._controls:
                await control.delete_all(space_id)
            await self._storage.delete_namespace(space_id)
            await self._spaces.remove(space_id)
            # A stopped space still takes files: whoever found it before its row was gone may have left one more.
            await self._active.end_where(lambda call: _is_inside(call, space_id), reason="the space was deleted")
            await self._storage.delete_namespace(space_id)
        self._announce_listed(space)

    async def reap_forever(self) -> None:
        """Delete what expired and stop what idles, at the moment it is due; record what ended on a full disk."""
        while True:
            self._wake = anyio.Event()
            nap = await self._reap()
            with anyio.move_on_after(nap):
                await self._wake.wait()

    async def _reap(self) -> float:
        """Do what is due; returns the seconds until the next deadline. What fails is tried again, and holds nothing
        else up."""
        now, deadlines = self._clock.now(), [self._clock.now() + LONGEST_NAP_S]
        for control in self._controls:
            await _tried("the end of a runtime is not recorded", control.settle())
        for space_id, expires_at in self._spaces.expiries(until=now + LONGEST_NAP_S):
            if expires_at > now:
                deadlines.append(expires_at)
                break
            log.info("space %s has expired", space_id)
            await _tried(f"space {space_id} could not be deleted", self._expire(space_id))
        for space_id in self._spaces.running_ids():
            deadlines.append(await _tried(f"space {space_id} is not judged", self._idle(space_id)))
        deadlines.append(await _tried("files do not expire", self._storage.expire(now)))
        return min(max(min(deadlines) - self._clock.now(), 0.0), LONGEST_NAP_S)

    async def _expire(self, space_id: str) -> None:
        await self.delete(space_id, force=True)

    async def _idle(self, space_id: str) -> float | None:
        """Stop the space if it idled; else when it will have, None for never."""
        space = self._spaces.get(space_id)
        idle_at = None if space is None else self._idle_at(space)
        if idle_at is None or idle_at > self._clock.now():
            return idle_at
        log.info("space %s idled", space_id)
        await self.down(space_id, reason="nobody used the space")
        return None

    def _idle_at(self, space: Space) -> float | None:
        """When the space will have idled, by its last call; None while it is used or has no such limit."""
        timeout = space.requested.idle_timeout_s
        if timeout is None:
            return None
        busy = any(control.is_busy(space.id) for control in self._controls)
        if busy or self._active.any_in(space.id):
            return self._clock.now() + timeout
        last = self._spaces.last_used_at(space.id) or space.created_at
        return max(last, space.created_at) + timeout

    async def _set_state(self, space_id: str, state: SpaceState) -> Space:
        def change(space: Space) -> Space:
            return space if space.state is state else space.model_copy(update={"state": state})

        return await self._spaces.change(space_id, change)


async def _tried(failing: str, work: Coroutine[Any, Any, float | None]) -> float:
    """When `work` is to be done again. One bad space, or a file that cannot be removed, is no reason to keep all others."""
    try:
        next_at = await work
    except Exception as error:
        log.warning("%s, and is tried again: %s", failing, error, exc_info=not isinstance(error, SpacesError))
        return math.inf
    return math.inf if next_at is None else next_at


def _is_inside(call: ActiveCall, space_id: str) -> bool:
    """Calls on the space itself are left alone: two that stop it would wait for each other."""
    return call.run.space_id == space_id and not call.run.operation.startswith("space.")
