"""SIGKILL at any instant (K01, K02), orphans (K05) and leftovers (D15), with real daemons and, for the last, Docker.

Clients keep a ledger of what was acknowledged; after each kill and restart the ledger is compared with what is there.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest

from tests.sandbox.leftovers import containers
from tests.security.app import LITTLE, eventually, short_folder
from tests.security.daemons import DriverName, Nursery, nursery
from tests.security.kills.clients import CLIENTS, work
from tests.security.kills.comparison import check
from tests.security.kills.ledger import Ledger
from tests.security.kills.leftovers import instance, left_after_starts
from tests.security.lines import DaemonGoneError, Line, line_to

FAKE_KILLS = 280
DOCKER_KILLS = 30
LANES = 2
KILLS_A_FOLDER = 35
"""A fresh state folder now and then, so that the database stays small and first starts are killed too."""


@pytest.fixture
async def nurse() -> AsyncIterator[Nursery]:
    async with nursery() as opened:
        yield opened


@pytest.fixture
def state() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder / "state"


async def work_until_killed(
    nurse: Nursery,
    state: Path,
    ledger: Ledger,
    driver: DriverName,
    *,
    running: int | None = None,
    stillborn: float = 0.15,
) -> None:
    """One daemon's life, or the rest of it: killed in the middle of its work, after so much of it and not after some
    time, since what a slow machine does less of is no proof. With the chance of `stillborn`, one that is only starting
    does not even get to listen."""
    pid = running or await nurse.start(state, driver)
    if running is None and ledger.rng.random() < stillborn:
        await anyio.sleep(ledger.rng.uniform(0, 0.04 if driver == "fake" else 0.4))
        os.kill(pid, signal.SIGKILL)
        await nurse.ready()
    else:
        if running is None:
            assert await nurse.ready(), (state / "daemon.log").read_text("utf-8")[-3000:]
        acknowledged = ledger.acknowledged + ledger.rng.randrange(2, 9)
        writes = ledger.writes + (1 if driver == "docker" and ledger.rng.random() < 0.5 else 0)
        async with anyio.create_task_group() as tasks:
            for number in (*range(CLIENTS), None):
                tasks.start_soon(work, state, ledger, number)
            with anyio.move_on_after(10):
                await eventually(lambda: ledger.acknowledged >= acknowledged and ledger.writes >= writes)
            # The instant of the kill is what varies.
            await anyio.sleep(ledger.rng.uniform(0, 0.02))
            os.kill(pid, signal.SIGKILL)
    assert await nurse.gone() == -signal.SIGKILL


@pytest.mark.timeout(900)
async def test_k01_kills_at_random_points_lose_no_acknowledged_operation_and_leave_no_orphan() -> None:
    acknowledged: list[int] = []

    async def lane(number: int) -> None:
        rng = random.Random(f"k01-{number}")
        async with nursery() as nurse:
            for first in range(0, FAKE_KILLS // LANES, KILLS_A_FOLDER):
                with short_folder() as folder:
                    ledger, state, running = Ledger(rng), folder / "state", None
                    for _ in range(min(KILLS_A_FOLDER, FAKE_KILLS // LANES - first)):
                        await work_until_killed(nurse, state, ledger, "fake", running=running, stillborn=0.75)
                        # What was compared lives on and is the next to be killed; every fifth is stopped in peace.
                        running = await check(nurse, state, ledger, "fake")
                        if rng.random() < 0.2:
                            assert await nurse.stop(running) == 0
                            running = None
                    if running is not None:
                        assert await nurse.stop(running) == 0
                    acknowledged.append(ledger.acknowledged)

    async with anyio.create_task_group() as tasks:
        for number in range(LANES):
            tasks.start_soon(lane, number)
    # A daemon that acknowledges nothing would lose nothing either.
    assert sum(acknowledged) > FAKE_KILLS


@pytest.mark.timeout(900)
async def test_k01_k05_d15_kills_with_docker_leave_no_container_volume_loop_device_or_file(
    nurse: Nursery, state: Path
) -> None:
    ledger = Ledger(random.Random("docker"))
    for _ in range(DOCKER_KILLS):
        await work_until_killed(nurse, state, ledger, "docker")
        if (state / "state.db").exists():
            assert await nurse.stop(await check(nurse, state, ledger, "docker")) == 0
            assert await left_after_starts(nurse, state) == []
    assert ledger.acknowledged > DOCKER_KILLS
    assert ledger.writes, "no sandbox was ever written to"


async def test_k05_what_a_killed_daemon_had_begun_to_make_is_gone_after_the_next_start(
    nurse: Nursery, state: Path
) -> None:
    """Killed the moment that the engine has the container, before any row says that it runs."""
    pid = await nurse.running(state, "docker")
    async with line_to(state) as line:
        await line.call("space.create", name="work")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launch_and_be_killed, line)
            await eventually(lambda: containers(instance(state)) != [])
            os.kill(pid, signal.SIGKILL)
            assert await nurse.gone() == -signal.SIGKILL
    again = await nurse.running(state, "docker")
    with closing(sqlite3.connect(f"file:{state / 'state.db'}?mode=ro", uri=True)) as database:
        assert database.execute(
            "SELECT count(*) FROM runtimes WHERE state NOT IN ('stopped', 'failed')"
        ).fetchone() == (0,)
    assert await nurse.stop(again) == 0
    assert await left_after_starts(nurse, state) == []


async def launch_and_be_killed(line: Line) -> None:
    with suppress(DaemonGoneError):
        await line.call("sandbox.launch", scope={"limits": LITTLE})


async def test_k02_an_effect_without_a_recorded_outcome_is_told_as_interrupted_and_never_done_again(
    nurse: Nursery, state: Path
) -> None:
    pid = await nurse.running(state)
    async with line_to(state) as line:
        await line.call("space.create", name="work")
        runtime = (await line.call("sandbox.launch")).content["id"]
        marker = state / "fake" / runtime / "marker"
        command = "echo once >> marker; sleep 60"

        async def call() -> None:
            with pytest.raises(DaemonGoneError):
                await line.call("sandbox.shell", once="deploy-1", command=command)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await eventually(lambda: marker.exists() and marker.read_text() == "once\n")
            os.kill(pid, signal.SIGKILL)
            assert await nurse.gone() == -signal.SIGKILL
    again = await nurse.running(state)
    async with line_to(state) as line, line_to(state, operator=True) as operator:
        (run,) = (await line.call("run.list", operation="sandbox.shell")).content["runs"]
        assert run["state"] == "interrupted"
        outcomes = (await operator.call("audit.list", limit=100)).content["rows"]
        (outcome,) = [one for one in outcomes if one["run"] == run["id"] and one["kind"] == "outcome"]
        assert "unknown" in str(outcome)
        assert (await operator.call("audit.verify")).content["intact"] is True
        await line.call("sandbox.launch", alias="main")
        repeated = await line.call("sandbox.shell", once="deploy-1", command=command)
        assert repeated.code == "conflict"
    assert marker.read_text() == "once\n"
    await nurse.stop(again)
