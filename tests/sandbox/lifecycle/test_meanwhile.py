"""A launch that fails, is cancelled or finds another space than it began in, and a sandbox that dies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.core.limits import GIB
from mcp_spaces.core.scope_request import LimitsRequest, ScopeRequest
from mcp_spaces.errors import Cancelled, Conflict, QuotaExceeded, RuntimeUnavailable, WrongState
from mcp_spaces.sandbox.port import Sandbox, SandboxSpec
from mcp_spaces.spaces.model import RuntimeState, SpaceState
from tests.sandbox.app_fixture import Room, open_room, smaller
from tests.sandbox.fake import FakeDriver


class SteeredDriver(FakeDriver):
    """A fake whose launch does what a test wants before and after it, or fails."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.before: Callable[[], Any] | None = None
        self.after: Callable[[], Any] | None = None
        self.failure: Exception | None = None

    async def launch(self, spec: SandboxSpec) -> Sandbox:
        if self.before is not None:
            await self.before()
        if self.failure is not None:
            raise self.failure
        sandbox = await super().launch(spec)
        if self.after is not None:
            self.after()
        return sandbox


async def test_a_failed_launch_leaves_nothing_half_done(tmp_path: Path) -> None:
    driver = SteeredDriver(tmp_path / "workspaces")
    async with open_room(tmp_path, driver=driver, launch=False) as room:
        driver.failure = RuntimeUnavailable("The engine does not answer.", hint="Start it.")
        with pytest.raises(RuntimeUnavailable):
            await room.call("sandbox.launch")
        assert (await room.call("sandbox.list")).sandboxes == ()
        driver.failure = None
        await room.call("sandbox.launch")
        await room.call("sandbox.stop")
        driver.failure = RuntimeUnavailable("The engine does not answer.", hint="Start it.")
        with pytest.raises(RuntimeUnavailable):
            await room.call("sandbox.launch", alias="main")
        (failed,) = (await room.call("sandbox.list")).sandboxes
        assert (failed.state, failed.reason) == ("failed", "The engine does not answer.")
        driver.failure = None
        assert (await room.call("sandbox.launch", alias="main")).state == "active"


async def test_t09_a_space_stopped_while_a_sandbox_starts_gets_no_sandbox(tmp_path: Path) -> None:
    driver = SteeredDriver(tmp_path / "workspaces")
    async with open_room(tmp_path, driver=driver, launch=False) as room:

        async def stop_the_space() -> None:
            await room.spaces.change(room.space.id, lambda one: one.model_copy(update={"state": SpaceState.STOPPED}))

        driver.before = stop_the_space
        with pytest.raises(WrongState):
            await room.call("sandbox.launch")
        assert room.runtimes.of_space(room.space.id) == []
        assert await driver.reap(keep=()) == []


async def test_t09_a_space_narrowed_while_a_sandbox_starts_gets_no_wider_sandbox(tmp_path: Path) -> None:
    driver = SteeredDriver(tmp_path / "workspaces")
    async with open_room(tmp_path, driver=driver, launch=False) as room:

        async def narrow_the_space() -> None:
            request = ScopeRequest(operations=("sandbox.*",), limits=LimitsRequest(memory_bytes=GIB))
            await room.spaces.change(room.space.id, lambda one: smaller(one, request))

        driver.before = narrow_the_space
        with pytest.raises(Conflict, match="narrowed"):
            await room.call("sandbox.launch")
        assert room.runtimes.of_space(room.space.id) == []
        driver.before = None
        assert (await room.call("sandbox.launch")).state == "active"


async def test_a_launch_that_is_cancelled_as_it_is_stored_leaves_nothing(tmp_path: Path) -> None:
    async with open_room(tmp_path, launch=False) as room:
        add = room.runtimes.add

        async def add_and_cancel(*arguments: Any, **named: Any) -> Any:
            stored = await add(*arguments, **named)
            room.pipeline.active.cancel_where(lambda _call: True, reason="the test wants it")
            await anyio.lowlevel.checkpoint()
            return stored

        room.runtimes.add = add_and_cancel  # type: ignore[method-assign]
        with pytest.raises(Cancelled):
            await room.call("sandbox.launch", alias="main")
        room.runtimes.add = add  # type: ignore[method-assign]
        assert room.runtimes.of_space(room.space.id) == []
        assert (await room.call("sandbox.launch", alias="main")).state == "active"


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_cancelled_launch_leaves_nothing(tmp_path: Path, moment: str) -> None:
    driver = SteeredDriver(tmp_path / "workspaces")
    async with open_room(tmp_path, driver=driver, launch=False) as room:

        def cancel() -> None:
            room.pipeline.active.cancel_where(lambda _call: True, reason="the test wants it")

        async def cancel_at_once() -> None:
            cancel()
            await anyio.lowlevel.checkpoint()

        driver.before, driver.after = (cancel_at_once, None) if moment == "before" else (None, cancel)
        with pytest.raises(Cancelled):
            await room.call("sandbox.launch")
        assert room.runtimes.of_space(room.space.id) == []
        assert await driver.reap(keep=()) == []


async def test_a_sandbox_that_dies_is_failed_with_its_reason_and_ends_its_jobs(room: Room) -> None:
    launched = await room.call("sandbox.launch")
    job = (await room.shell("sleep 1000", background=True)).job
    assert room.service.is_busy(room.space.id)
    await room.service.live(launched.id).stop()
    with anyio.fail_after(10):
        waited = await room.call("job.wait", job=job)
        while room.runtimes.of_space(room.space.id)[0].state is RuntimeState.ACTIVE:
            await anyio.lowlevel.checkpoint()
    assert waited.state == "lost"
    (row,) = room.runtimes.of_space(room.space.id)
    assert row.state is RuntimeState.FAILED and row.reason
    assert not room.service.is_busy(room.space.id)
    with pytest.raises(WrongState, match="has failed"):
        await room.shell("true")


async def test_a_sandbox_that_dies_under_a_launch_that_is_refused_does_not_stay_active_for_ever(room: Room) -> None:
    launched = await room.call("sandbox.launch", alias="main")
    # What a launch holds while it is told that there is one already.
    async with room.service._lock(launched.id):
        await room.service.live(launched.id).stop()
        with anyio.fail_after(10):
            while room.service.launched_by(launched.id):
                await anyio.lowlevel.checkpoint()
    with anyio.fail_after(10):
        while room.runtimes.of_space(room.space.id)[0].state is RuntimeState.ACTIVE:
            await anyio.lowlevel.checkpoint()
    again = await room.call("sandbox.launch", alias="main")
    assert (again.id, again.state) == (launched.id, "active")


async def test_the_end_of_a_sandbox_that_was_stopped_changes_neither_its_state_nor_why(room: Room) -> None:
    launched = await room.call("sandbox.launch")
    stopped = await room.call("sandbox.stop")
    await room.runtimes.fail(launched.id, reason="it died")
    (row,) = room.runtimes.of_space(room.space.id)
    assert (row.state, row.reason) == (RuntimeState.STOPPED, stopped.reason)


async def test_launches_that_are_refused_leave_nothing_in_memory(room: Room) -> None:
    await room.call("sandbox.launch", alias="main")
    for _ in range(3):
        with pytest.raises(QuotaExceeded):
            await room.call("sandbox.launch", scope={"limits": {"cpu_cores": room.space.ceiling.limits.cpu_cores}})
    assert len(room.service._locks) == 0
