"""D01 to D07, D15, K05, K07: what a sandbox can use up, and what is left after it or its engine dies."""

# ruff: noqa: ASYNC110, ASYNC221 - Docker is asked beside the driver; nothing else waits meanwhile
from __future__ import annotations

import os
import resource
import subprocess
import time
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from mcp_spaces.errors import DiskFull, OutOfMemory, QuotaExceeded, RuntimeUnavailable, SpacesError, TimedOut
from mcp_spaces.sandbox.docker.container import INSTANCE_LABEL
from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.port import Sandbox, SandboxLimits, SandboxSpec
from tests.leaps import leap
from tests.sandbox.leftovers import containers, loop_devices, volumes
from tests.sandbox.rigs import (
    IMAGE,
    PATIENCE_S,
    SMALL,
    Output,
    eventually_empty,
    python,
    run,
    sandbox_of,
    shell,
    start,
)

pytestmark = pytest.mark.anyio


async def test_d01_fork_bomb_stops_at_the_pids_limit(sandbox: Sandbox) -> None:
    output = Output()
    bomb = await start(sandbox, "sh", "-c", "bomb() { bomb | bomb & }; echo lit; bomb; sleep 60", output=output)
    await output.until(b"lit")
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        assert (await sandbox.usage()).pids <= SMALL.pids
        await anyio.sleep(0.05)
    assert (await sandbox.stat(".")).path == "."
    with anyio.fail_after(PATIENCE_S):
        await bomb.kill()
        while True:
            try:
                if (await shell(sandbox, "echo alive")).stdout == b"alive\n":
                    break
            except QuotaExceeded:
                await anyio.sleep(0.02)
    assert (await sandbox.usage()).pids < 20


async def test_d02_a_memory_bomb_is_told_as_such_and_costs_only_its_command(sandbox: Sandbox) -> None:
    output = Output()
    other = await start(sandbox, "sh", "-c", "echo on; read x; echo $x", output=output)
    await output.until(b"on")
    ran = await python(sandbox, "x = []\nwhile True: x.append(bytearray(b'x' * (1 << 20)))")
    assert (ran.exit.exit_code, ran.exit.out_of_memory) == (137, True)
    ran = await shell(sandbox, "python3 -c 'x = bytearray(b\"x\" * (1 << 30))'; echo rc $?; exit 5")
    assert (ran.stdout, ran.exit.out_of_memory) == (b"rc 137\n", True)
    ran = await shell(sandbox, "exit 137")
    assert not ran.exit.out_of_memory
    await other.write(b"alive\n")
    with anyio.fail_after(PATIENCE_S):
        assert (await other.wait()).exit_code == 0


async def test_d03_files_in_memory_cannot_take_all_of_it(sandbox: Sandbox) -> None:
    ran = await shell(
        sandbox, "cat /dev/zero > /tmp/fill; cat /dev/zero > /dev/shm/fill; du -cm /tmp/fill /dev/shm/fill | tail -1"
    )
    assert b"No space left" in ran.stderr
    assert int(ran.stdout.split()[0]) <= (SMALL.memory_bytes >> 20) // 2
    assert (await python(sandbox, "x = bytearray(b'x' * (60 << 20)); print(len(x))")).exit.exit_code == 0


async def test_d04_the_disk_limit_holds_and_ends_when_files_go(sandbox: Sandbox) -> None:
    ran = await shell(sandbox, "for i in 1 2 3; do cat /dev/zero > fill$i; done; du -cm . | tail -1")
    assert b"No space left" in ran.stderr
    assert 30 <= int(ran.stdout.split()[0]) <= SMALL.disk_bytes >> 20
    with pytest.raises(DiskFull):
        await sandbox.write_file("more", bytes(1 << 20), overwrite=False)
    assert (await shell(sandbox, "ls -A | grep part; true")).stdout == b""
    assert (await sandbox.usage()).disk_bytes <= SMALL.disk_bytes
    await shell(sandbox, "rm fill*")
    await sandbox.write_file("more", bytes(1 << 20), overwrite=False)


async def test_d04_a_sparse_giant_is_refused(sandbox: Sandbox) -> None:
    # ext4 in 4 KiB blocks ends at 16 TiB; what counts is that no block beyond the disk can be had.
    await shell(sandbox, "truncate -s 1T giant; dd if=/dev/zero of=giant bs=1M count=200 conv=notrunc")
    assert (await sandbox.usage()).disk_bytes <= SMALL.disk_bytes
    assert (await sandbox.read_file("giant", offset=1 << 39, limit=10)).content == bytes(10)


