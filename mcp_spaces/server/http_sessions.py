"""Sessions of the handshake era over HTTP: so many a key, and none for longer than its key (threats D11, T06).

The SDK limits sessions only together, and has no public handle to one: what begins with an underscore here is its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthorizationContext
from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from mcp_spaces.server.authentication import visitor

if TYPE_CHECKING:
    from mcp_spaces.server.authentication import Guard


GOODBYE_S = 2
"""What the calls of an ended key have to say so. Nobody can use the session meanwhile: its key opens nothing."""


class KeyedSessions(StreamableHTTPSessionManager):
    def __init__(self, *, guard: Guard, per_key_max: int, **more: Any) -> None:
        super().__init__(**more)
        self._guard = guard
        self._per_key_max = per_key_max
        self._stop_following: dict[str, Callable[[], None]] = {}

    def _admit_session(self, requestor: AuthorizationContext | None) -> StreamableHTTPServerTransport | None:
        """None, which is answered with 503, also when this key has as many as it may."""
        if sum(owner == requestor for owner in self._session_owners.values()) >= self._per_key_max:
            return None
        transport = super()._admit_session(requestor)
        if transport is not None:
            session_id = str(transport.mcp_session_id)
            end = partial(self._end, session_id, transport)
            self._stop_following[session_id] = self._guard.follow(visitor().came_as, end)
        return transport

    def _end(self, session_id: str, transport: StreamableHTTPServerTransport) -> None:
        if self._task_group is not None:
            self._task_group.start_soon(self._discard_later, session_id, transport)

    async def _discard_later(self, session_id: str, transport: StreamableHTTPServerTransport) -> None:
        await anyio.sleep(GOODBYE_S)
        await self._discard_session(session_id, transport)

    async def _discard_session(self, session_id: str, transport: StreamableHTTPServerTransport) -> None:
        if stop := self._stop_following.pop(session_id, None):
            stop()
        await super()._discard_session(session_id, transport)
