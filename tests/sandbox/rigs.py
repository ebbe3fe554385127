"""What sandbox tests start from: drivers of their own instance, and short ways to run things."""

# ruff: noqa: ASYNC110 - what happens inside a sandbox can only be asked for
from __future__ import annotations

import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from mcp_spaces import __version__
from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.docker.latecomers import a_while
from mcp_spaces.sandbox.port import (
    Command,
    Exit,
    Process,
    Sandbox,
    SandboxDriver,
    SandboxLimits,
    SandboxSpec,
    Stream,
    TerminalSize,
)

IMAGE = os.environ.get("MCP_SPACES_TEST_IMAGE", f"mcp-spaces-sandbox:{__version__}")
BARE_IMAGE = os.environ.get("MCP_SPACES_TEST_BARE_IMAGE", "mcp-spaces-base:bookworm")
"""An image with a shell and without Python."""
LOG = logging.getLogger("tests.sandbox")
SMALL = SandboxLimits(cpu_cores=2.0, memory_bytes=256 << 20, disk_bytes=64 << 20, pids=64)
PATIENCE_S = 30.0

Later = Callable[[], Awaitable[object]]


@asynccontextmanager
async def docker_driver(
    folder: Path, *, pool_size: int = 0, kernel_disk: bool = True, shortcut: bool = True, later: Later = a_while
) -> AsyncIterator[DockerDriver]:
    """A driver with an instance of its own, that leaves nothing behind."""
    driver = DockerDriver(
        instance_id=f"test-{secrets.token_hex(4)}",
        state_dir=folder,
        image=IMAGE,
        pool_size=pool_size,
        kernel_disk=kernel_disk,
        shortcut=shortcut,
        later=later,
        log=LOG,
    )
    try:
        yield driver
    finally:
        with anyio.CancelScope(shield=True):
            await driver.aclose()
            await driver_reap(driver)


async def driver_reap(driver: SandboxDriver) -> None:
    await driver.reap(keep=())


@asynccontextmanager
async def sandbox_of(
    driver: SandboxDriver, *, runtime_id: str = "runtime", image: str = IMAGE, limits: SandboxLimits = SMALL
) -> AsyncIterator[Sandbox]:
    sandbox = await driver.launch(SandboxSpec(runtime_id, image, limits))
    try:
        yield sandbox
    finally:
        with anyio.CancelScope(shield=True):
            await sandbox.stop()


class Output:
    """A sink that keeps what it is given, and lets a test wait for words."""

    def __init__(self, *, most: int = 1 << 20) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.total = 0
        self._most = most
        self._more = anyio.Event()

    def __call__(self, stream: Stream, content: bytes) -> None:
        assert 0 < len(content) <= 64 * 1024
        kept = self.stdout if stream is Stream.STDOUT else self.stderr
        self.total += len(content)
        if len(kept) < self._most:
            kept += content
        self._more.set()
        self._more = anyio.Event()

    async def until(self, words: bytes) -> None:
        with anyio.fail_after(PATIENCE_S):
            while words not in self.stdout:
                await self._more.wait()


@dataclass(frozen=True)
class Ran:
    exit: Exit
    stdout: bytes
    stderr: bytes


async def start(
    sandbox: Sandbox,
    *argv: str,
    output: Output | None = None,
    cwd: str = ".",
    env: Mapping[str, str] | None = None,
    terminal: TerminalSize | None = None,
) -> Process:
    command = Command(argv, cwd=cwd, env=env or {}, terminal=terminal)
    return await sandbox.start(command, output=output or Output())


async def run(sandbox: Sandbox, *argv: str, cwd: str = ".", env: Mapping[str, str] | None = None) -> Ran:
    output = Output()
    with anyio.fail_after(PATIENCE_S):
        process = await start(sandbox, *argv, output=output, cwd=cwd, env=env)
        ended = await process.wait()
    return Ran(ended, bytes(output.stdout), bytes(output.stderr))


async def shell(sandbox: Sandbox, script: str) -> Ran:
    return await run(sandbox, "sh", "-c", script)


async def python(sandbox: Sandbox, script: str) -> Ran:
    return await run(sandbox, "python3", "-c", script)


async def eventually_empty(sandbox: Sandbox, script: str) -> None:
    """Until the script prints nothing; bounded."""
    with anyio.fail_after(PATIENCE_S):
        while (await shell(sandbox, script)).stdout.strip():
            await anyio.sleep(0.01)
