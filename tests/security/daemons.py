"""Real daemons that can be killed by the hundred.

`python -m tests.security.daemons` is their nursery: it has everything imported and forks one for each line that it
reads, so that a kill and the start after it take a fraction of a second.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio

from mcp_spaces.app import App, open_app
from mcp_spaces.sandbox.docker import engine
from mcp_spaces.server.unix import make_private
from mcp_spaces.settings import Settings
from tests.sandbox.fake import FAKE_IMAGE, FakeDriver
from tests.security.app import PATIENCE_S, REAL_IMAGE, ROOT

DriverName = Literal["fake", "docker"]


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
        sys.executable, "-m", "tests.security.daemons", cwd=ROOT,
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
    "mcp_spaces.browser.driver.choice",
    "mcp_spaces.browser.driver.container",
    "mcp_spaces.browser.driver.local",
    "mcp_spaces.browser.driver.playwright",
    "mcp_spaces.sandbox.docker.driver",
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
