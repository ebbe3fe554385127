"""Files of 1 KiB, one at a time and fifty in a batch, beside the engine's archives."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks import containers
from benchmarks.daemons import running
from benchmarks.measure import Line, Target, side_by_side

CONTENT = "0123456789abcde\n" * 64
BATCH = 50
CALLS = 300


def lines() -> Iterator[Line]:
    with running(pool_size=0) as daemon, containers.plain() as container, daemon.client() as client:
        client.call("space_create", name="bench")
        client.call("sandbox_launch", space="bench")
        one = containers.archive({"file.txt": CONTENT.encode()})
        ours, baseline = side_by_side(
            partial(client.call, "sandbox_write_file", space="bench", path="file.txt", content=CONTENT, overwrite=True),
            lambda: container.put_archive("/tmp", one),
            count=CALLS,
            baseline_count=25,
        )
        yield Line(
            what="write a file of 1 KiB",
            unit="ms",
            ours=ours,
            baseline=baseline,
            against="put_archive",
            targets=[Target(3)],
        )
        ours, baseline = side_by_side(
            partial(client.call, "sandbox_read_file", space="bench", path="file.txt"),
            lambda: containers.fetch(container, "/tmp/file.txt"),
            count=CALLS,
            baseline_count=25,
        )
        yield Line(
            what="read a file of 1 KiB",
            unit="ms",
            ours=ours,
            baseline=baseline,
            against="get_archive",
            targets=[Target(3)],
        )
        many = containers.archive({f"many/{number}.txt": CONTENT.encode() for number in range(BATCH)})
        operations = [
            {"type": "createFile", "path": f"many/{number}.txt", "content": CONTENT, "overwrite": True}
            for number in range(BATCH)
        ]
        ours, baseline = side_by_side(
            partial(client.call, "sandbox_run_operations", space="bench", protocolVersion="1.0", operations=operations),
            lambda: container.put_archive("/tmp", many),
            count=25,
            baseline_count=10,
        )
        yield Line(
            what=f"{BATCH} files in one batch, each with its own records",
            unit="ms",
            ours=ours,
            baseline=baseline,
            against=f"one put_archive of {BATCH} files",
            targets=[Target(20)],
        )