async def test_d05_the_limit_of_inodes_holds(sandbox: Sandbox) -> None:
    make = "import os\nn = 0\ntry:\n  while n < 10**6: os.close(os.open('%s/%%d' %% n, os.O_CREAT)); n += 1\nexcept OSError as e: print(n, e.errno)"
    for folder, most in ((".", (SMALL.disk_bytes // 8192)), ("/tmp", 65536)):
        made, number = (await python(sandbox, make % folder)).stdout.split()
        assert int(made) <= most
        assert int(number) == 28
    await run(sandbox, "find", ".", "-delete")
    await sandbox.write_file("again", b"", overwrite=False)


async def test_d06_an_output_flood_grows_no_log_and_no_memory_here(sandbox: Sandbox) -> None:
    output = Output(most=1 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    flood = await start(sandbox, "cat", "/dev/zero", output=output)
    with anyio.fail_after(PATIENCE_S):
        while output.total < 400 << 20:
            await anyio.sleep(0.02)
        await flood.kill()
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 16 << 10
    log = Path("/var/lib/docker/containers") / sandbox.container_id
    assert not list(log.glob("*-json.log*"))


async def test_d07_a_timed_out_command_leaves_no_process(sandbox: Sandbox) -> None:
    process = await start(sandbox, "sh", "-c", "setsid sleep 67.25 & (env -i setsid sleep 67.25 &) ; sleep 67.25")
    with anyio.move_on_after(0.2) as patience:
        await process.wait()
    assert patience.cancelled_caught
    with anyio.fail_after(PATIENCE_S):
        await process.kill()
    assert (await shell(sandbox, "pgrep -f 'sleep 67[.]25'")).stdout == b""


THROTTLED = "cat /sys/fs/cgroup/cpu/cpu.stat /sys/fs/cgroup/cpu.stat 2>/dev/null | awk '/^nr_throttled/{print $2}'"
"""In how many periods the kernel stopped what runs there, since its share was used up: cgroup v1 or v2."""


async def test_d08_a_hog_takes_no_more_than_its_share(driver: DockerDriver) -> None:
    # So little that it comes by more than that on the busiest machine.
    limits = SandboxLimits(cpu_cores=0.05, memory_bytes=256 << 20, disk_bytes=64 << 20)
    async with sandbox_of(driver, limits=limits) as sandbox:
        before = int((await shell(sandbox, THROTTLED)).stdout)
        # It wants a whole core, and nothing but its limit keeps it from one.
        hog = await start(sandbox, "sh", "-c", "while :; do :; done")
        with anyio.fail_after(PATIENCE_S):
            for _ in range(20):
                await sandbox.stat(".")
            while int((await shell(sandbox, THROTTLED)).stdout) < before + 10:
                await anyio.sleep(0.05)
        await hog.kill()


async def test_d12_a_pattern_that_never_ends_stalls_nothing(sandbox: Sandbox) -> None:
    await sandbox.write_file("a" * 200, b"a" * 20_000 + b"!", overwrite=False)

    ended: list[None] = []

    async def attack() -> None:
        with pytest.raises(TimedOut):
            await sandbox.search("(a*)*$b", timeout_s=300)
        ended.append(None)

    async with anyio.create_task_group() as group:
        group.start_soon(attack)
        group.start_soon(attack)
        with anyio.fail_after(PATIENCE_S):
            for _ in range(5):
                await sandbox.stat(".")
        assert ended == [], "they were waited for"
        leap(300)
    await eventually_empty(sandbox, "test $(ls -d /proc/[0-9]* | wc -l) -lt 12 || echo many")


async def test_d15_a_hundred_launches_leave_nothing(driver: DockerDriver, tmp_path: Path) -> None:
    for number in range(25):
        async with anyio.create_task_group() as group:
            for other in range(4):
                group.start_soon(_launch_and_stop, driver, f"runtime-{number}-{other}")
    await driver.reap(keep=())
    # The kernel lets go of a loop device a moment after the last unmount.
    with anyio.fail_after(PATIENCE_S):
        while _leftovers(driver, tmp_path):
            await anyio.sleep(0.05)


async def _launch_and_stop(driver: DockerDriver, runtime_id: str) -> None:
    sandbox = await driver.launch(SandboxSpec(runtime_id, IMAGE, SMALL))
    await sandbox.stop()
    await driver.delete_workspace(runtime_id)


def _leftovers(driver: DockerDriver, folder: Path) -> list[str]:
    disks = [str(path) for path in (folder / "workspaces").glob("*.ext4")]
    return containers(driver.instance_id) + volumes(driver.instance_id) + loop_devices(folder) + disks


async def test_k05_an_orphan_is_found_by_its_label_and_foreign_ones_are_left(driver: DockerDriver) -> None:
    made = []
    for label in (driver.instance_id, driver.instance_id + "x"):
        command = ["docker", "create", "--label", f"{INSTANCE_LABEL}={label}", IMAGE, "true"]
        made.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    try:
        await driver.reap(keep=())
        left = subprocess.run(
            ["docker", "ps", "-aq", "--no-trunc"], capture_output=True, text=True, check=True
        ).stdout.split()
        assert made[0] not in left
        assert made[1] in left
    finally:
        subprocess.run(["docker", "rm", made[1]], capture_output=True, check=True)


async def test_k07_a_sandbox_that_dies_under_a_write_leaves_the_file_as_it_was(driver: DockerDriver) -> None:
    async with sandbox_of(driver) as sandbox:
        await sandbox.write_file("file", b"before", overwrite=False)
        failed: list[SpacesError] = []

        async def write() -> None:
            try:
                await sandbox.write_file("file", os.urandom(40 << 20), overwrite=True)
            except SpacesError as error:
                failed.append(error)

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(write)
                while (await sandbox.usage()).disk_bytes < 2 << 20:
                    await anyio.lowlevel.checkpoint()
                subprocess.run(["docker", "kill", sandbox.container_id], capture_output=True, check=True)
        assert isinstance(failed[0], (RuntimeUnavailable, OutOfMemory))
    async with sandbox_of(driver) as again:
        assert (await again.read_file("file", limit=100)).content == b"before"
        assert (await shell(again, "ls -A")).stdout == b"file\n", "what no listing shows takes room all the same"
        # As many as it had begun before: nothing of a former life is in their way.
        for number in range(3):
            await again.write_file("file", b"%d" % number, overwrite=True)
