"""What servers and commands are given of an open app."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_spaces.core.caller import Caller
from mcp_spaces.core.changes import Changes
from mcp_spaces.core.context import Services
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.core.pipeline import Pipeline
from mcp_spaces.identity.store import Identity
from mcp_spaces.settings import Settings
from mcp_spaces.storage.links import LinkedFile, Links
from mcp_spaces.vault.entry_requests import EntryRequests


@dataclass(frozen=True, slots=True)
class App:
    """Opened by `open_app`."""

    settings: Settings
    pipeline: Pipeline
    changes: Changes
    identity: Identity
    links: Links
    entries: EntryRequests
    services: Services

    def permitted(self, caller: Caller) -> tuple[AnyOperation, ...]:
        return self.pipeline.permitted(caller)

    def local_agent(self) -> Caller:
        return self.identity.local_agent()

    def operator(self) -> Caller:
        return self.identity.operator()

    def current(self, caller: Caller) -> Caller:
        """The same caller with today's scope: what was granted or taken meanwhile counts."""
        return self.identity.current(caller)

    async def authenticate(self, key: str) -> Caller:
        return self.identity.authenticate(key)

    async def still_valid(self, caller: Caller) -> bool:
        return self.identity.still_valid(caller)

    async def redeem_link(self, token: str) -> LinkedFile:
        return await self.links.redeem(token)
