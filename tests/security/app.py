"""What the security tests start from: the whole app in process, and real daemons that can be killed by the hundred.

`python -m tests.security.app` is a nursery of daemons: it has everything imported and forks one for each line that it
reads, so that a kill and the start after it take a fraction of a second.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anyio

from mcp_spaces import places
from mcp_spaces.app import App, open_app
from mcp_spaces.browser.port import BrowserDriver
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.context import S
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.pipeline import Outcome
from mcp_spaces.errors import SpacesError
from mcp_spaces.sandbox import engine
from mcp_spaces.sandbox.port import SandboxDriver
from mcp_spaces.server.unix import make_private
from mcp_spaces.settings import Settings
from mcp_spaces.state.database import Database, Row
from tests.browser import paged
from tests.sandbox.fake import FAKE_IMAGE, FakeDriver

ROOT = Path(__file__).resolve().parents[2]
REAL_IMAGE = os.environ.get("MCP_SPACES_TEST_IMAGE", "mcp-spaces-sandbox:0.1.0")
PATIENCE_S = 30
LITTLE = {"cpu_cores": 0.5, "memory_bytes": 128 << 20, "disk_bytes": 32 << 20, "pids": 64}

DriverName = Literal["fake", "docker"]


# ------------------------------------------------------------------------------------------------ in process


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


# ------------------------------------------------------------------------------------------ a prepared world


ABSENT = "a" * 26


@dataclass(frozen=True)
class Prepared:
    """A space in which every operation has something to work on."""

    space: str
    name: str
    runtime: str
    run: str
    job: str
    artifact: str
    namespace: str = "own"
    browser: str = f"rt_{'b' * 26}"
    entry: str = f"ent_{ABSENT}"
    """A secret that was asked for; nobody's unless the test asks."""


NOWHERE = Prepared(
    f"sp_{ABSENT}", "nowhere", f"rt_{ABSENT}", f"run_{ABSENT}", f"job_{ABSENT}", f"art_{ABSENT}", "nothing"
)
"""Well formed, and nobody's."""


async def prepared(
    world: World,
    name: str,
    *,
    preset: str = "standard",
    running: bool = True,
    runtime: bool = True,
    browser: bool = False,
    **request: Any,
) -> Prepared:
    """Made under the standard policy, then put under `preset` by the operator. `browser`: one is open as well."""
    space = await world.space(name, **request)
    uploaded = await world.outcome("storage.upload", space=space, path="inputs/sales.csv", content="a,b\n1,2\n")
    exported = await world.call("run.export", run=uploaded.run_id)
    sandbox, job = NOWHERE.runtime, NOWHERE.job
    if runtime:
        sandbox = await world.launched(space, alias="main", scope={"limits": LITTLE})
        for path in ("src/main.py", "src/old.py"):
            await world.call("sandbox.write_file", space=space, path=path, content="print(1)\n")
        job = (await world.call("sandbox.shell", space=space, command="sleep 1000", background=True)).job
    browsing = NOWHERE.browser
    if browser:
        browsing = (await world.call("browser.launch", space=space)).id
        await world.call("browser.navigate", space=space, url=paged.ADDRESS)
        await world.use(BrowserService).store.keep_profile(space, "old", {"cookies": [], "origins": []})
    if preset != "standard":
        await world.govern("space.update", space=space, patch={"policy": {"preset": preset}})
    if not running:
        await world.call("space.down", space=space)
    return Prepared(space, name, sandbox, uploaded.run_id, job, exported.artifact.id, browser=browsing)


async def prepare_for(world: World, at: Prepared, operation_id: str) -> None:
    """What an operation in a prepared browser needs besides, done by the operator."""
    opened = {"space": at.space, "runtime": at.browser}
    if operation_id == "browser.dialog":
        await world.govern("browser.click", **opened, ref=paged.ASK)
    elif operation_id == "browser.download":
        await world.govern("browser.navigate", **opened, url=f"{paged.ADDRESS}report.csv?{at.browser}")
    elif operation_id == "browser.record_stop":
        await world.govern("browser.record_start", **opened)
    elif operation_id in ("browser.back", "browser.forward"):
        await world.govern("browser.navigate", **opened, url=paged.ADDRESS + "second")
        if operation_id == "browser.forward":
            await world.govern("browser.back", **opened)


