"""From spawning the server to the answer to `initialize`, with a daemon that runs already."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from benchmarks.clients import RawClient
from benchmarks.daemons import STDIO, running
from benchmarks.measure import Line, Target, side_by_side

PLAIN = (sys.executable, "-m", "benchmarks.plain_server")


def lines() -> Iterator[Line]:
    with running() as daemon:
        opened: list[RawClient] = []

        def through_the_shim() -> None:
            opened.append(RawClient.spawn(STDIO, daemon.environment))
            opened[-1].initialize()

        def in_the_same_process() -> None:
            opened.append(RawClient.spawn(PLAIN, dict(os.environ)))
            opened[-1].initialize()

        try:
            ours, baseline = side_by_side(through_the_shim, in_the_same_process, count=40, baseline_count=5)
        finally:
            for client in opened:
                client.close()
    yield Line(
        what="spawn → initialize through the shim, warm daemon",
        unit="ms",
        ours=ours,
        baseline=baseline,
        against="SDK server in the spawned process",
        targets=[Target(40)],
    )
