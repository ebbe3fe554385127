"""The app of one process, without sockets and without an engine: for the pipeline alone, and to fill a database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from mcp_spaces.app import App, open_app
from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.port import Sandbox, SandboxLimits, SandboxSpec, Wall
from mcp_spaces.settings import Settings


class NoEngine:
    """A sandbox driver that starts nothing."""

    name = "none"

    async def launch(self, spec: SandboxSpec) -> Sandbox:
        raise RuntimeUnavailable("There is no engine here.", hint="This is a benchmark.")

    async def resize(self, runtime_id: str, limits: SandboxLimits) -> None:
        """There is none."""

    async def delete_workspace(self, runtime_id: str) -> None:
        """There is none."""

    async def reap(self, *, keep: Collection[str]) -> Sequence[str]:
        return ()

    async def walls(self) -> Sequence[Wall]:
        return ()

    async def aclose(self) -> None:
        """Nothing runs."""


@asynccontextmanager
async def app(state: Path, *, clock: Clock | None = None) -> AsyncIterator[App]:
    settings = Settings(state_dir=state, vault_key_source="file")
    async with open_app(settings, make_driver=lambda _settings, _instance: NoEngine(), clock=clock) as opened:
        yield opened
