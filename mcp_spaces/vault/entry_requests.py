"""Secrets that agents asked people for: each has a page of its own, which works once and for a short time.

They are kept in memory alone. A restart forgets what is still open: the address then leads nowhere, and the agent,
which waits for it, is told that there is no such request.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Protocol

import anyio

from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.errors import Conflict, InvalidInput, NotFound, QuotaExceeded
from mcp_spaces.vault.keeping import Keeping
from mcp_spaces.vault.model import FIELDS, NOTES, Bindings, Entry, Kind
from mcp_spaces.vault.wanted import Wanted, amended, wanted_entry

LIFETIME_S: Final = 600.0
OPEN_MAX: Final = 10
"""Requests of one space that wait at a time: more would only wear people out (threat T19)."""
REMEMBERED_MAX: Final = 500
ATTEMPTS_MAX: Final = 10
"""Forms that did not fit, such as a seed that is none; then the page is over."""


class EntryState(StrEnum):
    OPEN = "open"
    ENTERED = "entered"
    REFUSED = "refused"
    """A person said no on the page."""
    OVER = "over"
    """Nobody came in time."""


class Events(Protocol):
    """Where it is noted what became of a request: core's Journal."""

    async def emit(self, run_id: str, event_type: str, body: Mapping[str, object]) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRequest:
    """What the page shows. `asked_by` and `space` are names; `reason` is the agent's own words."""

    id: str
    run_id: str
    principal_id: str
    asked_by: str
    space_id: str
    space: str
    path: str
    kind: Kind
    bindings: Bindings
    reason: str
    version: int
    """The one that there is already; 0 where there is none."""
    expires_at: float
    state: EntryState = EntryState.OPEN
    stored_version: int | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """What the page asks for."""
        return tuple(name for name in FIELDS[self.kind] if name != NOTES)


@dataclass(slots=True)
class _Asked:
    request: EntryRequest
    token_sha256: str
    attempts: int = 0
    taken: bool = False
    """A form is being stored."""
    settled: anyio.Event = field(default_factory=anyio.Event)


