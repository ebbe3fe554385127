"""The whole app with real browsers, a site of this machine behind its gateway, and short ways to use both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from mcp_spaces.browser.port import LiveContext
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import SpacesError
from tests.browser.small_net import SmallNet
from tests.security.app import World, open_world

PATIENCE_S = 60.0
SITE = "http://one.test/"


@dataclass
class Browsing:
    world: World
    net: SmallNet

    @property
    def browsers(self) -> BrowserService:
        return self.world.use(BrowserService)

    async def space(self, name: str, *, allow: tuple[str, ...] = ("one.test",), **more: Any) -> str:
        mounts = {"network": {"mode": "allowlist", "allow": list(allow)}}
        created: str = (await self.world.govern("space.create", name=name, mounts=mounts, **more)).id
        return created

    async def call(self, verb: str, **arguments: Any) -> Any:
        with anyio.fail_after(PATIENCE_S):
            return (await self.world.app.pipeline.call(self.world.operator, f"browser.{verb}", arguments)).output

    async def refused(self, verb: str, **arguments: Any) -> SpacesError:
        try:
            answer = await self.call(verb, **arguments)
        except SpacesError as error:
            return error
        raise AssertionError(f"{verb} worked: {answer}")

    async def launch(self, space: str, *, url: str = "", **more: Any) -> str:
        runtime: str = (await self.call("launch", space=space, **more)).id
        if url:
            await self.call("navigate", space=space, runtime=runtime, url=url)
        return runtime

    def live(self, runtime: str) -> LiveContext:
        return self.browsers.started(runtime).live

    def state(self, runtime: str) -> tuple[str, str]:
        row = self.browsers.runtimes.get(runtime)
        assert row is not None
        return str(row.state), row.reason


@asynccontextmanager
async def browsing(
    folder: Path, net: SmallNet, *, driver: str = "local", clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Browsing]:
    """Opening a folder again is a restart of the daemon."""
    known: dict[str, Any] = {
        "browser_driver": driver,
        "browser_pool_size": 0,
        "browser_memory_bytes": 1 << 30,
        "network_private_hosts": (f"one.test:80=127.0.0.1:{net.port}",),
    }
    async with open_world(folder, clock=clock, **(known | settings)) as world:
        yield Browsing(world, net)
