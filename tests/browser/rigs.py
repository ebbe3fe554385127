"""What the tests of browser drivers start from: drivers of their own, their processes, and ways to end them."""

# ruff: noqa: ASYNC110 - what happens in other processes can only be asked for
from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import select
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from playwright.async_api import Browser, Page

from mcp_spaces import __version__
from mcp_spaces.browser.driver.container import ContainedHost, ContainerDriver
from mcp_spaces.browser.driver.host import Host, HostedContext
from mcp_spaces.browser.driver.local import UID, LocalDriver
from mcp_spaces.browser.driver.local_host import LocalHost, Walls
from mcp_spaces.browser.driver.playwright import PlaywrightDriver
from mcp_spaces.browser.port import BrowserDriver, ContextSpec, LiveContext
from mcp_spaces.network.dialing import Upstream
from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.port import SandboxLimits, Tenant
from tests.browser.small_net import SmallNet

IMAGE = os.environ.get("MCP_SPACES_TEST_BROWSER_IMAGE", f"mcp-spaces-browser:{__version__}")
PATIENCE_S = 30.0
LIMITS = SandboxLimits(cpu_cores=2, memory_bytes=1 << 30, disk_bytes=256 << 20, pids=512)


@contextmanager
def short_folder() -> Iterator[Path]:
    """pytest's own folders have names too long for a socket, and other users cannot go through them."""
    with tempfile.TemporaryDirectory(prefix="mcpb-") as folder:
        yield Path(folder)


def contained(
    folder: Path, *, instance: str = "", trusted: str = "", pool_size: int = 0, linger_s: float = 30
) -> ContainerDriver:
    sandboxes = DockerDriver(
        instance_id=instance or f"test-{secrets.token_hex(4)}",
        state_dir=folder,
        image=IMAGE,
        pool_size=0,
        tenant=Tenant.BROWSER,
        log=logging.getLogger("tests.browser"),
    )
    return ContainerDriver(
        sandboxes=sandboxes,
        playwright=PlaywrightDriver(),
        image=IMAGE,
        folder=folder,
        limits=LIMITS,
        pool_size=pool_size,
        trusted=[trusted] if trusted else [],
        linger_s=linger_s,
    )


def local(
    folder: Path, *, trusted: str = "", pool_size: int = 0, linger_s: float = 30, jailed: bool = True
) -> LocalDriver:
    """Not `jailed`: as it is for a daemon that is not root, but for Chromium's user, who cannot be root."""
    if not jailed:
        folder.chmod(0o755)
        (folder / "local").mkdir(mode=0o755, exist_ok=True)
    return LocalDriver(
        playwright=PlaywrightDriver(),
        folder=folder,
        connect=Upstream,
        limits=LIMITS,
        pool_size=pool_size,
        trusted=[trusted] if trusted else [],
        linger_s=linger_s,
        walls=None if jailed else Walls(jailed=False, uid=UID),
    )


@asynccontextmanager
async def open_driver(driver: BrowserDriver) -> AsyncIterator[BrowserDriver]:
    with unheard("Connection closed while reading from the driver"):
        try:
            yield driver
        finally:
            with anyio.CancelScope(shield=True):
                await driver.aclose()


@dataclass
class Opener:
    """Contexts of one driver, all of them closed at the end."""

    driver: BrowserDriver
    net: SmallNet
    lives: list[LiveContext]

    async def open(self, space: str = "sp_one", **more: object) -> LiveContext:
        spec = ContextSpec(
            runtime_id=f"rt_{secrets.token_hex(4)}",
            space_id=space,
            accept=self.net.accept,
            **{"limits": LIMITS, **more},  # type: ignore[arg-type]
        )
        with anyio.fail_after(PATIENCE_S):
            live = await self.driver.open(spec)
        self.lives.append(live)
        return live

    async def page(self, live: LiveContext | None = None, url: str = "http://one.test/") -> Page:
        page = await (live or await self.open()).context.new_page()
        await page.goto(url)
        return page


def host_of(live: LiveContext) -> Host:
    assert isinstance(live, HostedContext)
    return live.host


def root_of(live: LiveContext) -> int:
    """The process that everything of this browser is below, as this machine numbers it."""
    host = host_of(live)
    if isinstance(host, LocalHost):
        assert host._process is not None
        return host._process.pid
    assert isinstance(host, ContainedHost)
    words = ["docker", "inspect", "--format", "{{.State.Pid}}", host.sandbox.container_id]
    return int(subprocess.run(words, capture_output=True, check=True, text=True).stdout)


