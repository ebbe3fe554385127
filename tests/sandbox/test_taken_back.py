"""A call whose caller goes away in the very moment: the agent hears of both at once, and goes on for everybody else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from mcp_spaces.sandbox.port import Command, Sandbox, TerminalSize
from tests.sandbox.fake import FAKE_IMAGE, FakeDriver
from tests.sandbox.rigs import PATIENCE_S, Output, eventually_empty, sandbox_of, shell

pytestmark = pytest.mark.anyio
BASE = hashlib.sha256(b"here").hexdigest()
LARGE = bytes(1 << 20)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    driver = FakeDriver(tmp_path / "sandboxes")
    async with sandbox_of(driver, image=FAKE_IMAGE) as launched:
        await launched.write_file("folder/file", b"here", overwrite=False)
        yield launched
    await driver.aclose()


CALLS: dict[str, Callable[[Sandbox], Awaitable[object]]] = {
    "a small write": lambda sandbox: sandbox.write_file("folder/new", b"x", overwrite=True),
    "an edit": lambda sandbox: sandbox.write_file("folder/file", b"x", overwrite=True, base_sha256=BASE),
    "a write that is refused": lambda sandbox: sandbox.write_file("folder", b"x", overwrite=True),
    "a large write": lambda sandbox: sandbox.write_file("folder/new", LARGE, overwrite=True),
    "a read": lambda sandbox: sandbox.read_file("folder/file", limit=10),
    "a read of nothing": lambda sandbox: sandbox.read_file("folder/none", limit=10),
    "a look": lambda sandbox: sandbox.stat("folder/file"),
    "a list": lambda sandbox: sandbox.list_files(".", depth=3),
    "a search": lambda sandbox: sandbox.search("here"),
    "a pattern": lambda sandbox: sandbox.glob("**"),
    "a delete of nothing": lambda sandbox: sandbox.delete_file("folder/none", recursive=True),
    "a command": lambda sandbox: sandbox.start(Command(["sleep", "60"]), output=Output()),
    "a command in a terminal": lambda sandbox: sandbox.start(
        Command(["sleep", "60"], terminal=TerminalSize(24, 80)), output=Output()
    ),
    "a dial": lambda sandbox: sandbox.dial(9),
    "a question for its use": lambda sandbox: sandbox.usage(),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_that_is_taken_back_at_once_costs_nobody_else_anything(sandbox: Sandbox, call: str) -> None:
    agent = int(sandbox.container_id.removeprefix("fake-"))
    # So that it reads the call and the word that takes it back in one piece.
    os.kill(agent, signal.SIGSTOP)
    with anyio.move_on_after(0):
        await CALLS[call](sandbox)
    os.kill(agent, signal.SIGCONT)
    assert (await sandbox.read_file("folder/file", limit=10)).size_bytes in (1, 4)
    assert (await shell(sandbox, "echo alive")).stdout == b"alive\n"
    await eventually_empty(sandbox, "find . -name '.mcp-spaces-part-*'")


async def taken_back_at_once(sandbox: Sandbox, call: Awaitable[object]) -> None:
    agent = int(sandbox.container_id.removeprefix("fake-"))
    os.kill(agent, signal.SIGSTOP)
    with anyio.move_on_after(0):
        await call
    os.kill(agent, signal.SIGCONT)


async def test_a_command_whose_caller_is_gone_before_it_starts_does_not_run_on(sandbox: Sandbox) -> None:
    seconds = str(1_000_000 + secrets.randbelow(1_000_000))
    await taken_back_at_once(sandbox, sandbox.start(Command(["sleep", seconds]), output=Output()))
    # Answered after the order.
    await sandbox.usage()
    await eventually_empty(sandbox, f"pgrep -x sleep -a | grep {seconds}")


async def test_a_connection_whose_caller_is_gone_before_it_stands_is_closed(sandbox: Sandbox) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(PATIENCE_S)
        await taken_back_at_once(sandbox, sandbox.dial(server.getsockname()[1]))
        await sandbox.usage()
        accepted, _ = await anyio.to_thread.run_sync(server.accept)
        with accepted, contextlib.suppress(ConnectionResetError):
            accepted.settimeout(PATIENCE_S)
            assert await anyio.to_thread.run_sync(accepted.recv, 1) == b""
