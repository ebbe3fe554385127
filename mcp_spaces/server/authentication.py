"""Who is calling: one visitor per local connection or HTTP request, carried by the task's context.

Requests of one connection run in tasks of their own, and the SDK hands each the context of the task that received
it. So identity is never an argument that a handler could mix up, and never what a client says of itself.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from mcp_spaces.errors import SpacesError
from mcp_spaces.server.limits import Lane

if TYPE_CHECKING:
    from mcp_spaces.core.caller import Caller
    from mcp_spaces.server.port import Application

log = logging.getLogger(__name__)


def _unchanged(caller: Caller) -> Caller:
    return caller


@dataclass(frozen=True, slots=True)
class Visitor:
    """A caller on one transport. `lane` counts what it does at a time: a local connection, or a key over HTTP.

    `today` gives the caller with the scope that it has by now: a local connection may be days old.
    """

    came_as: Caller
    lane: Lane
    today: Callable[[Caller], Caller] = _unchanged

    @property
    def caller(self) -> Caller:
        """Raises Unauthenticated once its key has ended."""
        return self.today(self.came_as)


_VISITOR: ContextVar[Visitor] = ContextVar("mcp_spaces_visitor")


def visitor() -> Visitor:
    """Who the current request comes from. LookupError outside of one: nothing is served without a caller."""
    return _VISITOR.get()


@contextmanager
def visited_by(who: Visitor) -> Iterator[None]:
    """Serve what happens inside, and the tasks that it starts, for this visitor."""
    token = _VISITOR.set(who)
    try:
        yield
    finally:
        _VISITOR.reset(token)


@dataclass(eq=False, slots=True)
class Guard:
    """Ends connections and streams whose key has ended (threat T06). Calls are ended by the pipeline itself.

    A revocation comes as a change of kind `keys`; expiry is looked for every `check_s` while anything is open.
    """

    app: Application
    check_s: float
    _followed: dict[object, tuple[Caller, Callable[[], object]]] = field(default_factory=dict)
    _changed: anyio.Event = field(default_factory=anyio.Event)
    _look: bool = False

    @contextmanager
    def following(self, caller: Caller) -> Iterator[anyio.CancelScope]:
        """Cancel what happens inside once the caller's key has ended."""
        with anyio.CancelScope() as scope:
            stop = self.follow(caller, scope.cancel)
            try:
                yield scope
            finally:
                stop()

    def follow(self, caller: Caller, end: Callable[[], object]) -> Callable[[], None]:
        """Call `end` once the caller's key has ended, unless what this returns is called before."""
        if caller.key_id is None:
            return lambda: None
        name = object()
        self._followed[name] = (caller, end)
        self._changed.set()

        def stop() -> None:
            self._followed.pop(name, None)

        return stop

    def look_now(self) -> None:
        self._look = True
        self._changed.set()

    async def run(self) -> None:
        look_at = math.inf
        while True:
            # Nothing is followed most of the time, and then there is nothing to wake up for. Whoever comes later does
            # not put off the next look.
            look_at = min(look_at, anyio.current_time() + self.check_s) if self._followed else math.inf
            with anyio.CancelScope(deadline=look_at):
                await self._changed.wait()
            self._changed = anyio.Event()
            if self._look or anyio.current_time() >= look_at:
                self._look, look_at = False, math.inf
                await self._end_invalid()

    async def _end_invalid(self) -> None:
        valid: dict[str | None, bool] = {}  # a key may have many sessions and streams
        for caller, end in list(self._followed.values()):
            if caller.key_id not in valid:
                valid[caller.key_id] = await self._is_valid(caller)
            if not valid[caller.key_id]:
                end()

    async def _is_valid(self, caller: Caller) -> bool:
        """A key that cannot be read, since its row was damaged, opens nothing; all others go on."""
        try:
            return await self.app.still_valid(caller)
        except SpacesError as error:
            log.warning("key %s cannot be read, so what it opened ends: %s", caller.key_id, error.message)
            return False
