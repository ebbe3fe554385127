"""A space's end: its time is over, or nobody used it. The clock is the test's, and restarts change nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mcp_spaces.core.ids import Clock
from mcp_spaces.core.journal import Journal
from mcp_spaces.errors import WrongState
from mcp_spaces.sandbox.port import LiveSandboxes
from mcp_spaces.sandbox.service import SandboxService
from mcp_spaces.spaces.lifecycle import Lifecycle
from mcp_spaces.spaces.port import Runtimes, Spaces
from mcp_spaces.spaces.store import SpaceStore
from tests.core.bench import locked
from tests.security.app import World, eventually, open_world
from tests.security.prepared import prepared

pytestmark = pytest.mark.anyio


@dataclass
class Time:
    seconds: float = 1_800_000_000.0
    clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = Clock(now=lambda: self.seconds)


def state(world: World, space: str) -> str | None:
    found = world.use(Spaces).get(space)
    return None if found is None else str(found.state)


def wake(world: World, space: str) -> None:
    """Have the reaper look again: a clock that jumps wakes nobody by itself."""
    found = world.use(Spaces).get(space)
    assert found is not None
    world.use(Lifecycle).changed(found)


async def test_a_space_goes_when_its_time_is_over_with_all_that_it_holds(tmp_path: Path) -> None:
    time = Time()
    async with open_world(tmp_path, clock=time.clock) as world:
        at = await prepared(world, "short", ttl_s=60)
        stays = await world.space("stays")
        time.seconds += 59
        wake(world, at.space)
        await world.call("space.get", space=at.space)
        time.seconds += 2
        wake(world, at.space)
        await eventually(lambda: state(world, at.space) is None, seconds=30)
        assert world.count("SELECT count(*) FROM runtimes") == 0
        assert world.count("SELECT count(*) FROM files") == 0
        assert state(world, stays) == "running"


async def test_a_space_that_expired_while_no_daemon_ran_goes_at_the_next_start(tmp_path: Path) -> None:
    time = Time()
    async with open_world(tmp_path, clock=time.clock) as world:
        space = (await prepared(world, "short", ttl_s=60)).space
    time.seconds += 61
    async with open_world(tmp_path, clock=time.clock) as again:
        await eventually(lambda: state(again, space) is None, seconds=30)
        assert not list((tmp_path / "workspaces").iterdir())


async def test_extending_moves_the_end_and_null_takes_it_away(tmp_path: Path) -> None:
    time = Time()
    async with open_world(tmp_path, clock=time.clock) as world:
        longer, forever = await world.space("longer", ttl_s=60), await world.space("forever", ttl_s=60)
        assert (await world.call("space.extend", space=longer, ttl_s=600)).expires_at is not None
        assert (await world.call("space.extend", space=forever, ttl_s=None)).expires_at is None
        time.seconds += 599
        wake(world, longer)
        await world.call("space.list")
        assert (state(world, longer), state(world, forever)) == ("running", "running")
        time.seconds += 10_000
        wake(world, forever)
        await eventually(lambda: state(world, longer) is None, seconds=30)
        assert state(world, forever) == "running"


async def test_to_extend_never_shortens(tmp_path: Path) -> None:
    async with open_world(tmp_path, clock=Time().clock) as world:
        endless, long = await world.space("endless"), await world.space("long", ttl_s=600)
        ends = (await world.call("space.get", space=long)).expires_at
        assert (await world.call("space.extend", space=endless, ttl_s=60)).expires_at is None
        assert (await world.call("space.extend", space=long, ttl_s=60)).expires_at == ends
        assert (await world.call("space.get", space=endless)).expires_at is None


async def test_a_space_that_is_being_deleted_is_not_said_to_live_longer(tmp_path: Path) -> None:
    time = Time()
    async with open_world(tmp_path, clock=time.clock) as world:
        space = await world.space("short", ttl_s=60)
        time.seconds += 60
        for ttl_s in (600, None):
            with pytest.raises(WrongState, match="time is over"):
                await world.call("space.extend", space=space, ttl_s=ttl_s)
        wake(world, space)
        await eventually(lambda: state(world, space) is None, seconds=30)


async def test_an_idle_space_goes_down_and_keeps_its_files(tmp_path: Path) -> None:
    time = Time()
    async with open_world(tmp_path, clock=time.clock) as world:
        at = await prepared(world, "idle", idle_timeout_s=60, runtime=False)
        time.seconds += 50
        await world.call("storage.stat", space=at.space, path="inputs/sales.csv")
        time.seconds += 50
        wake(world, at.space)
        await world.call("run.list")
        assert state(world, at.space) == "running", "it was used 50 s ago"
        time.seconds += 11
        wake(world, at.space)
        await eventually(lambda: state(world, at.space) == "stopped", seconds=30)
        # Waits for what the reaper ends; a call of our own in that moment would end with it.
        await world.call("space.down", space=at.space)
        assert (await world.call("storage.read", space=at.space, path="inputs/sales.csv")).content


async def test_a_space_whose_job_runs_is_not_idle(tmp_path: Path) -> None:
    time = Time()
    async with open_world(tmp_path, clock=time.clock) as world:
        at = await prepared(world, "busy", idle_timeout_s=60)
        time.seconds += 600
        wake(world, at.space)
        await world.call("run.list")
        assert state(world, at.space) == "running"
        await world.call("job.stop", space=at.space, job=at.job)
        time.seconds += 600
        wake(world, at.space)
        await eventually(lambda: state(world, at.space) == "stopped", seconds=30)


async def test_idling_counts_across_a_restart(tmp_path: Path) -> None:
    time = Time()
    async with open_world(tmp_path, clock=time.clock) as world:
        space = await world.space("idle", idle_timeout_s=60)
    time.seconds += 61
    async with open_world(tmp_path, clock=time.clock) as again:
        await eventually(lambda: state(again, space) == "stopped", seconds=30)


async def test_what_cannot_be_deleted_keeps_nobody_else(tmp_path: Path) -> None:
    time = Time()
    async with open_world(tmp_path, clock=time.clock) as world:
        damaged = await world.space("damaged", ttl_s=60)
        other = await world.space("other", ttl_s=61)
        idle = await world.space("idle", idle_timeout_s=60)
        await world.database.write(lambda tx: tx.execute("UPDATE spaces SET mac = x'00' WHERE id = ?", (damaged,)))
        time.seconds += 62
        wake(world, other)
        await eventually(lambda: state(world, other) is None and state(world, idle) == "stopped", seconds=30)


async def test_a_sandbox_that_ended_on_a_full_disk_is_told_so_at_the_next_look(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        space = await world.space("work")
        runtime = await world.launched(space)

        def told() -> str:
            found = world.use(Runtimes).get(runtime)
            assert found is not None
            return str(found.state)

        with locked(world.database):
            await world.use(LiveSandboxes).live(runtime).stop()
            await eventually(lambda: world.use(SandboxService)._untold != {})
            await eventually(lambda: not world.use(SandboxService)._lock(runtime).locked())
            assert told() == "active"
        wake(world, space)
        await eventually(lambda: told() == "failed")


async def test_a_space_is_used_until_the_last_of_its_calls_ends(tmp_path: Path) -> None:
    time = Time()
    async with open_world(tmp_path, clock=time.clock) as world:
        at = await prepared(world, "long", idle_timeout_s=60, runtime=False)
        await world.call("storage.stat", space=at.space, path="inputs/sales.csv")
        ended = time.seconds + 50
        await world.database.write(
            lambda tx: tx.execute("UPDATE runs SET ended_at = ? WHERE operation = 'storage.stat'", (ended,))
        )
        await world.call("space.get", space=at.space)
        assert world.use(SpaceStore).last_used_at(at.space) == ended
        (run,) = world.database.read("SELECT id FROM runs WHERE operation = 'space.get'")
        time.seconds += 70
        await world.use(Journal).emit(run["id"], "job.ended", {})
        assert world.use(SpaceStore).last_used_at(at.space) == time.seconds
