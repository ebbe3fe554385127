"""A call and the word that takes it back may reach the agent together: nothing is done by halves, and nobody else is hurt."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from mcp_spaces.sandbox.port import Command, Sandbox, SandboxSpec
from tests.sandbox.fake import FAKE_IMAGE, FakeDriver
from tests.sandbox.rigs import SMALL, Output, eventually_empty, shell

pytestmark = pytest.mark.anyio

HELD = b"held already"
BASE = hashlib.sha256(HELD).hexdigest()
CALLS: dict[str, Callable[[Sandbox], Awaitable[object]]] = {
    "a new file": lambda sandbox: sandbox.write_file("new", b"x", overwrite=False),
    "a file of another's place": lambda sandbox: sandbox.write_file("held", b"x", overwrite=True),
    "a file based on another": lambda sandbox: sandbox.write_file("held", b"x", overwrite=True, base_sha256=BASE),
    "a file in pieces": lambda sandbox: sandbox.write_file("new", bytes(200_000), overwrite=False),
    "a file in a new folder": lambda sandbox: sandbox.write_file("folder/new", b"x", overwrite=False),
    "a deletion": lambda sandbox: sandbox.delete_file("absent"),
    "a tree's deletion": lambda sandbox: sandbox.delete_file("absent", recursive=True),
    "a reading": lambda sandbox: sandbox.read_file("held", limit=100),
    "a status": lambda sandbox: sandbox.stat("held"),
    "a list": lambda sandbox: sandbox.list_files("."),
    "a glob": lambda sandbox: sandbox.glob("*"),
    "its use": lambda sandbox: sandbox.usage(),
    "a command": lambda sandbox: sandbox.start(Command(("sleep", "60")), output=Output()),
    "a command with input": lambda sandbox: sandbox.start(Command(("cat",), stdin=True), output=Output()),
}


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    sandbox = await FakeDriver(tmp_path / "workspaces").launch(SandboxSpec("runtime", FAKE_IMAGE, SMALL))
    await sandbox.write_file("held", HELD, overwrite=False)
    yield sandbox
    await sandbox.stop()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_call_that_is_taken_back_in_the_same_breath(
    sandbox: Sandbox, call: Callable[[Sandbox], Awaitable[object]]
) -> None:
    agent = int(sandbox.container_id.removeprefix("fake-"))
    os.kill(agent, signal.SIGSTOP)

    async def asked() -> None:
        with suppress(Exception):
            await call(sandbox)

    async with anyio.create_task_group() as group:
        group.start_soon(asked)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    os.kill(agent, signal.SIGCONT)
    assert (await shell(sandbox, "cat held")).stdout in (HELD, b"x")
    await eventually_empty(sandbox, "find . -name '.mcp-spaces-part-*'")
