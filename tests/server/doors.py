"""Each way in to a server, as a client takes it: in process, through the real shim, and over HTTP."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from starlette.types import ASGIApp

from mcp_spaces.core.caller import Caller
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.server.authentication import Visitor, visited_by
from mcp_spaces.server.endpoint import SpacesServer, open_server
from mcp_spaces.server.http import listening
from mcp_spaces.server.limits import Lane
from mcp_spaces.server.unix import LocalSockets, make_private
from mcp_spaces.settings import Settings
from tests.server.small_app import KEY, OPERATIONS, SmallApp, small_app

ROOT = Path(__file__).resolve().parents[2]

Transport = Literal["in process", "shim", "http"]
Era = Literal["auto", "legacy"]

TRANSPORTS: tuple[Transport, ...] = ("in process", "shim", "http")
ERAS: tuple[Era, ...] = ("auto", "legacy")
"""The SDK's names: `auto` finds 2026-07-28, `legacy` shakes hands at 2025-11-25."""


@dataclass(frozen=True)
class House:
    """One running server with all its doors open."""

    app: SmallApp
    server: SpacesServer
    url: str

    @property
    def settings(self) -> Settings:
        return self.server.settings

    @asynccontextmanager
    async def client(
        self,
        transport: Transport = "in process",
        era: Era = "auto",
        *,
        key: str | None = None,
        caller: Caller | None = None,
        **options: Any,
    ) -> AsyncIterator[Client]:
        """A connected client. Over HTTP there is always a key; elsewhere only when one is given."""
        options = {"read_timeout_seconds": 20, "cache": None, **options}
        server: Any = self.server
        async with AsyncExitStack() as stack:
            match transport:
                case "in process":
                    who = caller or (self.app.keys[key] if key else self.app.agent)
                    lane = Lane(self.settings.agent_calls_max, self.settings.streams_max)
                    stack.enter_context(visited_by(Visitor(who, lane)))
                case "shim":
                    server = self.shim(key=key)
                case "http":
                    http = await stack.enter_async_context(
                        httpx2.AsyncClient(headers={"Authorization": f"Bearer {key or KEY}"}, timeout=20)
                    )
                    server = streamable_http_client(self.url, http_client=http)
            yield await stack.enter_async_context(Client(server, mode=era, **options))

    def shim(self, *, key: str | None = None) -> StdioServerParameters:
        environment = {"MCP_SPACES_STATE_DIR": str(self.settings.state_dir)}
        if key is not None:
            environment["MCP_SPACES_KEY"] = key
        return StdioServerParameters(
            command=sys.executable, args=["-m", "mcp_spaces", "stdio"], env=environment, cwd=ROOT
        )


@asynccontextmanager
async def open_house(
    *,
    operations: Iterable[AnyOperation] = OPERATIONS,
    prepare: Callable[[SpacesServer], None] = lambda _: None,
    front: Callable[[ASGIApp], ASGIApp] = lambda edge: edge,
    **settings: Any,
) -> AsyncIterator[House]:
    # pytest's own folders have names too long for a socket.
    with tempfile.TemporaryDirectory(prefix="mcps-") as folder:
        known = Settings(**{"state_dir": Path(folder) / "state", "http_port": 0, **settings})
        make_private(known.state_dir)
        async with (
            small_app(known.state_dir, operations) as app,
            open_server(app, known) as server,
            LocalSockets(app, server).listening(),
            listening(app, server, front=front) as url,
        ):
            prepare(server)
            yield House(app, server, url)
