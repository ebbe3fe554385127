"""Sandboxes that wait for a launch: each is handed out once, with what its runtime had before, and only where it fits."""

# ruff: noqa: ASYNC110, ASYNC221 - Docker is asked beside the driver; nothing else waits meanwhile
from __future__ import annotations

import subprocess
from pathlib import Path

import anyio

from mcp_spaces.sandbox.port import Sandbox, SandboxLimits, SandboxSpec
from tests.sandbox.leftovers import containers, inspected
from tests.sandbox.rigs import BARE_IMAGE, IMAGE, PATIENCE_S, SMALL, docker_driver, sandbox_of, shell


async def test_a_warm_sandbox_is_handed_out_once(tmp_path: Path) -> None:
    async with docker_driver(tmp_path, pool_size=1) as driver:
        await driver.warm(SMALL)
        (warm,) = containers(driver.instance_id)
        launched: list[Sandbox] = []

        async def launch(runtime_id: str) -> None:
            launched.append(await driver.launch(SandboxSpec(runtime_id, IMAGE, SMALL)))

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(launch, f"runtime-{number}")
        ids = [sandbox.container_id for sandbox in launched]
        assert len(set(ids)) == 4
        assert ids.count(warm) == 1
        for sandbox in launched:
            assert (await sandbox.list_files(".")).entries == ()


async def test_a_claimed_sandbox_keeps_its_files_under_the_runtimes_name(tmp_path: Path) -> None:
    async with docker_driver(tmp_path, pool_size=1) as driver:
        await driver.warm(SMALL)
        (warm,) = containers(driver.instance_id)
        async with sandbox_of(driver, runtime_id="mine") as sandbox:
            assert sandbox.container_id == warm
            with anyio.fail_after(PATIENCE_S):
                while inspected(warm)["Name"] != f"/mcp-spaces-{driver.instance_id}-mine":
                    await anyio.sleep(0.02)
            await sandbox.write_file("kept", b"1", overwrite=False)
        await driver.warm(SMALL)
        async with sandbox_of(driver, runtime_id="mine") as again:
            assert (await again.read_file("kept", limit=5)).content == b"1"


async def test_a_sandbox_says_what_its_image_holds(tmp_path: Path) -> None:
    async with docker_driver(tmp_path, pool_size=1) as driver:
        await driver.warm(SMALL)
        async with (
            sandbox_of(driver, runtime_id="warm") as warm,
            sandbox_of(driver, runtime_id="bare", image=BARE_IMAGE) as bare,
        ):
            assert warm.image_id == inspected(warm.container_id)["Image"]
            assert bare.image_id == inspected(bare.container_id)["Image"]
            assert warm.image_id != bare.image_id


async def test_a_dead_warm_sandbox_is_not_handed_out(tmp_path: Path) -> None:
    async with docker_driver(tmp_path, pool_size=1) as driver:
        await driver.warm(SMALL)
        (warm,) = containers(driver.instance_id)
        subprocess.run(["docker", "kill", warm], check=True, capture_output=True)
        async with sandbox_of(driver) as sandbox:
            assert sandbox.container_id != warm
            assert (await shell(sandbox, "echo well")).stdout == b"well\n"


async def test_other_limits_do_not_get_the_warm_sandbox(tmp_path: Path) -> None:
    async with docker_driver(tmp_path, pool_size=1) as driver:
        await driver.warm(SMALL)
        (warm,) = containers(driver.instance_id)
        async with sandbox_of(driver, limits=SandboxLimits(memory_bytes=128 << 20, disk_bytes=64 << 20)) as sandbox:
            assert sandbox.container_id != warm
