"""Launch, list, stop, start again, delete; and what happens when something else changes meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.core.limits import GIB
from mcp_spaces.core.scope_request import LimitsRequest, ScopeRequest
from mcp_spaces.errors import (
    Cancelled,
    Conflict,
    Denied,
    ExceedsCeiling,
    InvalidInput,
    NotFound,
    QuotaExceeded,
    RuntimeUnavailable,
    WrongState,
)
from mcp_spaces.sandbox.port import Sandbox, SandboxSpec
from mcp_spaces.spaces.model import RuntimeState, SpaceState
from tests.sandbox.app_fixture import Room, narrowed, open_room, smaller
from tests.sandbox.fake import FakeDriver

pytestmark = pytest.mark.anyio


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with open_room(tmp_path, launch=False) as opened:
        yield opened


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


async def test_a_launch_says_what_it_started(room: Room) -> None:
    launched = await room.call("sandbox.launch")
    assert (launched.alias, launched.state, launched.shell) == ("main", "active", "bash")
    assert launched.limits.memory_bytes == GIB and launched.limits.cpu_cores == 1
    assert launched.started_in_ms > 0
    listed = (await room.call("sandbox.list")).sandboxes
    assert [one.id for one in listed] == [launched.id]


async def test_the_next_free_alias_is_taken_also_by_launches_side_by_side(room: Room) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(room.call, "sandbox.launch")
    assert sorted(one.alias for one in (await room.call("sandbox.list")).sandboxes) == ["main", "main-2"]


async def test_an_alias_in_use_is_a_conflict_and_a_stopped_one_starts_again_with_its_files(room: Room) -> None:
    first = await room.call("sandbox.launch", alias="main")
    await room.call("sandbox.write_file", path="kept.txt", content="kept")
    with pytest.raises(Conflict):
        await room.call("sandbox.launch", alias="main")
    stopped = await room.call("sandbox.stop")
    assert stopped.state == "stopped" and "stopped it" in stopped.reason
    with pytest.raises(WrongState) as caught:
        await room.shell("true")
    assert "sandbox_launch alias=main" in caught.value.hint
    again = await room.call("sandbox.launch", alias="main")
    assert again.id == first.id
    assert (await room.call("sandbox.read_file", path="kept.txt")).content == "kept"


async def test_a_sandbox_that_starts_again_without_the_files_that_it_had_says_so_once(room: Room) -> None:
    """As after a backup that was put back without its workspaces."""

    async def launched() -> tuple[Any, list[tuple[str, dict[str, Any]]]]:
        answer = await room.call("sandbox.launch", alias="main")
        return answer, room.events(room.runs("sandbox.launch")[-1]["id"])

    first, told = await launched()
    assert first.files_lost is None and told == []
    await room.call("sandbox.stop")
    kept, told = await launched()
    assert kept.files_lost is None and told == []
    await room.call("sandbox.stop")
    shutil.rmtree(room.folder / "workspaces" / first.id)
    empty, told = await launched()
    assert empty.files_lost is True and told == [("filesLost", {"runtime": first.id, "alias": "main"})]
    await room.call("sandbox.stop")
    assert (await launched())[0].files_lost is None


async def test_stopping_twice_answers_the_same(room: Room) -> None:
    await room.call("sandbox.launch")
    assert await room.call("sandbox.stop") == await room.call("sandbox.stop")


async def test_a_deleted_sandbox_leaves_no_row_and_no_files(room: Room) -> None:
    launched = await room.call("sandbox.launch")
    await room.call("sandbox.write_file", path="a.txt", content="a")
    assert (await room.call("sandbox.delete")).deleted == "main"
    assert (await room.call("sandbox.list")).sandboxes == ()
    assert not (room.folder / "workspaces" / launched.id).exists()
    with pytest.raises(NotFound):
        await room.call("sandbox.delete", runtime="main")


async def test_t08_more_than_the_ceiling_is_an_error_that_names_the_key(room: Room) -> None:
    with pytest.raises(ExceedsCeiling) as caught:
        await room.call("sandbox.launch", scope={"limits": {"memory_bytes": 64 * GIB}})
    assert caught.value.key == "limits.memory_bytes"
    with pytest.raises(ExceedsCeiling) as caught:
        await room.call("sandbox.launch", scope={"storage": {"namespace": "somebody-elses", "mode": "rw"}})
    assert caught.value.key == "storage.somebody-elses"
    assert (await room.call("sandbox.list")).sandboxes == ()


async def test_the_sum_of_sandboxes_stays_within_the_space(room: Room) -> None:
    await room.call("sandbox.launch", scope={"limits": {"cpu_cores": 2}})
    with pytest.raises(QuotaExceeded, match="cpu_cores"):
        await room.call("sandbox.launch")
    assert len((await room.call("sandbox.list")).sandboxes) == 1


async def test_only_the_operators_images_are_launched(room: Room) -> None:
    with pytest.raises(InvalidInput) as caught:
        await room.call("sandbox.launch", image="docker.io/somebody/miner")
    assert "fake" in caught.value.hint


async def test_a_sandbox_narrower_than_its_space_refuses_what_it_left_out(room: Room) -> None:
    await room.call("sandbox.launch", scope={"operations": ["sandbox.read_file", "sandbox.list_files"]})
    with pytest.raises(Denied) as caught:
        await room.shell("true")
    assert caught.value.rule == "scope.operations"


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


async def test_launches_that_are_refused_leave_nothing_in_memory(room: Room) -> None:
    await room.call("sandbox.launch", alias="main")
    for _ in range(3):
        with pytest.raises(QuotaExceeded):
            await room.call("sandbox.launch", scope={"limits": {"cpu_cores": room.space.ceiling.limits.cpu_cores}})
    assert len(room.service._locks) == 0


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


async def test_down_stops_and_delete_removes_everything_of_one_space_only(room: Room) -> None:
    other = await room.another_space("other")
    await room.call("sandbox.launch")
    await room.call("sandbox.launch", space=other.id)
    await room.service.stop_all(room.space.id, reason="the space went down")
    assert [one.state for one in room.runtimes.of_space(room.space.id)] == [RuntimeState.STOPPED]
    assert [one.state for one in room.runtimes.of_space(other.id)] == [RuntimeState.ACTIVE]
    await room.service.delete_all(room.space.id)
    assert room.runtimes.of_space(room.space.id) == []
    assert len(room.runtimes.of_space(other.id)) == 1


async def test_t01_sandboxes_and_jobs_of_another_space_look_absent(room: Room) -> None:
    other = await room.another_space("other")
    mine = await room.call("sandbox.launch")
    job = (await room.shell("sleep 1000", background=True)).job
    await room.call("sandbox.launch", space=other.id, alias="its-own")
    for reference in (mine.id, "rt_aaaaaaaaaaaaaaaaaaaaaaaaaa"):
        with pytest.raises(NotFound) as caught:
            await room.shell("true", space=other.id, runtime=reference)
        assert caught.value.message == "No such sandbox in space other."
    messages = set()
    for reference in (job, "job_aaaaaaaaaaaaaaaaaaaaaaaaaa"):
        for operation_id in ("job.read", "job.wait", "job.stop", "job.write"):
            with pytest.raises(NotFound) as caught:
                await room.call(operation_id, space=other.id, job=reference)
            messages.add(caught.value.message)
    assert len(messages) == 1
    assert room.service.is_busy(room.space.id)


async def test_a_caller_without_the_operation_launches_nothing(room: Room) -> None:
    with pytest.raises(Denied):
        await room.call("sandbox.launch", caller=narrowed(room.agent, ("sandbox.list",)))
    assert room.runtimes.of_space(room.space.id) == []


async def test_get_shows_use_and_jobs(room: Room) -> None:
    await room.call("sandbox.launch")
    job = (await room.shell("sleep 1000", background=True)).job
    shown = await room.call("sandbox.get")
    assert shown.usage is not None
    assert [(one.id, one.state) for one in shown.jobs] == [(job, "running")]
    await room.call("sandbox.stop")
    assert (await room.call("sandbox.get")).usage is None


async def test_a_sandbox_that_starts_again_may_change_its_size_but_not_its_disks(room: Room) -> None:
    first = await room.call("sandbox.launch")
    await room.call("sandbox.stop")
    with pytest.raises(Conflict):
        await room.call("sandbox.launch", alias="main", scope={"limits": {"disk_bytes": 1 << 30}})
    again = await room.call("sandbox.launch", alias="main", scope={"limits": {"memory_bytes": 2 * GIB}})
    assert (again.limits.memory_bytes, again.limits.disk_bytes) == (2 * GIB, first.limits.disk_bytes)
    await room.call("sandbox.stop")
    request = ScopeRequest(limits=LimitsRequest(disk_bytes=GIB, memory_bytes=GIB))
    await room.spaces.change(room.space.id, lambda one: smaller(one, request))
    with pytest.raises(ExceedsCeiling) as caught:
        await room.call("sandbox.launch", alias="main")
    assert caught.value.key == "limits.disk_bytes"
