"""The way to an agent past the engine: taken where it can be, and open to nobody else."""

# ruff: noqa: ASYNC220, ASYNC240 - nothing else runs in the loops of these tests
from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.docker import shortcut
from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.port import SandboxSpec
from mcp_spaces.sandbox.stream.agent_stream import AgentStream
from mcp_spaces.sandbox.stream.attached import AttachedSandbox
from mcp_spaces.sandbox.stream.protocol import MUX_HEADER
from tests.sandbox.rigs import IMAGE, SMALL, docker_driver, python, shell, start

pytestmark = pytest.mark.anyio

WHO_LISTENS = "cat /proc/net/unix; ls -A /tmp"
IMPOSTOR = (
    "import socket, time; door = socket.socket(socket.AF_UNIX); door.bind('/tmp/door'); door.listen(); time.sleep(60)"
)


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[DockerDriver]:
    async with docker_driver(tmp_path, shortcut=False) as driver:
        yield driver


@pytest.mark.parametrize("wanted", [True, False])
async def test_the_way_is_taken_where_it_is_wanted_and_only_there(tmp_path: Path, wanted: bool) -> None:
    async with docker_driver(tmp_path, shortcut=wanted) as driver:
        launched = await driver.launch(SandboxSpec("runtime", IMAGE, SMALL))
        assert isinstance(launched, AttachedSandbox)
        assert (launched._stream._shortcut is not None) == wanted


async def fresh(driver: DockerDriver) -> AttachedSandbox:
    """A sandbox in which nothing ran yet."""
    sandbox = await driver.launch(SandboxSpec("runtime", IMAGE, SMALL))
    assert isinstance(sandbox, AttachedSandbox)
    return sandbox


def pid_of(sandbox: AttachedSandbox) -> int:
    told = subprocess.check_output(["docker", "inspect", "--format", "{{.State.Pid}}", sandbox.container_id])
    return int(told)


async def test_it_is_taken_and_nothing_is_left_that_listens(driver: DockerDriver) -> None:
    sandbox = await fresh(driver)
    assert await shortcut.take(sandbox, pid_of(sandbox))
    assert (await shell(sandbox, "echo here")).stdout == b"here\n"
    assert b"/tmp" not in (await shell(sandbox, WHO_LISTENS)).stdout
    many = await python(sandbox, "print('x' * 900_000)")
    assert len(many.stdout) == 900_001


async def test_only_the_agents_own_process_is_visited(driver: DockerDriver) -> None:
    sandbox = await fresh(driver)
    door = f"/proc/{pid_of(sandbox)}/root/tmp/door"
    impostor = await start(sandbox, "python3", "-c", IMPOSTOR)
    with anyio.fail_after(30):
        while not os.path.lexists(door):
            await sandbox.ping()
    assert shortcut.visit(door, pid_of(sandbox)) is None
    await impostor.kill()


def test_a_path_where_nobody_listens_is_no_way(tmp_path: Path) -> None:
    assert shortcut.visit(str(tmp_path / "nothing"), os.getpid()) is None
    (tmp_path / "file").touch()
    assert shortcut.visit(str(tmp_path / "file"), os.getpid()) is None
    with socket.socket(socket.AF_UNIX) as ours:
        ours.bind(str(tmp_path / "socket"))
        assert shortcut.visit(str(tmp_path / "socket"), os.getpid()) is None
        ours.listen()
        assert shortcut.visit(str(tmp_path / "socket"), os.getppid()) is None
        visited = shortcut.visit(str(tmp_path / "socket"), os.getpid())
        assert visited is not None
        visited.close()


async def test_where_the_engine_counts_processes_otherwise_all_stays_as_it_is(driver: DockerDriver) -> None:
    sandbox = await fresh(driver)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        # There is a process of that number here, and it is another one.
        assert not await shortcut.take(sandbox, other.pid)
        other.communicate(b"\n")
    assert (await shell(sandbox, "echo here")).stdout == b"here\n"
    assert b"/tmp" not in (await shell(sandbox, WHO_LISTENS)).stdout


async def test_where_a_containers_files_are_out_of_reach_all_stays_as_it_is(driver: DockerDriver) -> None:
    sandbox = await fresh(driver)
    no_process = 2**22 + 1
    assert not await shortcut.take(sandbox, no_process)
    assert (await shell(sandbox, "echo here")).stdout == b"here\n"


async def test_frames_on_the_stream_that_was_left_end_the_sandbox() -> None:
    loop = asyncio.get_running_loop()
    ours, attached = socket.socketpair()
    shorter, agent = socket.socketpair()
    for each in (ours, attached, shorter, agent):
        each.setblocking(False)
    _, stream = await loop.create_unix_connection(lambda: AgentStream(log=logging.getLogger("test")), sock=ours)

    def multiplexed(frame: bytes) -> bytes:
        return MUX_HEADER.pack(1, len(frame)) + frame

    try:
        hello = wire.frame(wire.HELLO, 0, wire.pack([wire.VERSION, wire.whole(1)]))
        await loop.sock_sendall(attached, multiplexed(hello))
        await stream.hello
        await stream.continue_over(shorter)
        await loop.sock_sendall(attached, multiplexed(wire.frame(wire.GONE, 1)))
        with anyio.fail_after(30):
            assert "frames on a stream that it left" in await stream.closed
    finally:
        stream.close("the test is over")
        attached.close()
        agent.close()
