"""The life that runtimes of every kind share, tried with a kind that is nothing but its life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.errors import DiskFull, RuntimeUnavailable
from mcp_spaces.spaces.live_runtimes import LiveRuntimes
from mcp_spaces.spaces.model import Runtime, RuntimeKind, RuntimeState, Space
from mcp_spaces.spaces.port import Runtimes, Spaces
from tests.security.app import open_world

pytestmark = pytest.mark.anyio


class Lamp:
    def __init__(self) -> None:
        self.went_out: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.stuck = False


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
