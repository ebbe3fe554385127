"""What the server needs of the app: the port that the composition root fits and the tests fake."""

from __future__ import annotations

from collections.abc import AsyncIterator
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
