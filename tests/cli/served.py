"""The whole app, open in the test's process, with the doors through which commands reach it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mcp_spaces.server.daemon import listening
from tests.cli.commands import Ended, run
from tests.security.app import World, open_world, short_folder


@dataclass(frozen=True)
class Served:
    world: World
    url: str

    async def run(self, *words: str, stdin: bytes = b"", **env: str) -> Ended:
        return await run(*words, state_dir=self.world.folder / "state", stdin=stdin, env=env)


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[Served]:
    with short_folder() as folder:
        async with (
            open_world(folder, http_port=0, **settings) as world,
            listening(world.app, world.app.settings) as endpoints,
        ):
            yield Served(world, endpoints[-1])