class EntryRequests:
    """`address` says where pages are reached, and sees to it that they are; without it, an address is a path alone."""

    def __init__(self, keeping: Keeping, events: Events, clock: Clock) -> None:
        self.address: Callable[[], Awaitable[str]] | None = None
        self._keeping = keeping
        self._events = events
        self._clock = clock
        self._by_id: dict[str, _Asked] = {}
        self._changed = anyio.Event()

    async def ask(self, request: EntryRequest) -> str:
        """The page's address. Raises QuotaExceeded, or Conflict: the path holds another kind, or goes elsewhere."""
        open_here = [one for one in self._open() if one.request.space_id == request.space_id]
        if len(open_here) >= OPEN_MAX:
            raise QuotaExceeded(
                f"{OPEN_MAX} secrets are asked for in this space already.", hint="Wait until people have answered."
            )
        token = f"msp_{new_id('ent').removeprefix('ent_')}_{secrets.token_urlsafe(32)}"
        self._forget()
        self._by_id[request.id] = _Asked(request, _hash(token))
        try:
            base = "" if self.address is None else await self.address()
        except BaseException:
            del self._by_id[request.id]
            raise
        return f"{base}/entries/{token}"

    def shown(self, token: str) -> EntryRequest:
        """What the page of an open request shows. Raises NotFound, with one text for all others."""
        return self._asked(token).request

    async def enter(self, token: str, given: Mapping[str, str]) -> EntryRequest:
        """Store what a person typed; the page is over then.

        Raises NotFound; InvalidInput where a field does not fit, which may be tried again; Conflict where the path has
        meanwhile become another secret.
        """
        asked = self._asked(token)
        request = asked.request
        asked.attempts += 1
        if asked.attempts > ATTEMPTS_MAX:
            await self._settle(asked, EntryState.REFUSED)
            raise _no_such_page()
        # Nobody else may come between here and the vault's answer.
        asked.taken = True
        try:
            entry = await self._store(request, {name: text for name, text in given.items() if text})
        finally:
            asked.taken = False
        await self._settle(asked, EntryState.ENTERED, stored_version=entry.version)
        return asked.request

    async def refuse(self, token: str) -> None:
        """Raises NotFound."""
        await self._settle(self._asked(token), EntryState.REFUSED)

    async def outcome(self, request_id: str, *, space_id: str, timeout_s: float) -> EntryRequest:
        """How it stands, once it is settled or the time is over. Raises NotFound, also for another space's."""
        asked = self._by_id.get(request_id)
        if asked is None or asked.request.space_id != space_id:
            raise NotFound("No such request.", hint="Requests are forgotten when the daemon restarts: ask again.")
        left_s = math.inf if asked.taken else asked.request.expires_at - self._clock.now()
        with anyio.move_on_after(max(min(timeout_s, left_s), 0)):
            await asked.settled.wait()
        self._forget()
        return asked.request

    async def wait_while_open(self) -> None:
        """Until no request is open."""
        while still := [one.request.expires_at for one in self._open()]:
            self._changed = anyio.Event()
            with anyio.move_on_after(max(max(still) - self._clock.now(), 0.01)):
                await self._changed.wait()

    async def _store(self, request: EntryRequest, typed: Mapping[str, str]) -> Entry:
        """What was left empty stays as it is, so that a new password does not take the seed with it."""
        now = self._clock.now()

        def over(before: Entry, fields: Mapping[str, str]) -> Wanted:
            check_same(request, before)
            if not typed:
                raise InvalidInput("Nothing was entered.", hint="Fill in what changes, or refuse.")
            return amended(before, fields, given=typed, metadata={}, now=now)

        def new() -> Wanted:
            return wanted_entry(request.path, request.kind, typed, label=None, bindings=request.bindings, now=now)

        return await self._keeping.amend(request.path, over, run_id=request.run_id, action="enter", otherwise=new)

    def _asked(self, token: str) -> _Asked:
        hashed = _hash(token)
        for asked in self._open():
            if asked.token_sha256 == hashed and not asked.taken:
                return asked
        raise _no_such_page()

    def _open(self) -> Iterator[_Asked]:
        now = self._clock.now()
        for asked in self._by_id.values():
            if asked.request.state is EntryState.OPEN and asked.request.expires_at > now:
                yield asked

    def _forget(self) -> None:
        """Tell the late ones that they are, and drop the oldest that are settled."""
        now = self._clock.now()
        for asked in self._by_id.values():
            # What is being stored came in time.
            if asked.request.state is EntryState.OPEN and asked.request.expires_at <= now and not asked.taken:
                asked.request = replace(asked.request, state=EntryState.OVER)
                asked.settled.set()
        settled = [one for one, asked in self._by_id.items() if asked.request.state is not EntryState.OPEN]
        for request_id in settled[: max(len(self._by_id) - REMEMBERED_MAX, 0)]:
            del self._by_id[request_id]

    async def _settle(self, asked: _Asked, state: EntryState, *, stored_version: int | None = None) -> None:
        asked.request = request = replace(asked.request, state=state, stored_version=stored_version)
        asked.settled.set()
        self._changed.set()
        body = {"request": request.id, "path": request.path, "state": state, "version": stored_version}
        await self._events.emit(request.run_id, "secret.entry", body)


def check_same(request: EntryRequest, before: Entry | None) -> None:
    """Raises Conflict: what is there may be changed, and not turned into something that goes elsewhere."""
    if before is not None and (before.kind, before.bindings) != (request.kind, request.bindings):
        raise Conflict(
            f"{request.path} is there already, as another kind or with other origins.",
            hint="Ask for it with those of vault_describe, or for another path.",
        )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _no_such_page() -> NotFound:
    return NotFound("This page is over, or never was.", hint="Pages work once and for ten minutes; ask again.")
