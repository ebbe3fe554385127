"""`sandbox_shell` with `true`: the whole call with policy and both audit rows, beside `docker exec`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import anyio
from mcp import Client, StdioServerParameters

from benchmarks import containers
from benchmarks.daemons import STDIO, Daemon, ran, running
from benchmarks.measure import WARM_UP, Line, Series, Target, side_by_side, timed

CALLS = 500


def lines() -> Iterator[Line]:
    with running(pool_size=0) as daemon, containers.plain() as container, daemon.client() as client:
        client.call("space_create", name="bench")
        client.call("sandbox_launch", space="bench")
        true = partial(client.call, "sandbox_shell", space="bench", command="true")
        command_line = partial(ran, ("docker", "exec", str(container.id), "true"))
        ours, baseline = side_by_side(true, command_line, count=CALLS, baseline_count=25)
        yield Line(
            what="sandbox_shell true over stdio, raw client",
            unit="ms",
            ours=ours,
            baseline=baseline,
            against="docker exec (command line)",
            targets=[Target(3), Target(1 / 20, of_baseline=True)],
        )
        from_python = Series([timed(lambda: container.exec_run(["true"])) for _ in range(25)])
        yield Line(
            what="sandbox_shell true over stdio, SDK client",
            unit="ms",
            ours=anyio.run(_with_the_sdk, daemon),
            baseline=from_python,
            against="docker-py exec_run",
        )


async def _with_the_sdk(daemon: Daemon) -> Series:
    server = StdioServerParameters(command=STDIO[0], args=list(STDIO[1:]), env=daemon.environment)
    found: list[float] = []
    async with Client(server) as client:
        for _ in range(CALLS + WARM_UP):
            started = anyio.current_time()
            await client.call_tool("sandbox_shell", {"space": "bench", "command": "true"})
            found.append((anyio.current_time() - started) * 1000)
    return Series(found[WARM_UP:])
