"""How fast a command's output is taken in: bounded in memory, whole in a file."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from benchmarks import containers
from benchmarks.daemons import running
from benchmarks.measure import Line, Series, Target, side_by_side

MEGABYTES = 60
CAT = f"head -c {MEGABYTES}000000 /dev/zero"


def lines() -> Iterator[Line]:
    with running(pool_size=0) as daemon, containers.plain() as container, daemon.client() as client:
        client.call("space_create", name="bench")
        client.call("sandbox_launch", space="bench")

        def ours() -> None:
            answer = client.call("sandbox_shell", space="bench", command=CAT)
            assert answer["stdout_bytes"] == MEGABYTES * 1_000_000

        def baseline() -> None:
            taken = subprocess.Popen(["docker", "exec", str(container.id), *CAT.split()], stdout=subprocess.PIPE)
            assert taken.stdout is not None
            while taken.stdout.read(1 << 16):
                pass
            taken.wait()

        ours_ms, baseline_ms = side_by_side(ours, baseline, count=10, baseline_count=5)
    yield Line(
        what=f"{MEGABYTES} MB of stdout, the whole call",
        unit="MB/s",
        ours=_rate(ours_ms),
        baseline=_rate(baseline_ms),
        against="docker exec (command line) into a pipe",
        targets=[Target(100)],
    )


def _rate(milliseconds: Series) -> Series:
    return Series([MEGABYTES / (one / 1000) for one in milliseconds.values])
