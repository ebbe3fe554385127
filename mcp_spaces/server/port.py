"""What the server needs of the app: the port that the composition root fits and the tests fake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mcp_spaces.core.caller import Caller
    from mcp_spaces.core.operation import AnyOperation
    from mcp_spaces.core.pipeline import Pipeline


class Change(Protocol):
    """Something that clients may want to know: who may see it, and what to read again."""

    @property
    def kind(self) -> str:
        """`tools`, `context`, `resources` or `keys`."""
        ...

    @property
    def space_id(self) -> str | None:
        """The space that changed; None: all of them, or none in particular."""
        ...

    @property
    def principal_id(self) -> str | None:
        """The only principal that it concerns; None: everybody who may see the space."""
        ...


class Changes(Protocol):
    def subscribe(self) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """What is published from now on. A subscriber that does not keep up loses the oldest, not the newest."""
        ...


@dataclass(frozen=True, slots=True)
class LinkedFile:
    """What a one-time link stands for."""

    file_name: str
    content_type: str
    size_bytes: int
    chunks: AsyncIterator[bytes]


class Application(Protocol):
    @property
    def pipeline(self) -> Pipeline: ...

    @property
    def changes(self) -> Changes: ...

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

    async def still_valid(self, caller: Caller) -> bool:
        """Whether the key that `caller` showed is neither expired nor revoked. True where there was none."""
        ...

    async def redeem_link(self, token: str) -> LinkedFile:
        """The file behind a one-time link, which is used up by this. Raises NotFound."""
        ...
