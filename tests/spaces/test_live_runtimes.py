"""The life that runtimes of every kind share, tried with a kind that is nothing but its life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest

from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.errors import Busy, DiskFull, RuntimeUnavailable
from mcp_spaces.spaces.live_runtimes import LiveRuntimes
from mcp_spaces.spaces.model import Runtime, RuntimeKind, RuntimeState, Space
from mcp_spaces.spaces.port import Runtimes, Spaces
from tests.core.bench import locked
from tests.security.app import World, open_world

pytestmark = pytest.mark.anyio


class Lamp:
    def __init__(self) -> None:
        self.went_out: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.stuck = False
        self.closing: Callable[[], object] = lambda: None


class Lamps(LiveRuntimes[Lamp]):
    kind = RuntimeKind.SANDBOX

    def __init__(self, runtimes: Runtimes, spaces: Spaces) -> None:
        super().__init__(runtimes=runtimes, spaces=spaces, clock=Clock(), announce=lambda _: self.changed.set())
        self.changed = asyncio.Event()
        self.steps: list[str] = []
        self.full = False

    async def lit(self, lamp: Lamp, space: Space) -> Runtime:
        async def make(_: Runtime) -> Lamp:
            return lamp

        runtime = Runtime(
            id=new_id("rt"),
            space_id=space.id,
            kind=self.kind,
            alias="lamp",
            state=RuntimeState.STARTING,
            ceiling=space.ceiling,
            created_at=0,
        )
        started, live = await self._start_new(runtime, make, space_version=space.version)
        assert live is self.started(started.id) is lamp
        return started

    async def _closed(self, live: Lamp) -> str:
        return await asyncio.shield(live.went_out)

    async def _close(self, live: Lamp) -> None:
        self.steps.append("close")
        live.closing()
        if live.stuck:
            raise RuntimeUnavailable("It is stuck.", hint="Wait.")

    async def _keep(self, runtime_id: str) -> None:
        self.steps.append("keep")

    async def _reap(self) -> None:
        self.steps.append("reap")

    def _cut_off(self, runtime_id: str) -> None:
        self.steps.append("cut off")

    async def _broke_off(self, runtime_id: str, live: Lamp) -> None:
        self.steps.append("broke off")

    async def _erase_files(self, runtime_id: str) -> None:
        self.steps.append("erase")
        if self.full:
            raise DiskFull("The disk is full.", hint="Make room.")

    def _not_ended(self) -> None:
        self.steps.append("not ended")


@asynccontextmanager
async def open_lamps(folder: Path) -> AsyncIterator[tuple[Lamps, Space]]:
    async with open_world(folder) as world:
        space = world.use(Spaces).get(await world.space("work"))
        assert space is not None
        yield Lamps(world.use(Runtimes), world.use(Spaces)), space


async def test_what_is_to_outlive_a_stop_is_kept_before_its_network_goes_and_then_it_is_closed(tmp_path: Path) -> None:
    async with open_lamps(tmp_path) as (lamps, space):
        one = await lamps.lit(Lamp(), space)
        await lamps.stop(one.id, reason="enough")
        stopped = lamps.row(one.id)
        assert (stopped.state, stopped.reason) == (RuntimeState.STOPPED, "enough")
        assert lamps.steps == ["keep", "cut off", "close"]


async def test_one_that_cannot_be_closed_has_failed_and_says_why(tmp_path: Path) -> None:
    async with open_lamps(tmp_path) as (lamps, space):
        lamp = Lamp()
        one = await lamps.lit(lamp, space)
        lamp.stuck = True
        with pytest.raises(RuntimeUnavailable, match="stuck"):
            await lamps.stop(one.id, reason="enough")
        row = lamps.row(one.id)
        assert (row.state, row.reason) == (RuntimeState.FAILED, "it could not be stopped: It is stuck.")
        assert lamps.steps[-1] == "not ended"


async def test_one_that_ends_by_itself_has_failed_and_is_freed(tmp_path: Path) -> None:
    async with open_lamps(tmp_path) as (lamps, space):
        lamp = Lamp()
        one = await lamps.lit(lamp, space)
        lamps.changed.clear()
        lamp.went_out.set_result("no oil")
        with anyio.fail_after(30):
            await lamps.changed.wait()
        row = lamps.row(one.id)
        assert (row.state, row.reason) == (RuntimeState.FAILED, "no oil")
        assert lamps.steps == ["cut off", "broke off", "close"]


async def test_its_row_goes_though_its_files_cannot(tmp_path: Path) -> None:
    async with open_lamps(tmp_path) as (lamps, space):
        one = await lamps.lit(Lamp(), space)
        lamps.full = True
        with pytest.raises(DiskFull):
            await lamps.delete(one.id)
        assert lamps.runtimes.get(one.id) is None
        assert lamps.steps[-2:] == ["close", "erase"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def lamps(world: World) -> Lamps:
    return Lamps(world.use(Runtimes), world.use(Spaces))


@pytest.fixture
async def space(world: World) -> Space:
    found = world.use(Spaces).get(await world.space("work"))
    assert found is not None
    return found


@pytest.fixture
def full(world: World) -> Iterator[ExitStack]:
    """Once `locked` is entered here, nothing can be recorded until it is closed."""
    with ExitStack() as until:
        yield until


async def test_a_stop_that_could_not_be_recorded_is_once_there_is_room(
    world: World, lamps: Lamps, space: Space, full: ExitStack
) -> None:
    lamp = Lamp()
    one = await lamps.lit(lamp, space)
    lamp.closing = lambda: full.enter_context(locked(world.database))
    with pytest.raises(Busy):
        await lamps.stop(one.id, reason="enough")
    with pytest.raises(Busy):
        await lamps.settle()
    assert lamps.row(one.id).state is RuntimeState.STOPPING
    full.close()
    lamps.changed.clear()
    await lamps.settle()
    row = lamps.row(one.id)
    assert (row.state, row.reason) == (RuntimeState.STOPPED, "enough")
    assert lamps.changed.is_set()


async def test_an_end_that_could_not_be_recorded_is_once_there_is_room(
    world: World, lamps: Lamps, space: Space, full: ExitStack
) -> None:
    lamp = Lamp()
    one = await lamps.lit(lamp, space)
    full.enter_context(locked(world.database))
    lamp.went_out.set_result("no oil")
    with anyio.fail_after(30):
        while "close" not in lamps.steps:  # noqa: ASYNC110 - its steps are told to nobody
            await anyio.sleep(0.005)
    assert lamps.row(one.id).state is RuntimeState.ACTIVE
    full.close()
    await lamps.settle()
    row = lamps.row(one.id)
    assert (row.state, row.reason) == (RuntimeState.FAILED, "no oil")


async def test_a_start_that_fails_on_a_full_disk_leaves_no_row_that_starts_for_ever(
    world: World, lamps: Lamps, space: Space, full: ExitStack
) -> None:
    async def make(_: Runtime) -> Lamp:
        full.enter_context(locked(world.database))
        raise RuntimeUnavailable("There is no lamp.", hint="Get one.")

    new = lamps.fresh(space.id, "new", ceiling=space.ceiling, asked=())
    with pytest.raises(Busy):
        await lamps._start_new(new, make, space_version=space.version)
    assert lamps.row(new.id).state is RuntimeState.STARTING
    full.close()
    await lamps.settle()
    assert lamps.runtimes.get(new.id) is None

    stopped = await lamps.lit(Lamp(), space)
    await lamps.stop(stopped.id, reason="enough")
    with pytest.raises(RuntimeUnavailable, match="no lamp"):
        await lamps._start_again(stopped.id, lambda row: row, make)
    assert lamps.row(stopped.id).state is RuntimeState.STARTING
    full.close()
    await lamps.settle()
    row = lamps.row(stopped.id)
    assert (row.state, row.reason) == (RuntimeState.FAILED, "There is no lamp.")


async def test_what_was_started_again_meanwhile_is_not_told_to_have_ended(
    world: World, lamps: Lamps, space: Space, full: ExitStack
) -> None:
    lamp = Lamp()
    one = await lamps.lit(lamp, space)
    lamp.closing = lambda: full.enter_context(locked(world.database))
    with pytest.raises(Busy):
        await lamps.stop(one.id, reason="enough")
    full.close()
    async with lamps._lock(one.id):
        await lamps.runtimes.set_state(one.id, RuntimeState.STOPPED, reason="by somebody else")

    async def make(_: Runtime) -> Lamp:
        return Lamp()

    await lamps._start_again(one.id, lambda row: row, make)
    await lamps.settle()
    assert lamps.row(one.id).state is RuntimeState.ACTIVE


async def test_k01_what_a_daemon_that_died_was_starting_for_the_first_time_is_gone(lamps: Lamps, space: Space) -> None:
    half = lamps.fresh(space.id, "half", ceiling=space.ceiling, asked=())
    await lamps.runtimes.add(half, space_version=space.version)
    await lamps.reconcile()
    assert lamps.runtimes.get(half.id) is None


async def test_k01_what_a_daemon_that_died_was_starting_again_has_stopped(lamps: Lamps, space: Space) -> None:
    before = await lamps.lit(Lamp(), space)
    await lamps.stop(before.id, reason="enough")
    await lamps.runtimes.set_state(before.id, RuntimeState.STARTING, reason="")
    await lamps.reconcile()
    assert lamps.row(before.id).state is RuntimeState.STOPPED
