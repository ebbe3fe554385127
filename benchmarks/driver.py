"""The sandbox driver alone, without pipeline, records and sockets: what is left of a call is ours to save."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

import anyio
import docker

from benchmarks.containers import image
from benchmarks.daemons import state_directory
from benchmarks.measure import WARM_UP, Line, Series
from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.port import Command, Sandbox, SandboxSpec, Stream

KIB, MIB = 1 << 10, 1 << 20
FLOOD_BYTES = 256 * MIB
SANDBOXES = 8
CALLS_EACH = 200
BASH_TRUE = ("/bin/bash", "-c", "--", "true")


def lines() -> Iterator[Line]:
    yield from anyio.run(_measured)


async def _measured() -> list[Line]:
    with state_directory() as state:
        async with DockerDriver(
            instance_id="bench", state_dir=state, image=image(), pool_size=0, log=logging.getLogger("benchmark")
        ) as driver:
            try:
                sandboxes = [await driver.launch(SandboxSpec(f"rt-{number}", image())) for number in range(SANDBOXES)]
                return await _lines(sandboxes)
            finally:
                await driver.reap(keep=())


async def _lines(sandboxes: list[Sandbox]) -> list[Line]:
    one = sandboxes[0]
    found = [
        Line(
            what="driver: run true",
            unit="ms",
            ours=await _timed(lambda: _true(one), count=300),
            baseline=await anyio.to_thread.run_sync(_raw_exec, one.container_id),
            against="exec_create + exec_start, docker-py",
        ),
        Line(what="driver: run bash -c true", unit="ms", ours=await _timed(lambda: _run(one, BASH_TRUE), count=300)),
    ]
    for size, name, count in ((KIB, "1 KiB", 200), (MIB, "1 MiB", 30)):
        content = bytes(size)

        async def write(content: bytes = content) -> None:
            await one.write_file("file", content, overwrite=True)

        async def read(size: int = size) -> None:
            await one.read_file("file", limit=size)

        found.append(Line(what=f"driver: write {name}", unit="ms", ours=await _timed(write, count=count)))
        found.append(Line(what=f"driver: read {name}", unit="ms", ours=await _timed(read, count=count)))
    found.append(Line(what="driver: stdout", unit="MB/s", ours=Series([await _flood(one) for _ in range(3)])))
    found.append(
        Line(
            what=f"driver: true over {SANDBOXES} sandboxes at a time",
            unit="calls/s",
            ours=Series([await _crowd(sandboxes) for _ in range(3)]),
        )
    )
    return found


async def _true(sandbox: Sandbox) -> None:
    await _run(sandbox, ["true"])


async def _run(sandbox: Sandbox, argv: Sequence[str]) -> None:
    process = await sandbox.start(Command(argv), output=_drop)
    await process.wait()


def _drop(_stream: Stream, _chunk: bytes) -> None:
    """A sink that keeps nothing."""


async def _timed(call: Callable[[], Awaitable[object]], *, count: int) -> Series:
    found: list[float] = []
    for _ in range(WARM_UP + count):
        started = time.perf_counter()
        await call()
        found.append((time.perf_counter() - started) * 1000)
    return Series(found[WARM_UP:])


async def _flood(sandbox: Sandbox) -> float:
    taken = 0

    def count(_stream: Stream, chunk: bytes) -> None:
        nonlocal taken
        taken += len(chunk)

    started = time.perf_counter()
    process = await sandbox.start(Command(["head", "-c", str(FLOOD_BYTES), "/dev/zero"]), output=count)
    await process.wait()
    return taken / (time.perf_counter() - started) / 1e6


async def _crowd(sandboxes: list[Sandbox]) -> float:
    async def repeat(sandbox: Sandbox) -> None:
        for _ in range(CALLS_EACH):
            await _true(sandbox)

    started = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for sandbox in sandboxes:
            tasks.start_soon(repeat, sandbox)
    return len(sandboxes) * CALLS_EACH / (time.perf_counter() - started)


def _raw_exec(container_id: str) -> Series:
    client = docker.APIClient(version="auto")
    found: list[float] = []
    for _ in range(20):
        started = time.perf_counter()
        client.exec_start(client.exec_create(container_id, ["true"])["Id"])
        found.append((time.perf_counter() - started) * 1000)
    client.close()
    return Series(found)
