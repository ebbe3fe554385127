"""Launches that fail, containers that are killed, daemons that die: nothing stays that a reap does not find."""

# ruff: noqa: ASYNC110, ASYNC220, ASYNC221 - Docker is asked beside the driver; nothing else waits meanwhile
from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from mcp_spaces.errors import Conflict, RuntimeUnavailable
from mcp_spaces.sandbox.docker.container import INSTANCE_LABEL
from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.docker.workspace import DiskFiles
from mcp_spaces.sandbox.port import Sandbox, SandboxLimits, SandboxSpec
from tests.folders import fill, small_disk
from tests.sandbox.leftovers import containers, loop_devices, volumes
from tests.sandbox.rigs import IMAGE, PATIENCE_S, SMALL, docker_driver, sandbox_of, shell, start

ROOT = Path(__file__).resolve().parents[2]


async def test_a_failed_launch_leaves_nothing(driver: DockerDriver, tmp_path: Path) -> None:
    # More cores than the host has: the engine refuses at creation, after the disk was made.
    with pytest.raises(RuntimeUnavailable):
        await driver.launch(SandboxSpec("runtime", IMAGE, SandboxLimits(cpu_cores=1000, disk_bytes=64 << 20)))
    assert containers(driver.instance_id) == []
    assert list((tmp_path / "workspaces").glob("*.ext4")) == []


async def test_a_cancelled_launch_leaves_nothing_running(driver: DockerDriver) -> None:
    for patience_s in (0.0, 0.02, 0.06, 0.1, 0.15):
        with anyio.move_on_after(patience_s):
            sandbox = await driver.launch(SandboxSpec("runtime", IMAGE, SMALL))
            await sandbox.stop()
        with anyio.fail_after(PATIENCE_S):
            while containers(driver.instance_id):
                await anyio.sleep(0.02)


async def test_the_files_of_a_cancelled_launch_can_be_deleted_at_once(driver: DockerDriver, tmp_path: Path) -> None:
    """As a launch does whose client left: the row goes, so nobody would find files that stay."""
    disk = tmp_path / "workspaces" / "runtime.ext4"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(driver.launch, SandboxSpec("runtime", IMAGE, SMALL))
        with anyio.fail_after(PATIENCE_S):
            while not disk.exists():
                await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    await driver.delete_workspace("runtime")
    assert containers(driver.instance_id) == []
    assert not disk.exists()


async def test_a_sandbox_whose_host_s_disk_was_full_keeps_its_files_and_writes_again_once_started_anew(
    tmp_path: Path,
) -> None:
    """Its file system lost its journal, and the kernel lets nobody write to it until it is mounted anew."""
    with small_disk(tmp_path / "disk", mib=16) as disk:
        async with docker_driver(disk) as driver:
            async with sandbox_of(driver) as sandbox:
                await sandbox.write_file("kept", b"kept", overwrite=True)
                await shell(sandbox, "sync")
                ballast = fill(disk)
                await shell(sandbox, "head -c 20000000 /dev/urandom > large; sync")
                ballast.unlink()
                with pytest.raises(RuntimeUnavailable) as refused:
                    await sandbox.write_file("new", b"new", overwrite=True)
                assert "sandbox_launch" in refused.value.hint
            async with sandbox_of(driver) as again:
                assert (await again.read_file("kept", offset=0, limit=100)).content == b"kept"
                await shell(again, "rm large")
                await again.write_file("new", b"new", overwrite=True)


async def test_a_container_killed_from_outside_is_noticed(driver: DockerDriver, sandbox: Sandbox) -> None:
    process = await start(sandbox, "sleep", "60")
    subprocess.run(["docker", "kill", sandbox.container_id], check=True, capture_output=True)
    with anyio.fail_after(PATIENCE_S):
        assert await sandbox.closed()
        with pytest.raises(RuntimeUnavailable):
            await process.wait()
        # Nobody stopped it, and yet the runtime can be launched again.
        async with sandbox_of(driver) as again:
            assert (await shell(again, "echo here")).stdout == b"here\n"


async def test_reaping_never_touches_another_instance(driver: DockerDriver, tmp_path: Path) -> None:
    async with docker_driver(tmp_path / "other") as other, sandbox_of(other) as foreign:
        assert await driver.reap(keep=()) == []
        assert (await shell(foreign, "echo here")).stdout == b"here\n"


async def test_reaping_leaves_what_can_be_no_workspace_of_ours(driver: DockerDriver, tmp_path: Path) -> None:
    folder = tmp_path / "workspaces"
    (folder / "folder.ext4").mkdir(parents=True)
    (folder / "rt_one (copy).ext4").write_bytes(b"")
    (folder / "left.ext4").write_bytes(b"")
    assert await driver.reap(keep=()) == ["left"]
    assert {one.name for one in folder.iterdir()} == {"folder.ext4", "rt_one (copy).ext4"}


