"""A whole app with the real container driver, a space with one browser, and a small site for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from mcp_spaces.app import App, open_app
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.context import S
from mcp_spaces.core.pipeline import Outcome
from mcp_spaces.server.unix import make_private
from mcp_spaces.settings import Settings

PATIENCE_S = 60
HOST = "app.test"


class Site:
    """`http://app.test/NAME` answers with `pages[NAME]`; `seen` are the request lines and their Cookie headers."""

    def __init__(self, pages: Mapping[str, str]) -> None:
        self.pages = dict(pages)
        self.headers: dict[str, str] = {}
        """More of them, of every answer."""
        self.seen: list[str] = []
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, _, rest = head.decode("latin-1").partition("\r\n")
                cookie = next((one for one in rest.split("\r\n") if one.lower().startswith("cookie:")), "")
                self.seen.append(f"{line} {cookie}".strip())
                name = line.split(" ")[1].partition("?")[0]
                body = self.pages.get(name, "<title>nothing</title>").encode()
                kind = "text/html; charset=utf-8"
                more = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
                if name.endswith(".bin"):
                    kind, more = (
                        "application/octet-stream",
                        'Content-Disposition: attachment; filename="../report.bin"\r\n',
                    )
                status = "200 OK" if name in self.pages else "404 Not Found"
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@dataclass
class Room:
    app: App
    site: Site
    space: str
    runtime: str = ""
    """The one that a test works with."""

    @property
    def agent(self) -> Caller:
        return self.app.local_agent()

    @property
    def url(self) -> str:
        return f"http://{HOST}/"

    def use(self, kind: type[S]) -> S:
        return self.app.services.use(kind)

    async def outcome(self, operation_id: str, *, caller: Caller | None = None, **arguments: Any) -> Outcome:
        with anyio.fail_after(PATIENCE_S):
            return await self.app.pipeline.call(caller or self.agent, operation_id, {"space": self.space, **arguments})

    async def call(self, operation_id: str, **arguments: Any) -> Any:
        return (await self.outcome(operation_id, **arguments)).output

    async def anywhere(self, operation_id: str, **arguments: Any) -> Any:
        return (await self.app.pipeline.call(self.agent, operation_id, arguments)).output

    async def govern(self, operation_id: str, **arguments: Any) -> Any:
        with anyio.fail_after(PATIENCE_S):
            return (await self.app.pipeline.call(self.app.operator(), operation_id, arguments)).output

    async def launched(self, **more: Any) -> str:
        launched: str = (await self.call("browser.launch", **more)).id
        return launched

    def live(self, runtime_id: str) -> LiveBrowser:
        return self.use(BrowserService).started(runtime_id)

    async def policy(self, *, level: str = "all", evaluate: str = "allow") -> None:
        """What browsers may do in the space."""
        wanted = {"preset": "permissive", "overrides": {"browser": {"level": level, "evaluate": evaluate}}}
        await self.govern("space.update", space=self.space, patch={"policy": wanted})


@asynccontextmanager
async def open_room(folder: Path, *, pages: Mapping[str, str], **settings: Any) -> AsyncIterator[Room]:
    site = Site(pages)
    server = await asyncio.start_server(site.answer, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    known = Settings(
        **{
            "state_dir": folder,
            "vault_key_source": "file",
            "browser_pool_size": 0,
            "network_private_hosts": (f"{HOST}:80=127.0.0.1:{site.port}",),
            **settings,
        }
    )
    make_private(known.state_dir)
    async with server, open_app(known) as app:
        room = Room(app, site, "")
        network = {"mode": "allowlist", "allow": [f"{HOST}:80"]}
        await room.govern("principal.grant", principal="local-agent", scope={"network": network}, policy="permissive")
        wanted = {"name": "work", "policy": {"preset": "permissive"}, "mounts": {"network": network}}
        created = await app.pipeline.call(app.local_agent(), "space.create", wanted)
        room.space = created.output.model_dump()["id"]
        yield room
