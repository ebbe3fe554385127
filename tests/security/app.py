"""What the security tests start from: the whole app in process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from mcp_spaces.app import App, open_app
from mcp_spaces.browser.port import BrowserDriver
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.context import S
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.core.pipeline import Outcome
from mcp_spaces.errors import SpacesError
from mcp_spaces.sandbox.port import SandboxDriver
from mcp_spaces.server.unix import make_private
from mcp_spaces.settings import Settings
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Row
from tests.browser import paged
from tests.sandbox.fake import FAKE_IMAGE, FakeDriver

ROOT = Path(__file__).resolve().parents[2]
REAL_IMAGE = os.environ.get("MCP_SPACES_TEST_IMAGE", "mcp-spaces-sandbox:0.1.0")
PATIENCE_S = 30
LITTLE = {"cpu_cores": 0.5, "memory_bytes": 128 << 20, "disk_bytes": 32 << 20, "pids": 64}


@dataclass
class World:
    """An open app, who calls it, and short ways to do so."""

    app: App
    driver: SandboxDriver
    folder: Path

    @property
    def agent(self) -> Caller:
        return self.app.local_agent()

    @property
    def operator(self) -> Caller:
        return self.app.operator()

    @property
    def database(self) -> Database:
        return self.use(Database)

    def use(self, kind: type[S]) -> S:
        return self.app.services.use(kind)

    async def outcome(self, operation_id: str, *, caller: Caller | None = None, **arguments: Any) -> Outcome:
        with anyio.fail_after(PATIENCE_S):
            return await self.app.pipeline.call(caller or self.agent, operation_id, arguments)

    async def call(self, operation_id: str, *, caller: Caller | None = None, **arguments: Any) -> Any:
        return (await self.outcome(operation_id, caller=caller, **arguments)).output

    async def govern(self, operation_id: str, **arguments: Any) -> Any:
        return await self.call(operation_id, caller=self.operator, **arguments)

    async def space(self, name: str, *, caller: Caller | None = None, **request: Any) -> str:
        created: str = (await self.call("space.create", caller=caller, name=name, **request)).id
        return created

    async def launched(self, space: str, *, caller: Caller | None = None, **more: Any) -> str:
        launched: str = (await self.call("sandbox.launch", caller=caller, space=space, **more)).id
        return launched

    async def key(self, **wanted: Any) -> Caller:
        """The caller behind a fresh key."""
        made = await self.govern("key.create", label="test", **wanted)
        return await self.app.authenticate(made.token)

    def row(self, sql: str, *parameters: object) -> Row | None:
        return self.database.read_one(sql, parameters)

    def count(self, sql: str, *parameters: object) -> int:
        row = self.row(sql, *parameters)
        assert row is not None
        return int(row[0])


@asynccontextmanager
async def open_world(
    folder: Path,
    *,
    driver: SandboxDriver | None = None,
    clock: Clock | None = None,
    accept_rollback: bool = False,
    **settings: Any,
) -> AsyncIterator[World]:
    """Opening a folder again is a restart of the daemon. Browsers have a page for a network, unless `browser_driver`
    names a real driver."""
    usual = {"state_dir": folder / "state", "sandbox_image": FAKE_IMAGE, "vault_key_source": "file"}
    if settings.get("http_port") is None:
        usual["http_public_url"] = "https://spaces.example"
    known = Settings(**{**usual, **settings})
    make_private(known.state_dir)
    chosen = driver or FakeDriver(folder / "workspaces")

    def paged_browsers(_settings: Settings, _instance: str) -> BrowserDriver:
        return paged.PagedDriver()

    async with open_app(
        known,
        make_driver=lambda _settings, _instance: chosen,
        make_browser_driver=None if "browser_driver" in settings else paged_browsers,
        clock=clock,
        accept_rollback=accept_rollback,
    ) as app:
        yield World(app, chosen, folder)


async def refusal(call: Awaitable[object]) -> SpacesError | None:
    """None when it worked."""
    try:
        await call
    except SpacesError as error:
        return error
    return None


async def told(world: World, caller: Caller, operation: AnyOperation, arguments: Mapping[str, Any]) -> object:
    """Everything that a caller learns from a refusal; of a success, that it was one."""
    error = await refusal(world.call(operation.id, caller=caller, **arguments))
    return "it worked" if error is None else (error.code, error.message, error.hint, error.details())


async def eventually(holds: Any, *, seconds: float = PATIENCE_S) -> None:
    """Until `holds()` is true; bounded."""
    with anyio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in other processes
            await anyio.sleep(0.005)


@contextmanager
def short_folder() -> Iterator[Path]:
    """pytest's own folders have names too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="mcps-") as folder:
        yield Path(folder)


@contextmanager
def nobody() -> Iterator[None]:
    """As a user of whom file modes are true; root may do anything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(before)
