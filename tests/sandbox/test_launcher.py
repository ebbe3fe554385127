"""A launch that fails half-way takes away what it made, and nothing that was there before."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import closing, suppress
from pathlib import Path

import pytest

from mcp_spaces.errors import Busy, RuntimeUnavailable, SpacesError
from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.docker.workspace import DiskFiles
from mcp_spaces.sandbox.port import SandboxLimits, SandboxSpec
from tests.sandbox.rigs import BARE_IMAGE, IMAGE, LOG, PATIENCE_S, SMALL, docker_driver, sandbox_of, shell

pytestmark = pytest.mark.anyio
TOO_MANY_CORES = SandboxLimits(cpu_cores=1024, memory_bytes=256 << 20, disk_bytes=64 << 20, pids=64)


async def test_files_outlive_a_launch_that_failed(tmp_path: Path) -> None:
    async with docker_driver(tmp_path) as driver:
        async with sandbox_of(driver, image=IMAGE) as first:
            await first.write_file("kept", b"still", overwrite=False)
        with pytest.raises(SpacesError):
            await driver.launch(SandboxSpec("runtime", IMAGE, TOO_MANY_CORES))
        # Its agent cannot run there: a container is made in vain before the one that is used.
        async with sandbox_of(driver, image=BARE_IMAGE, limits=SMALL) as second:
            assert not second.new_workspace
            assert (await second.read_file("kept", limit=10)).content == b"still"


async def test_a_launch_that_failed_leaves_no_files_of_a_runtime_that_never_was(tmp_path: Path) -> None:
    async with docker_driver(tmp_path) as driver:
        with pytest.raises(SpacesError):
            await driver.launch(SandboxSpec("runtime", IMAGE, TOO_MANY_CORES))
        assert [path for path in (tmp_path / "workspaces").iterdir() if path.is_file()] == []


async def test_files_that_somebody_still_has_open_are_neither_mounted_twice_nor_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_spaces.sandbox.docker.launcher.DETACH_TIMEOUT_S", 0.1)
    async with docker_driver(tmp_path) as driver:
        async with sandbox_of(driver) as first:
            await first.write_file("kept", b"still", overwrite=False)
        disks = DiskFiles(tmp_path / "workspaces")
        disks.wait_until_detached("runtime", timeout_s=PATIENCE_S)
        held = disks.attach("runtime")
        with pytest.raises(Busy):
            await driver.launch(SandboxSpec("runtime", IMAGE, SMALL))
        held.release()
        disks.wait_until_detached("runtime", timeout_s=PATIENCE_S)
        async with sandbox_of(driver) as again:
            assert (await again.read_file("kept", limit=10)).content == b"still"


async def test_a_disk_that_cannot_be_attached_is_not_left_of_a_runtime_that_never_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with docker_driver(tmp_path) as driver:
        with monkeypatch.context() as patched:
            patched.setattr("mcp_spaces.sandbox.docker.workspace.LOOP_CONTROL", tmp_path / "nothing")
            with pytest.raises(RuntimeUnavailable, match="attached"):
                await driver.launch(SandboxSpec("runtime", IMAGE, SMALL))
        assert [path for path in (tmp_path / "workspaces").iterdir() if path.is_file()] == []


async def test_an_engine_behind_tcp_runs_sandboxes(tmp_path: Path) -> None:
    joined: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError), closing(writer.transport):
            while content := await reader.read(1 << 16):
                writer.write(content)
                await writer.drain()

    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine_reader, engine_writer = await asyncio.open_unix_connection("/var/run/docker.sock")
        for source, sink in ((reader, engine_writer), (engine_reader, writer)):
            joined.add(asyncio.ensure_future(pump(source, sink)))

    server = await asyncio.start_server(through, "127.0.0.1", 0)
    driver = DockerDriver(
        instance_id=f"test-{secrets.token_hex(4)}", state_dir=tmp_path, image=IMAGE, pool_size=0, shortcut=False,
        docker_url=f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", log=LOG,
    )  # fmt: skip
    async with driver, sandbox_of(driver) as sandbox:
        assert (await shell(sandbox, "echo here")).stdout == b"here\n"
    for task in joined:
        task.cancel()
    await asyncio.gather(*joined, return_exceptions=True)
    server.close()
