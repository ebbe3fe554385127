"""A daemon that starts again: what ran, what nobody owns, and an engine that comes later."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.errors import InvalidInput, RuntimeUnavailable
from mcp_spaces.spaces.model import RuntimeState
from tests.sandbox.app_fixture import open_room
from tests.sandbox.fake import FAKE_IMAGE, FakeDriver


class LateDriver(FakeDriver):
    """No engine at first; once it is there, cleaning up takes until a test says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.is_there = False
        self.reaping, self.go_on = anyio.Event(), anyio.Event()

    async def reap(self, *, keep: Collection[str]) -> Sequence[str]:
        if not self.is_there:
            raise RuntimeUnavailable("No engine answers.", hint="Start it.")
        self.reaping.set()
        await self.go_on.wait()
        return await super().reap(keep=keep)


async def test_nothing_starts_while_what_nobody_owns_is_removed_since_that_would_be_removed_too(tmp_path: Path) -> None:
    driver = LateDriver(tmp_path / "workspaces")
    async with open_room(tmp_path, driver=driver, launch=False) as room:
        driver.is_there = True
        async with anyio.create_task_group() as launches:
            launches.start_soon(partial(room.call, "sandbox.launch", alias="one"))
            await driver.reaping.wait()
            launches.start_soon(partial(room.call, "sandbox.launch", alias="two"))
            with anyio.fail_after(10):
                while len(room.runtimes.of_space(room.space.id)) < 2:
                    await anyio.lowlevel.checkpoint()
            driver.reaping = anyio.Event()
            # Whoever waits for the row that is seen here goes on before this returns.
            await room.database.write(lambda _: None)
            await anyio.wait_all_tasks_blocked()
            assert not driver.reaping.is_set() and driver.launches == 0
            driver.go_on.set()
        for alias in ("one", "two"):
            await room.shell("true", runtime=alias)


async def test_a_restarted_daemon_stops_what_ran_and_keeps_its_files(tmp_path: Path) -> None:
    async with open_room(tmp_path) as first:
        await first.call("sandbox.write_file", path="a.txt", content="kept")
        runtime_id = first.runtimes.of_space(first.space.id)[0].id
    async with open_room(tmp_path, launch=False) as broken:
        await broken.runtimes.change(runtime_id, lambda row: row.model_copy(update={"state": RuntimeState.ACTIVE}))
    (tmp_path / "workspaces" / "rt_nobody").mkdir()
    async with open_room(tmp_path, launch=False) as second:
        # aclose of the room before had no live sandbox to stop, so the row still said active.
        (row,) = (await second.call("sandbox.list")).sandboxes
        assert (row.state, row.reason) == ("stopped", "the daemon restarted")
        assert not (tmp_path / "workspaces" / "rt_nobody").exists()
        await second.call("sandbox.launch", alias="main")
        assert (await second.call("sandbox.read_file", path="a.txt")).content == "kept"


async def test_a_sandbox_whose_image_an_update_replaced_starts_again_on_the_new_one_with_its_files(
    tmp_path: Path,
) -> None:
    driver = FakeDriver(tmp_path / "workspaces", images=(FAKE_IMAGE, "newer-image"))
    async with open_room(tmp_path, driver=driver) as before:
        await before.call("sandbox.write_file", path="kept.txt", content="kept")
    async with open_room(tmp_path, driver=driver, image="newer-image") as after:
        with pytest.raises(InvalidInput, match="operator"):
            await after.call("sandbox.launch", alias="other", image=FAKE_IMAGE)
        assert (await after.call("sandbox.get", runtime="main")).image == "newer-image"
        assert (await after.call("sandbox.read_file", path="kept.txt")).content == "kept"


async def test_a_daemon_starts_without_an_engine_and_reaps_at_the_first_launch(tmp_path: Path) -> None:
    class Down(FakeDriver):
        up = False

        async def reap(self, *, keep: Any) -> Any:
            if not self.up:
                raise RuntimeUnavailable("The engine does not answer.", hint="Start it.")
            return await super().reap(keep=keep)

    driver = Down(tmp_path / "workspaces")
    (tmp_path / "workspaces" / "rt_nobody").mkdir(parents=True)
    async with open_room(tmp_path, driver=driver, launch=False) as room:
        assert (await room.call("sandbox.list")).sandboxes == ()
        driver.up = True
        await room.call("sandbox.launch")
        assert not (tmp_path / "workspaces" / "rt_nobody").exists()
