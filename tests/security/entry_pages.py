"""A space that asks for secrets, and a person's browser at the page on which they are entered."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from mcp_spaces.core.ids import Clock
from mcp_spaces.server.daemon import listening
from tests.security.app import World, open_world, short_folder

CANARY = "kanarie-7f3Q+zz/9 é"
ORIGIN = "https://api.example.com"


@dataclass
class Place:
    world: World
    space: str

    async def request(self, path: str = "prod/api", **more: Any) -> Any:
        return await self.world.call(
            "vault.request_entry", space=self.space, **{"path": path, "origins": [ORIGIN], **more}
        )

    async def state(self, request: str, *, timeout_s: float = 0) -> Any:
        return await self.world.call("vault.wait_entry", space=self.space, request=request, timeout_s=timeout_s)


@asynccontextmanager
async def a_place(*, clock: Clock | None = None, served: bool = True, http: bool = False) -> AsyncIterator[Place]:
    with short_folder() as folder:
        async with open_world(folder, clock=clock, http_port=0 if http else None) as world:
            vault = {"allow": ["prod"], "deny": ["prod/admin"]}
            await world.govern("principal.grant", principal="local-agent", scope={"vault": {**vault, "deny": []}})
            space = await world.space("work", mounts={"vault": vault})
            if not served:
                yield Place(world, space)
                return
            async with listening(world.app, world.app.settings):
                yield Place(world, space)


@dataclass
class Page:
    """A browser without scripts, as far as this page needs one."""

    url: str
    http: httpx2.AsyncClient
    text: str = ""

    async def open(self, **headers: str) -> httpx2.Response:
        response = await self.http.get(self.url, headers=headers)
        self.text = response.text
        return response

    @property
    def number(self) -> str:
        found = re.search(r'name="form" value="([^"]+)"', self.text)
        assert found is not None, self.text
        return found[1]

    async def send(self, headers: dict[str, str] | None = None, **fields: str) -> httpx2.Response:
        scheme, host, *_ = urlsplit(self.url)
        usual = {"origin": f"{scheme}://{host}", "sec-fetch-site": "same-origin"}
        sent = {"form": self.number, "answer": "store", **fields}
        return await self.http.post(self.url, data=sent, headers=usual if headers is None else headers)


@asynccontextmanager
async def page_at(url: str) -> AsyncIterator[Page]:
    async with httpx2.AsyncClient(timeout=20) as http:
        yield Page(url, http)
