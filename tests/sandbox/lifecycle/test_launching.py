"""Launch, list, stop, start again, delete: what is told, and what is kept."""

from __future__ import annotations

import shutil
from typing import Any

import anyio
import pytest

from mcp_spaces.core.limits import GIB
from mcp_spaces.core.scope_request import LimitsRequest, ScopeRequest
from mcp_spaces.errors import Ambiguous, Conflict, ExceedsCeiling, NotFound, WrongState
from tests.sandbox.app_fixture import Room, smaller


async def test_a_launch_says_what_it_started(room: Room) -> None:
    launched = await room.call("sandbox.launch")
    assert (launched.alias, launched.state, launched.shell) == ("main", "active", "bash")
    limits = launched.limits
    assert (limits.cpu_cores, limits.memory_bytes, limits.disk_bytes, limits.pids) == (1, GIB, 2 * GIB, 256)
    assert launched.started_in_ms > 2, "no process starts faster: these are milliseconds"
    listed = (await room.call("sandbox.list")).sandboxes
    assert [one.id for one in listed] == [launched.id]


async def test_the_next_free_alias_is_taken_also_by_launches_side_by_side(room: Room) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(room.call, "sandbox.launch")
    assert sorted(one.alias for one in (await room.call("sandbox.list")).sandboxes) == ["main", "main-2"]


async def test_without_an_alias_a_stopped_main_goes_on_and_a_running_one_is_left_alone(room: Room) -> None:
    first = await room.call("sandbox.launch")
    await room.call("sandbox.write_file", path="kept.txt", content="kept")
    await room.call("sandbox.stop")
    assert (await room.call("sandbox.launch")).id == first.id
    assert (await room.call("sandbox.read_file", path="kept.txt")).content == "kept"
    await room.call("sandbox.stop")
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(room.call, "sandbox.launch")
    found = (await room.call("sandbox.list")).sandboxes
    assert {one.alias: one.state for one in found} == {"main": "active", "main-2": "active"}
    assert first.id in {one.id for one in found}


async def test_where_nothing_is_named_a_stopped_sandbox_is_not_meant_unless_a_stopped_one_would_do(room: Room) -> None:
    await room.call("sandbox.launch", alias="old")
    await room.call("sandbox.stop", runtime="old")
    with pytest.raises(WrongState, match="old has stopped"):
        await room.call("sandbox.shell", command="true")
    await room.call("sandbox.launch", alias="new")
    await room.call("sandbox.write_file", path="here.txt", content="here")
    assert (await room.call("sandbox.read_file", runtime="new", path="here.txt")).content == "here"
    for operation in ("sandbox.stop", "sandbox.delete", "sandbox.get"):
        with pytest.raises(Ambiguous, match="several sandboxes") as several:
            await room.call(operation)
        assert "old (stopped), new" in several.value.hint
    await room.call("sandbox.launch", alias="old")
    with pytest.raises(Ambiguous):
        await room.call("sandbox.shell", command="true")


async def test_without_an_alias_what_a_stopped_main_cannot_be_is_said(room: Room) -> None:
    await room.call("sandbox.launch")
    await room.call("sandbox.stop")
    with pytest.raises(Conflict) as caught:
        await room.call("sandbox.launch", scope=ScopeRequest(limits=LimitsRequest(disk_bytes=GIB)))
    assert "alias" in caught.value.hint
    assert [one.alias for one in (await room.call("sandbox.list")).sandboxes] == ["main"]


async def test_an_alias_in_use_is_a_conflict_and_a_stopped_one_starts_again_with_its_files(room: Room) -> None:
    first = await room.call("sandbox.launch", alias="main")
    await room.call("sandbox.write_file", path="kept.txt", content="kept")
    with pytest.raises(Conflict) as active:
        await room.call("sandbox.launch", alias="main")
    assert "stop it first" in active.value.hint
    stopped = await room.call("sandbox.stop")
    assert stopped.state == "stopped" and "stopped it" in stopped.reason
    with pytest.raises(WrongState) as caught:
        await room.shell("true")
    assert f"sandbox_launch space={room.space.id} alias=main" in caught.value.hint
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


async def test_what_a_sandbox_does_by_itself_is_recorded_with_the_launch_that_last_started_it(room: Room) -> None:
    for _ in range(2):
        launched = await room.call("sandbox.launch", alias="main")
        assert room.service.launched_by(launched.id) == room.runs("sandbox.launch")[-1]["id"]
        await room.call("sandbox.stop")
        assert room.service.launched_by(launched.id) == ""


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