def limits_of(live: LiveContext) -> SandboxLimits:
    """As they hold now: the engine's word where there is one."""
    host = host_of(live)
    if isinstance(host, LocalHost):
        return host.limits
    assert isinstance(host, ContainedHost)
    words = ["docker", "inspect", "--format", "{{json .HostConfig}}", host.sandbox.container_id]
    found = json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
    assert found["MemorySwap"] == found["Memory"]
    return SandboxLimits(found["NanoCpus"] / 1e9, found["Memory"], host.limits.disk_bytes, found["PidsLimit"])


async def held_in(browser: Browser) -> tuple[int, int]:
    """Contexts and targets that Chromium has."""
    session = await browser.new_browser_cdp_session()
    contexts = (await session.send("Target.getBrowserContexts"))["browserContextIds"]
    targets = (await session.send("Target.getTargets"))["targetInfos"]
    await session.detach()
    return len(contexts), len(targets)


def end_place(live: LiveContext) -> None:
    """What the browser runs in goes at once."""
    host = host_of(live)
    if isinstance(host, ContainedHost):
        subprocess.run(["docker", "kill", host.sandbox.container_id], capture_output=True, check=True)
    else:
        os.kill(root_of(live), signal.SIGKILL)


def await_end(pid: int) -> None:
    """A signal only asks; what dies may still answer for some milliseconds."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([process], [], [], PATIENCE_S)
    finally:
        os.close(process)
    assert ended, f"process {pid} did not end"


def below(pid: int) -> list[int]:
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for task in Path(f"/proc/{one}/task").glob("*"):
            try:
                waiting += map(int, (task / "children").read_text().split())
            except OSError:
                continue
    return found


def arguments_of(pid: int) -> list[str]:
    try:
        # Those that a zygote forked have their arguments in one piece.
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ").split()
    except OSError:
        return []


def chromium_of(live: LiveContext, kind: str = "") -> list[int]:
    """Chromium's processes of one kind (`renderer`, …), or the browser process itself."""
    found = []
    for pid in below(root_of(live)):
        arguments = arguments_of(pid)
        kinds = [one.removeprefix("--type=") for one in arguments if one.startswith("--type=")]
        is_chromium = bool(arguments) and arguments[0].endswith("chromium-headless-shell")
        if is_chromium and (kinds == [kind] if kind else not kinds):
            found.append(pid)
    return found


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def eventually(holds: Callable[[], bool], *, seconds: float = PATIENCE_S) -> None:
    with anyio.fail_after(seconds):
        while not holds():
            await asyncio.sleep(0.02)


async def reason_of(live: LiveContext) -> str:
    with anyio.fail_after(PATIENCE_S):
        return await live.closed()


def alive(pid: int) -> bool:
    try:
        return not status_of(pid)["State"].startswith("Z")
    except OSError:
        return False


def is_playwrights(pid: int) -> bool:
    return "run-driver" in arguments_of(pid)


def space_of(pid: int, kind: str) -> str:
    """The namespace that a process is in."""
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def is_confined(pid: int, browser: int) -> bool:
    """With a filter and namespaces of its own; what is gone is no danger."""
    try:
        filters = int(status_of(pid)["Seccomp_filters"]) > int(status_of(browser)["Seccomp_filters"])
        return filters and not any(space_of(pid, kind) == space_of(browser, kind) for kind in ("user", "pid", "net"))
    except OSError:
        return not Path(f"/proc/{pid}").exists()


def listening_in(pid: int) -> set[int]:
    """The TCP ports that somebody listens on in a process's network."""
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text("utf-8").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                found.add(int(words[1].rpartition(":")[2], 16))
    return found


def read_lines(path: str) -> list[str]:
    return Path(path).read_text("utf-8").splitlines()


def names_in(path: str) -> list[str]:
    return [one.name for one in Path(path).iterdir()]


@contextmanager
def unheard(words: str) -> Iterator[None]:
    """What Playwright tells nobody but the loop, whenever it likes, is no failure of a test."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if words not in str(context.get("exception")):
            (before or asyncio.AbstractEventLoop.default_exception_handler)(loop, context)

    loop.set_exception_handler(handle)
    try:
        yield
    finally:
        loop.set_exception_handler(before)
