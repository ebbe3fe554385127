"""What the daemon and each sandbox hold in memory, and what a flood of output adds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil

from benchmarks import containers
from benchmarks.clients import RawClient
from benchmarks.daemons import running
from benchmarks.measure import Line, Series, Target

SANDBOXES = 8
SETTLES_S = 1.0


def lines() -> Iterator[Line]:
    with RawClient.spawn((sys.executable, "-m", "benchmarks.plain_server"), {}) as plain:
        plain.initialize()
        assert plain.process is not None
        plain_mb = psutil.Process(plain.process.pid).memory_info().rss / 1e6
    with containers.plain() as container:
        time.sleep(SETTLES_S)
        stats: Any = container.stats(stream=False)
        bare_mb = stats["memory_stats"]["usage"] / 1e6
    with running(pool_size=0) as daemon, daemon.client() as client:
        time.sleep(SETTLES_S)
        idle_mb = daemon.memory_mb
        _launch(client, 0)
        # What the first sandbox makes the daemon import and remember is not each one's price.
        first_mb = daemon.memory_mb
        for number in range(1, SANDBOXES):
            _launch(client, number)
        each_mb = (daemon.memory_mb - first_mb) / (SANDBOXES - 1)
        with daemon.operator() as operator:
            inside = [
                operator.call("sandbox_get", space=f"bench-{number}")["usage"]["memory_bytes"] / 1e6
                for number in range(SANDBOXES)
            ]
        before_mb = daemon.memory_mb
        for _ in range(3):
            client.call("sandbox_shell", space="bench-0", command="head -c 60000000 /dev/zero")
        flooded_mb = daemon.memory_mb - before_mb
    yield Line(
        what="daemon, idle",
        unit="MB",
        ours=Series([idle_mb]),
        baseline=Series([plain_mb]),
        against="SDK server with one tool",
        targets=[Target(120)],
    )
    yield Line(what="daemon, with its first sandbox used", unit="MB", ours=Series([first_mb]))
    yield Line(what=f"daemon, for each further sandbox (of {SANDBOXES})", unit="MB", ours=Series([max(each_mb, 0)]))
    yield Line(
        what="container of an idle sandbox",
        unit="MB",
        ours=Series(inside),
        baseline=Series([bare_mb]),
        against="container with sleep",
    )
    yield Line(what="daemon, growth after 180 MB of output", unit="MB", ours=Series([max(flooded_mb, 0)]))


def _launch(client: RawClient, number: int) -> None:
    client.call("space_create", name=f"bench-{number}")
    client.call("sandbox_launch", space=f"bench-{number}")
    client.call("sandbox_shell", space=f"bench-{number}", command="true")
