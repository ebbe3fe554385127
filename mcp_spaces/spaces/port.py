"""What the rooms of runtimes and the room of spaces need from each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mcp_spaces.core.caller import Caller
from mcp_spaces.core.limits import Limits
from mcp_spaces.spaces.model import Runtime, RuntimeKind, RuntimeState, Space


class Runtimes(Protocol):
    """The runtime rows of all spaces."""

    async def add(self, runtime: Runtime, *, space_version: int) -> Runtime:
        """In one transaction: the space still runs and has this version, the alias is free, and the space's limits
        hold one more of this size. Raises Conflict (with `retryable` work to do: the space changed), WrongState or
        QuotaExceeded."""

    async def change(self, runtime_id: str, change: Callable[[Runtime], Runtime]) -> Runtime:
        """Read, change and store in one transaction. Raises NotFound; whatever `change` raises undoes it."""

    async def reactivate(self, runtime_id: str, change: Callable[[Runtime], Runtime]) -> Runtime:
        """`change` for a runtime that starts again: the space's limits are checked as for a new one."""

    async def set_state(self, runtime_id: str, state: RuntimeState, *, reason: str) -> Runtime:
        """500 characters of the reason are kept. Raises NotFound."""

    async def fail(self, runtime_id: str, *, reason: str) -> None:
        """It ended by itself. One that holds nothing any more keeps the state and the reason that whoever stopped it
        has written. Raises NotFound."""

    async def remove(self, runtime_id: str) -> None: ...

    def get(self, runtime_id: str) -> Runtime | None: ...

    def of_space(self, space_id: str, *, kind: RuntimeKind | None = None) -> list[Runtime]:
        """In the order of their launch."""

    def all(self, *, kind: RuntimeKind) -> list[Runtime]: ...


class RuntimeControl(Protocol):
    """How spaces act on the runtimes of one kind."""

    async def stop_all(self, space_id: str, *, reason: str) -> None:
        """Free every container or browser of the space; files and profiles stay. Idempotent."""

    async def stop_beyond(self, space_id: str, limits: Limits, *, reason: str) -> None:
        """Stop those that were made larger than a lowered limit permits."""

    async def delete_all(self, space_id: str) -> None:
        """Everything of the space goes for good. Idempotent."""

    async def settle(self) -> None:
        """Record which runtimes have ended, where there was no room for it then. Raises DiskFull, Busy."""

    def is_busy(self, space_id: str) -> bool:
        """Whether something runs there without a call, such as a background job."""


class Spaces(Protocol):
    """What other rooms may ask about spaces."""

    def get(self, space_id: str) -> Space | None: ...

    def may_see(self, caller: Caller, space_id: str) -> bool:
        """Whether the space exists and this caller may know of it. A key's own limits count."""

    def resolve(self, caller: Caller, reference: str) -> Space:
        """By id, by a name that is unique among what the caller sees, or `default`. Raises NotFound or Ambiguous."""

    def visible(self, caller: Caller, *, after: str = "", limit: int = 1000) -> list[Space]:
        """The spaces that this caller may know of, by id, `after` an id."""