def valid_inputs(at: Prepared) -> dict[str, dict[str, Any]]:
    """For every operation that agents may be permitted: an input that has to work in a prepared world."""
    space, runtime = {"space": at.space}, {"space": at.space, "runtime": at.runtime}
    stored = {**space, "namespace": at.namespace, "path": "inputs/sales.csv"}
    job = {**space, "job": at.job}
    browser = {"space": at.space, "runtime": at.browser}
    return {
        "context.get": space,
        "space.create": {"name": "another"},
        "space.get": space,
        "space.state": space,
        "space.list": {},
        "space.update": {**space, "patch": {"labels": {"ticket": "42"}}},
        "space.extend": {**space, "ttl_s": 3600},
        "space.up": space,
        "space.down": space,
        "space.delete": {**space, "force": True},
        "sandbox.launch": {**space, "alias": "second", "scope": {"limits": LITTLE}},
        "sandbox.list": space,
        "sandbox.get": runtime,
        "sandbox.stop": runtime,
        "sandbox.delete": runtime,
        "sandbox.shell": {**runtime, "command": "echo hello"},
        "sandbox.read_file": {**runtime, "path": "src/main.py"},
        "sandbox.write_file": {**runtime, "path": "new.txt", "content": "new"},
        "sandbox.edit_file": {**runtime, "path": "src/main.py", "edits": [{"old": "print(1)", "new": "print(2)"}]},
        "sandbox.delete_file": {**runtime, "path": "src/old.py"},
        "sandbox.list_files": {**runtime, "path": "src"},
        "sandbox.glob": {**runtime, "pattern": "**/*.py"},
        "sandbox.search": {**runtime, "pattern": "print"},
        "sandbox.run_operations": {**runtime, "operations": [{"type": "readFile", "path": "src/main.py"}]},
        "job.read": job,
        "job.write": {**job, "text": "yes\n"},
        "job.wait": {**job, "timeout_s": 0.05},
        "job.stop": job,
        "browser.execute": {**browser, "steps": [{"call": "browser.newContext"}]},
        "browser.methods": {"on": "page"},
        "browser.look_step": {**browser, "call": "browser.newContext"},
        "browser.act_step": {**browser, "call": "page.hover", "args": ["body"]},
        "browser.script_step": {**browser, "call": "page.evaluate", "args": ["1 + 1"]},
        "browser.record_start": browser,
        "browser.record_stop": browser,
        "browser.connect": browser,
        "browser.disconnect": browser,
        "browser.launch": {**space, "alias": "third"},
        "browser.list": space,
        "browser.get": browser,
        "browser.stop": browser,
        "browser.delete": browser,
        "browser.forget": {**space, "profile": "old"},
        "browser.navigate": {**browser, "url": paged.ADDRESS},
        "browser.back": browser,
        "browser.forward": browser,
        "browser.reload": browser,
        "browser.pages": browser,
        "browser.open": {**browser, "url": paged.ADDRESS},
        "browser.activate": {**browser, "page": "p1"},
        "browser.close": {**browser, "page": "p1"},
        "browser.snapshot": browser,
        "browser.text": browser,
        "browser.screenshot": browser,
        "browser.pdf": {**browser, "to": "page.pdf", "overwrite": True},
        "browser.console": browser,
        "browser.network": browser,
        "browser.click": {**browser, "ref": paged.PRESS},
        "browser.fill": {**browser, "fields": {paged.NAME: "Ann"}},
        "browser.press": {**browser, "keys": "Tab"},
        "browser.select": {**browser, "ref": paged.COLOUR, "options": ["blue"]},
        "browser.hover": {**browser, "ref": paged.PRESS},
        "browser.drag": {**browser, "ref": paged.PRESS, "to": paged.NAME},
        "browser.scroll": browser,
        "browser.dialog": {**browser, "accept": True},
        "browser.wait_for": {**browser, "text": "Everything"},
        "browser.evaluate": {**browser, "script": "1 + 1"},
        "browser.upload": {**browser, "ref": paged.FILE, "paths": ["inputs/sales.csv"]},
        "browser.download": {**browser, "id": "d1", "to": "report.csv", "overwrite": True},
        "browser.downloads": browser,
        "browser.login": {**browser, "secret": "prod/crm"},
        "browser.logout": browser,
        "storage.upload": {**stored, "path": "new/file.txt", "content": "new"},
        "storage.read": stored,
        "storage.browse": {**space, "namespace": at.namespace, "prefix": "inputs"},
        "storage.stat": stored,
        "storage.delete": stored,
        "storage.copy": {**stored, "to": "archive/sales.csv", "to_namespace": at.namespace},
        "storage.link": stored,
        "storage.stage": {**runtime, "namespace": at.namespace, "path": "inputs/sales.csv", "to": "sales.csv"},
        "storage.collect": {**runtime, "namespace": at.namespace, "path": "src/main.py", "to": "out/main.py"},
        "run.list": space,
        "run.get": {"run": at.run},
        "run.wait": {"run": at.run},
        "run.cancel": {"run": at.run},
        "run.export": {"run": at.run},
        "run.read_artifact": {"artifact": at.artifact, "encoding": "base64"},
        "vault.describe": {**space, "path": "prod/crm"},
        "vault.list": space,
        "vault.get": {**space, "path": "prod/crm"},
        "vault.totp": {**space, "path": "prod/crm"},
        "vault.request_entry": {**space, "path": "prod/new", "origins": ["https://crm.example.com"]},
        "vault.wait_entry": {**space, "request": at.entry, "timeout_s": 0},
        "network.log": runtime,
        "policy.explain": {**space, "command": "ls"},
        "operation.call": {"operation": "space.list"},
    }


