"""Sandbox figures, each beside what Docker does raw on the same machine in the same run.

    python benchmarks/sandbox.py [image]
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import docker  # type: ignore[import-untyped]

from mcp_spaces.sandbox.docker import DockerDriver
from mcp_spaces.sandbox.port import Command, Sandbox, SandboxLimits, SandboxSpec, Stream

IMAGE = "mcp-spaces-sandbox:dev"
LIMITS = SandboxLimits(cpu_cores=2.0, memory_bytes=512 << 20, disk_bytes=1 << 30)
FLOOD_BYTES = 512 << 20


def drop(stream: Stream, content: bytes) -> None:
    """A sink that keeps nothing."""


async def run_true(sandbox: Sandbox) -> None:
    process = await sandbox.start(Command(["true"]), output=drop)
    await process.wait()


async def timed(call: Callable[[], Awaitable[object]], times: int) -> list[float]:
    """Milliseconds, sorted."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        found.append((time.perf_counter() - began) * 1e3)
    return sorted(found)


def row(name: str, milliseconds: list[float], raw: list[float] | None = None) -> None:
    p50, p99 = statistics.median(milliseconds), milliseconds[int(len(milliseconds) * 0.99)]
    beside = f"{statistics.median(raw):10.2f} {statistics.median(raw) / p50:8.1f} x" if raw else ""
    print(f"{name:44} {p50:9.2f} {p99:9.2f} {beside}")


async def commands(sandbox: Sandbox, client: docker.APIClient) -> None:
    def raw_exec() -> None:
        client.exec_start(client.exec_create(sandbox.container_id, ["true"])["Id"])

    raw = await timed(lambda: asyncio.to_thread(raw_exec), 30)
    await timed(lambda: run_true(sandbox), 200)
    row("run `true` (raw: docker exec)", await timed(lambda: run_true(sandbox), 1000), raw)
    await sandbox.write_file("small", bytes(1024), overwrite=True)
    row("write 1 KiB", await timed(lambda: sandbox.write_file("small", bytes(1024), overwrite=True), 500))
    row("read 1 KiB", await timed(lambda: sandbox.read_file("small", limit=2048), 500))
    row("write 1 MiB", await timed(lambda: sandbox.write_file("large", bytes(1 << 20), overwrite=True), 50))
    row("read 1 MiB", await timed(lambda: sandbox.read_file("large", limit=1 << 20), 50))
    row("list a folder", await timed(lambda: sandbox.list_files("."), 200))


async def flood(sandbox: Sandbox) -> None:
    taken = 0

    def count(stream: Stream, content: bytes) -> None:
        nonlocal taken
        taken += len(content)

    began = time.perf_counter()
    process = await sandbox.start(Command(["head", "-c", str(FLOOD_BYTES), "/dev/zero"]), output=count)
    await process.wait()
    seconds = time.perf_counter() - began
    print(f"{'stdout':44} {taken / seconds / 1e6:9.0f} MB/s")


async def many(driver: DockerDriver, image: str) -> None:
    sandboxes = [await driver.launch(SandboxSpec(f"many-{number}", image, LIMITS)) for number in range(8)]
    count = 200

    async def repeat(sandbox: Sandbox) -> None:
        for _ in range(count):
            await run_true(sandbox)

    began = time.perf_counter()
    await asyncio.gather(*(repeat(sandbox) for sandbox in sandboxes))
    print(f"{'`true` over 8 sandboxes':44} {8 * count / (time.perf_counter() - began):9.0f} commands/s")
    began = time.perf_counter()
    await asyncio.gather(*(repeat(sandboxes[0]) for _ in range(8)))
    print(f"{'`true`, 8 at a time in one sandbox':44} {8 * count / (time.perf_counter() - began):9.0f} commands/s")
    await asyncio.gather(*(sandbox.stop() for sandbox in sandboxes))


async def launches(folder: Path, image: str, client: docker.APIClient) -> None:
    def raw_launch() -> str:
        container = client.create_container(image, ["sleep", "60"], network_disabled=True)["Id"]
        client.start(container)
        return str(container)

    log = logging.getLogger("benchmark")
    async with DockerDriver(instance_id="bench-cold", state_dir=folder, image=image, pool_size=0, log=log) as driver:
        cold, raw, stop = [], [], []
        await driver.launch(SandboxSpec("first", image, LIMITS))
        for number in range(15):
            began = time.perf_counter()
            container = await asyncio.to_thread(raw_launch)
            raw.append((time.perf_counter() - began) * 1e3)
            await asyncio.to_thread(lambda gone=container: client.remove_container(gone, force=True))
            began = time.perf_counter()
            sandbox = await driver.launch(SandboxSpec(f"cold-{number}", image, LIMITS))
            cold.append((time.perf_counter() - began) * 1e3)
            began = time.perf_counter()
            await sandbox.stop()
            stop.append((time.perf_counter() - began) * 1e3)
        await driver.reap(keep=())
    row("launch, cold (raw: create + start)", sorted(cold), raw)
    row("stop", sorted(stop))
    async with DockerDriver(instance_id="bench-warm", state_dir=folder, image=image, pool_size=1, log=log) as driver:
        warm = []
        for number in range(15):
            await driver.warm(LIMITS)
            began = time.perf_counter()
            await driver.launch(SandboxSpec(f"warm-{number}", image, LIMITS))
            warm.append((time.perf_counter() - began) * 1e3)
        await driver.reap(keep=())
    row("launch, from the pool", sorted(warm), raw)


async def main(image: str) -> None:
    client = docker.APIClient(version="auto")
    print(f"{'':44} {'p50 ms':>9} {'p99 ms':>9} {'raw p50':>10}")
    with tempfile.TemporaryDirectory() as folder:
        log = logging.getLogger("benchmark")
        async with DockerDriver(instance_id="bench", state_dir=Path(folder), image=image, pool_size=0, log=log) as driver:
            sandbox = await driver.launch(SandboxSpec("one", image, LIMITS))
            await commands(sandbox, client)
            await flood(sandbox)
            await sandbox.stop()
            await many(driver, image)
            await driver.reap(keep=())
        await launches(Path(folder), image, client)
    client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else IMAGE))
