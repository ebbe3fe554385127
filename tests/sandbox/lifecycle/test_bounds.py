"""What a space, its ceiling and its caller permit of a launch, and what another space sees of it."""

from __future__ import annotations

import pytest

from mcp_spaces.core.limits import GIB
from mcp_spaces.errors import Denied, ExceedsCeiling, InvalidInput, NotFound, QuotaExceeded
from mcp_spaces.spaces.model import RuntimeState
from tests.sandbox.app_fixture import Room, narrowed


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