async def test_reaping_takes_what_a_dead_process_left(driver: DockerDriver, tmp_path: Path) -> None:
    left = subprocess.run(
        ["docker", "create", "--label", f"{INSTANCE_LABEL}={driver.instance_id}", "--name",
         f"mcp-spaces-{driver.instance_id}-left", IMAGE, "true"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    (tmp_path / "workspaces").mkdir(exist_ok=True)
    (tmp_path / "workspaces" / "pool-1234.ext4").write_bytes(b"")
    (tmp_path / "workspaces" / "kept.ext4").write_bytes(b"")
    assert await driver.reap(keep={"kept", "left"}) == ["left", "pool-1234"]
    assert containers(driver.instance_id) == []
    assert (tmp_path / "workspaces" / "kept.ext4").exists()
    assert left


def forgotten_mount(driver: DockerDriver) -> str:
    """As an engine has it that was killed while a sandbox ran: a volume of ours, and no container that uses it."""
    label = f"--label={INSTANCE_LABEL}={driver.instance_id}"
    return subprocess.run(
        ["docker", "volume", "create", label], capture_output=True, text=True, check=True
    ).stdout.strip()


async def test_a_mount_that_no_container_has_is_let_go_and_one_that_is_used_stays(
    driver: DockerDriver, sandbox: Sandbox
) -> None:
    used = volumes(driver.instance_id)
    left = forgotten_mount(driver)
    await driver.reap(keep={"runtime"})
    assert left not in volumes(driver.instance_id) and set(used) <= set(volumes(driver.instance_id))
    assert (await shell(sandbox, "echo here")).stdout == b"here\n"


async def test_a_launch_has_the_engine_let_go_of_the_disk_that_it_needs(driver: DockerDriver, tmp_path: Path) -> None:
    async with sandbox_of(driver) as sandbox:
        await sandbox.write_file("kept", b"here", overwrite=False)
    with anyio.fail_after(PATIENCE_S):
        while loop_devices(tmp_path):
            await anyio.sleep(0.02)
        held = DiskFiles(tmp_path / "workspaces").attach("runtime")
        left = forgotten_mount(driver)
        async with anyio.create_task_group() as group:

            async def let_go() -> None:
                while left in volumes(driver.instance_id):
                    await anyio.sleep(0.02)
                held.release()

            group.start_soon(let_go)
            async with sandbox_of(driver) as again:
                assert (await again.read_file("kept", limit=10)).content == b"here"


DAEMON = """
import asyncio, logging, sys
from pathlib import Path
from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.port import Command, SandboxLimits, SandboxSpec

async def main():
    driver = DockerDriver(instance_id=sys.argv[1], state_dir=Path(sys.argv[2]), image=sys.argv[3], pool_size=1,
                          log=logging.getLogger("daemon"))
    limits = SandboxLimits(memory_bytes=128 << 20, disk_bytes=64 << 20)
    for number in range(3):
        print("launching", flush=True)
        sandbox = await driver.launch(SandboxSpec(f"runtime-{number}", sys.argv[3], limits))
        await sandbox.start(Command(["sleep", "65.25"]), output=lambda *_: None)
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("delay_s", [None, 0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3])
async def test_a_killed_daemon_leaves_nothing_that_a_reap_does_not_find(tmp_path: Path, delay_s: float | None) -> None:
    async with docker_driver(tmp_path) as driver:
        daemon = subprocess.Popen(
            [sys.executable, "-c", DAEMON, driver.instance_id, str(tmp_path), IMAGE],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        )  # fmt: skip
        assert daemon.stdout is not None
        words = "ready" if delay_s is None else "launching"
        await anyio.to_thread.run_sync(lambda: _read_until(daemon, words))
        # The instant of the kill is what varies.
        await anyio.sleep(delay_s or 0)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        daemon.stdout.close()
        if delay_s is None:
            # What was running goes by itself, without a reap: its stream ended. What was only created, does not.
            with anyio.fail_after(PATIENCE_S):
                while containers(driver.instance_id, "status=running"):
                    await anyio.sleep(0.05)
        # A create that was under way may land in the engine after a reap, and so may be its disk's end.
        with anyio.fail_after(PATIENCE_S):
            while await _reaped_left(driver, tmp_path):
                await anyio.sleep(0.05)


async def _reaped_left(driver: DockerDriver, folder: Path) -> list[str]:
    """What is there after a reap; tried again when the engine is at the same container itself."""
    try:
        await driver.reap(keep=())
    except (Conflict, RuntimeUnavailable) as error:
        return [error.message]
    disks = [path.name for path in (folder / "workspaces").glob("*.ext4")]
    return containers(driver.instance_id) + disks + loop_devices(folder)


async def test_k05_a_container_that_comes_after_the_reap_is_removed_and_what_runs_is_not(tmp_path: Path) -> None:
    """A create that was under way when its daemon was killed."""
    created = anyio.Event()
    async with docker_driver(tmp_path, later=created.wait) as driver:
        await driver.reap(keep=())
        async with sandbox_of(driver) as sandbox:
            label = f"{INSTANCE_LABEL}={driver.instance_id}"
            create = ["docker", "create", "--label", label, "--label", "mcp-spaces.driver=dead", IMAGE, "true"]
            subprocess.run(create, capture_output=True, check=True)
            created.set()
            with anyio.fail_after(PATIENCE_S):
                while containers(driver.instance_id) != [sandbox.container_id]:
                    await anyio.sleep(0.02)
            assert (await shell(sandbox, "echo here")).stdout == b"here\n"


def _read_until(daemon: subprocess.Popen[str], words: str) -> None:
    assert daemon.stdout is not None
    watchdog = threading.Timer(PATIENCE_S, daemon.kill)
    watchdog.start()
    for line in daemon.stdout:
        if words in line:
            break
    watchdog.cancel()
