"""Launching a sandbox from the pool and without one, and deleting it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import docker
from docker.models.containers import Container

from benchmarks import containers
from benchmarks.daemons import ran, running
from benchmarks.measure import Line, Series, Target, timed

LAUNCHES = 10


def lines() -> Iterator[Line]:
    yield from _warm()
    yield from _cold()


def _warm() -> Iterator[Line]:
    ours: list[float] = []
    deleted: list[float] = []
    baseline: list[float] = []
    removed: list[float] = []
    engine = docker.from_env()
    with running() as daemon, daemon.client() as client:
        client.call("space_create", name="bench")
        # The first launch says which size of sandbox is in use, and with that what to keep warm.
        client.call("sandbox_launch", space="bench")
        client.call("sandbox_delete", space="bench")
        for _ in range(LAUNCHES):
            daemon.wait_until_warm()
            ours.append(timed(lambda: client.call("sandbox_launch", space="bench")))
            daemon.wait_until_warm()
            deleted.append(timed(lambda: client.call("sandbox_delete", space="bench")))
            baseline.append(
                timed(lambda: ran(("docker", "run", "--rm", "--network", "none", containers.image(), "true")))
            )
            removed.append(timed(partial(_started(engine).remove, force=True)))
    yield Line(
        what="launch from the pool",
        unit="ms",
        ours=Series(ours),
        baseline=Series(baseline),
        against="docker run --rm … true",
        targets=[Target(20)],
    )
    yield Line(
        what="delete a sandbox and its files",
        unit="ms",
        ours=Series(deleted),
        baseline=Series(removed),
        against="docker-py remove(force)",
        targets=[Target(150)],
    )


def _cold() -> Iterator[Line]:
    ours: list[float] = []
    baseline: list[float] = []
    engine = docker.from_env()

    with running(pool_size=0) as daemon, daemon.client() as client:
        client.call("space_create", name="bench")
        for _ in range(LAUNCHES):
            ours.append(timed(lambda: client.call("sandbox_launch", space="bench")))
            client.call("sandbox_delete", space="bench")
            made: list[Container] = []
            baseline.append(timed(lambda: made.append(_started(engine))))  # noqa: B023 - called at once
            made[0].remove(force=True)
    yield Line(
        what="launch cold, walls proven",
        unit="ms",
        ours=Series(ours),
        baseline=Series(baseline),
        against="docker-py create + start, no walls",
        targets=[Target(1.1, of_baseline=True)],
    )


def _started(engine: docker.DockerClient) -> Container:
    container = containers.create(engine)
    container.start()
    return container
