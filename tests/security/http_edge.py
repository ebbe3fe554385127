"""A client of Streamable HTTP that may send anything, and a server for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from tests.security.lines import ENVELOPE
from tests.server.doors import House, open_house
from tests.server.small_app import KEY

BOTH = "application/json, text/event-stream"
ERAS = ("2026-07-28", "2025-11-25")
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
GUARD_S = 20.0
"""What a busy machine may take on top of what is promised."""


class Http:
    """A client that may send anything."""

    def __init__(self, house: House, client: httpx2.AsyncClient) -> None:
        self.house = house
        self.client = client
        self.port = urlsplit(house.url).port or 0

    async def post(
        self, method: str, params: Mapping[str, Any] | None = None, *, key: str = KEY, **headers: str
    ) -> httpx2.Response:
        """One request of 2026-07-28. Header names are written with underscores."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": ENVELOPE, **(params or {})}}
        name = (params or {}).get("name") or (params or {}).get("uri")
        own = {"mcp_method": method} | ({"mcp_name": str(name)} if name else {})
        return await self.send(json.dumps(body).encode(), key=key, **{**own, **headers})

    async def send(self, content: bytes, *, key: str = KEY, **headers: str) -> httpx2.Response:
        sent = {
            "authorization": f"Bearer {key}",
            "accept": BOTH,
            "content_type": "application/json",
            "mcp_protocol_version": "2026-07-28",
            **headers,
        }
        return await self.client.post(
            self.house.url,
            content=content,
            headers={name.replace("_", "-"): value for name, value in sent.items() if value},
        )

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        return await self.client.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})


@asynccontextmanager
async def http(**settings: Any) -> AsyncIterator[Http]:
    async with open_house(**settings) as house, httpx2.AsyncClient(timeout=20) as client:
        yield Http(house, client)


async def hello(client: Http, *, key: str = KEY) -> httpx2.Response:
    """What opens a session of the handshake era."""
    return await client.send(json.dumps(HELLO).encode(), key=key, mcp_protocol_version="")