# --------------------------------------------------------------------------------------------- over a socket


LISTED = {operation.id for operation in CATALOGUE if operation.listed}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class DaemonGoneError(Exception):
    """It closed the connection before it answered."""


@dataclass(frozen=True)
class Said:
    """An answer as it came over the wire; `code` is an error's."""

    content: dict[str, Any]
    run_id: str | None
    code: str | None
    details: dict[str, Any]


class Line:
    """One raw connection to a daemon: 2026-07-28 needs no handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The whole answer of one request. Raises DaemonGoneError."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": ENVELOPE, **params}}
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()
            with anyio.fail_after(PATIENCE_S):
                line = await self._reader.readline()
        except OSError:
            raise DaemonGoneError from None
        if not line.endswith(b"\n"):
            raise DaemonGoneError
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def call(self, operation_id: str, *, once: str | None = None, **arguments: Any) -> Said:
        """As a tool of its own where it is one, else through `operation_call`. Raises DaemonGoneError."""
        if operation_id not in LISTED:
            operation_id, arguments = "operation.call", {"operation": operation_id, "input": arguments}
        tool = operation_id.replace(".", "_")
        meta = {**ENVELOPE, **({"mcp-spaces/idempotency-key": once} if once else {})}
        answer = await self.ask("tools/call", name=tool, arguments=arguments, _meta=meta)
        assert "result" in answer, answer
        result = answer["result"]
        told = result.get("_meta", {})
        error = told.get("mcp-spaces/error", {})
        return Said(
            result.get("structuredContent") or {},
            told.get("mcp-spaces/run", {}).get("id"),
            error.get("code"),
            error.get("details") or {},
        )


@asynccontextmanager
async def line_to(state: Path, *, operator: bool = False, key: str | None = None) -> AsyncIterator[Line]:
    path = places.operator_socket(str(state)) if operator else places.agent_socket(str(state))
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 24)
    except OSError:
        raise DaemonGoneError from None
    if key is not None:
        writer.write(json.dumps({"mcp-spaces": 1, "key": key}).encode() + b"\n")
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


# ---------------------------------------------------------------------------------------------- as a process


@dataclass
class Nursery:
    """Starts daemons one after the other, each a fork of one warm process."""

    process: asyncio.subprocess.Process

    async def start(self, state: Path, driver: DriverName = "fake", *, engine: str | None = None) -> int:
        """The process id of a daemon that is starting."""
        assert self.process.stdin is not None
        wanted = {"state": str(state), "driver": driver, "engine": engine}
        self.process.stdin.write(json.dumps(wanted).encode() + b"\n")
        await self.process.stdin.drain()
        return int(await self._said())

    async def ready(self) -> bool:
        """Whether it listens; False: it ended before that."""
        return await self._said() == "ready"

    async def gone(self) -> int:
        """Its exit code, or minus the signal; to be asked after `ready`."""
        return int(await self._said())

    async def running(self, state: Path, driver: DriverName = "fake", *, engine: str | None = None) -> int:
        pid = await self.start(state, driver, engine=engine)
        assert await self.ready(), (state / "daemon.log").read_text("utf-8")[-3000:]
        return pid

    async def stop(self, pid: int, number: signal.Signals = signal.SIGTERM) -> int:
        os.kill(pid, number)
        return await self.gone()

    async def _said(self) -> str:
        assert self.process.stdout is not None
        with anyio.fail_after(PATIENCE_S * 2):
            return (await self.process.stdout.readline()).decode().strip()


@asynccontextmanager
async def nursery() -> AsyncIterator[Nursery]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.security.app", cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Nursery(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.terminate()
        # Bounded: asyncio waits for the pipes as well, and a daemon that outlived a failed test may hold one.
        with anyio.move_on_after(PATIENCE_S, shield=True):
            await process.wait()


WARM = (
    "docker",
    "mcp.server",
    "mcp_spaces.browser.choice",
    "mcp_spaces.browser.container",
    "mcp_spaces.browser.local",
    "mcp_spaces.browser.playwright",
    "mcp_spaces.sandbox.docker",
    "mcp_spaces.server.daemon",
    "mcp_spaces.server.endpoint",
    "sqlite_utils",
)
"""What daemons import as they start: once here instead of in each."""


def _nursery() -> None:
    """Reads `{"state": …, "driver": …}`; says the process id, then ready or dead, then how it ended."""
    for name in WARM:
        importlib.import_module(name)

    # As in tests/conftest.py, for the same reason.
    engine.PING_TIMEOUT_S = 10.0
    child = 0

    def go(*_: object) -> None:
        if child:
            os.kill(child, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, go)
    for line in iter(sys.stdin.readline, ""):
        wanted = json.loads(line)
        ready, tell = os.pipe()
        child = os.fork()
        if not child:
            os.close(ready)
            os._exit(_daemon(Path(wanted["state"]), wanted["driver"], tell, engine=wanted["engine"]))
        os.close(tell)
        print(child, flush=True)
        print("ready" if os.read(ready, 1) else "dead", flush=True)
        os.close(ready)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        child = 0
        print(ended, flush=True)


def _daemon(state: Path, driver: DriverName, ready_fd: int, *, engine: str | None) -> int:
    from mcp_spaces.server.daemon import serve

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    make_private(state)
    log = os.open(state / "daemon.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    try:
        if driver == "docker":
            settings = Settings(
                state_dir=state,
                sandbox_image=REAL_IMAGE,
                sandbox_pool_size=1,
                docker_host=engine,
                vault_key_source="file",
            )
            return serve(settings, ready_fd=ready_fd, open_app=open_app)
        return serve(
            Settings(state_dir=state, sandbox_image=FAKE_IMAGE, vault_key_source="file"),
            ready_fd=ready_fd,
            open_app=_with_fake,
        )
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1


@asynccontextmanager
async def _with_fake(settings: Settings) -> AsyncIterator[App]:
    driver = FakeDriver(settings.state_dir / "fake")
    async with open_app(settings, make_driver=lambda _settings, _instance: driver) as app:
        yield app


if __name__ == "__main__":
    _nursery()
