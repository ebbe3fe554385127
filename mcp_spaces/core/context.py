"""What a handler is given: who calls, where, under which scope and policy, and the app's services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from mcp_spaces.core.caller import Caller
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.journal import Event
from mcp_spaces.core.place import RuntimePlace, SpacePlace
from mcp_spaces.core.policy import Policy
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.core.scope import Scope

S = TypeVar("S")

Progress = Callable[[float, float | None, str], Awaitable[None]]
"""`(done, total or None, message)`; any unit, growing."""


async def no_progress(_done: float, _total: float | None, _message: str) -> None:
    """Nobody listens."""


class Services:
    """The app's long-lived objects, by their type. Filled once: by the composition root, and the pipeline adds itself."""

    def __init__(self) -> None:
        self._by_type: dict[type[Any], Any] = {}

    def provide(self, kind: type[S], service: S) -> None:
        self._by_type[kind] = service

    def use(self, kind: type[S]) -> S:
        return cast(S, self._by_type[kind])


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One call, decided and under way. `scope` is caller ∩ space ∩ runtime ∩ call."""

    caller: Caller
    run_id: str
    scope: Scope
    policy: Policy
    services: Services
    clock: Clock
    redactor: Redactor
    progress: Progress
    events: list[Event]
    place: SpacePlace | None = None
    runtime_place: RuntimePlace | None = None

    @property
    def space(self) -> SpacePlace:
        """The space of an operation whose input is InSpace."""
        assert self.place is not None  # noqa: S101 - the pipeline resolved it before it made this context
        return self.place

    @property
    def runtime(self) -> RuntimePlace:
        """The runtime of an operation whose input is InRuntime."""
        assert self.runtime_place is not None  # noqa: S101 - as above
        return self.runtime_place

    def use(self, kind: type[S]) -> S:
        return self.services.use(kind)

    def note(self, event_type: str, body: Mapping[str, Any]) -> None:
        """One more typed event of this run; redacted, and on the disk with its outcome."""
        self.events.append(Event(event_type, self.clock.now(), self.redactor.value(body)))
