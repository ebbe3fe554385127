"""What the server needs of the app: the port that the composition root fits and the tests fake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mcp_spaces.core.caller import Caller
    from mcp_spaces.core.changes import Changes
    from mcp_spaces.core.operation import AnyOperation
    from mcp_spaces.core.pipeline import Pipeline


class LinkedFile(Protocol):
    """What a one-time link stands for."""

    @property
    def file_name(self) -> str: ...

    @property
    def content_type(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def chunks(self) -> AsyncIterator[bytes]: ...


class Bindings(Protocol):
    """Where a secret may go."""

    @property
    def origins(self) -> tuple[str, ...]: ...

    @property
    def origin_patterns(self) -> tuple[str, ...]: ...

    @property
    def headers(self) -> tuple[str, ...]: ...


class EntryRequest(Protocol):
    """What the page for a secret shows. Names and reason are what others wrote."""

    @property
    def asked_by(self) -> str: ...

    @property
    def space(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def bindings(self) -> Bindings: ...

    @property
    def reason(self) -> str: ...

    @property
    def version(self) -> int:
        """The one that is there already; 0 where there is none."""
        ...

    @property
    def fields(self) -> tuple[str, ...]: ...


class Entries(Protocol):
    """Secrets that people are asked for, each by the token in its page's address."""

    address: Callable[[], Awaitable[str]] | None
    """Where pages are reached, such as http://127.0.0.1:4711; the server fills it in."""

    def shown(self, token: str) -> EntryRequest:
        """Raises NotFound: never issued, answered or over; the same text for all."""
        ...

    async def enter(self, token: str, given: Mapping[str, str]) -> EntryRequest:
        """Raises NotFound as `shown` does; InvalidInput where it may be tried again; Conflict; WrongState."""
        ...

    async def refuse(self, token: str) -> None: ...

    async def wait_while_open(self) -> None:
        """Until no page is open."""
        ...


class Application(Protocol):
    @property
    def pipeline(self) -> Pipeline: ...

    @property
    def changes(self) -> Changes: ...

    @property
    def entries(self) -> Entries: ...

    def permitted(self, caller: Caller) -> tuple[AnyOperation, ...]:
        """The operations that this caller may call somewhere, in catalogue order."""
        ...

    def local_agent(self) -> Caller:
        """The principal of whoever connects to the agents' socket without a key."""
        ...

    def operator(self) -> Caller:
        """The principal of whoever connects to the operator's socket."""
        ...

    async def authenticate(self, key: str) -> Caller:
        """Raises Unauthenticated: not a key, expired or revoked; the same text for all."""
        ...

    def current(self, caller: Caller) -> Caller:
        """The same caller with the scope that it has by now. Raises Unauthenticated when its key is gone."""
        ...

    async def still_valid(self, caller: Caller) -> bool:
        """Whether the key that `caller` showed is neither expired nor revoked. True where there was none."""
        ...

    async def redeem_link(self, token: str) -> LinkedFile:
        """The file behind a one-time link, which is used up by this. Raises NotFound."""
        ...
