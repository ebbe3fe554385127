"""Operation batch, protocol 1.0: one event an operation, decisions of their own, pauses that end exactly once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.core.journal import RunState
from mcp_spaces.core.json_schema import input_schema
from mcp_spaces.errors import Conflict, InvalidInput, SpacesError
from mcp_spaces.sandbox.batch.batch import RUN_OPERATIONS
from mcp_spaces.sandbox.batch.store import BatchRow
from mcp_spaces.sandbox.cutting import cost
from mcp_spaces.server.schemas import tool_schema
from tests.sandbox.app_fixture import Room, open_room

pytestmark = pytest.mark.anyio

NOTE = {"type": "shell", "command": "echo ran >> note", "id": "note"}
PUSH = {"type": "shell", "command": "git push origin main; echo pushed >> note", "id": "push"}
AFTER = {"type": "shell", "command": "echo after >> note", "id": "after"}


def plain(answer: Any) -> list[dict[str, Any]]:
    """Events as they go over the wire, without their times."""
    told: list[dict[str, Any]] = json.loads(answer.model_dump_json(exclude_none=True))["events"]
    for event in told:
        assert event.pop("timestamp").endswith("Z")
    return told


async def note(room: Room) -> str:
    content: str = (await room.call("sandbox.read_file", path="note")).content
    return content


async def test_every_type_has_its_event_in_the_order_of_the_operations(room: Room) -> None:
    answer = await room.batch(
        {"type": "message", "content": "I write a file."},
        {"type": "createFile", "path": "a.txt", "content": "one\n"},
        {"type": "readFile", "path": "a.txt"},
        {"type": "editFile", "path": "a.txt", "edits": [{"oldContent": "one", "newContent": "two"}]},
        {"type": "shell", "command": "cat a.txt; exit 3", "id": "mine"},
        {"type": "deleteFile", "path": "a.txt"},
    )
    assert (answer.protocolVersion, answer.status) == ("1.0", "completed")
    message, created, read, edited, ran, deleted = plain(answer)
    assert message == {"type": "message", "operationId": "op_1", "success": True}
    assert created == {
        "type": "createFile",
        "operationId": "op_2",
        "path": "a.txt",
        "success": True,
        "bytesWritten": 4,
    }
    assert (read["content"], read["encoding"], read["size"], read["truncated"]) == ("one\n", "utf-8", 4, False)
    assert (edited["editsApplied"], edited["success"], len(edited["sha256"])) == (1, True, 64)
    assert (ran["operationId"], ran["success"], ran["exitCode"]) == ("mine", False, 3)
    assert (ran["stdout"], ran["stderr"], ran["timedOut"], ran["truncated"]) == ("two\n", "", False, False)
    assert deleted == {"type": "deleteFile", "operationId": "op_6", "path": "a.txt", "success": True}
    children = [run for run in room.runs("sandbox.write_file") if run["parent_id"] == answer.runId]
    assert len(children) == 1


@pytest.mark.parametrize(
    ("malformed", "told"),
    [
        ({"type": "explode"}, "type: one of"),
        ({"content": "no type"}, "type: one of"),
        ("not an object", "type: one of"),
        (None, "type: one of"),
        ({"type": "createFile", "path": "../a", "content": ""}, "path"),
        ({"type": "createFile", "path": "a", "content": "!", "encoding": "base64"}, ""),
        ({"type": "createFile", "path": "a", "content": 5}, "content"),
        ({"type": "editFile", "path": "a", "edits": []}, "edits: should have at least 1 item"),
        ({"type": "editFile", "path": "a", "edits": [{"old": "x"}]}, "edits.0.oldContent is missing"),
        ({"type": "shell", "command": "true", "timeout": 0}, "timeout"),
        ({"type": "shell", "command": "x" * 65_537}, "command"),
        ({"type": "message", "content": "x" * 100_001}, "content"),
        ({"type": "message", "content": "x", "extra": 1}, "extra"),
    ],
)
async def test_a_malformed_operation_is_one_error_event(room: Room, malformed: object, told: str) -> None:
    answer = await room.batch(NOTE, malformed, AFTER)
    first, bad, last = plain(answer)
    assert answer.status == "completed" and first["success"] and last["success"]
    assert not bad.get("success") and told in json.dumps(bad)
    if bad["type"] == "error":
        assert bad["category"] == "validation"
    ended = await room.batch(NOTE, malformed, AFTER, mode="fail-fast")
    assert ended.status == "error" and len(ended.events) == 2


async def test_an_id_used_twice_is_refused_and_made_up_ids_avoid_given_ones(room: Room) -> None:
    answer = await room.batch(
        {"type": "message", "content": "", "id": "op_2"},
        {"type": "message", "content": ""},
        {"type": "message", "content": "", "id": "op_2"},
    )
    assert [(one.type, one.operationId) for one in answer.events] == [
        ("message", "op_2"),
        ("message", "op_2_"),
        ("error", "op_3"),
    ]


@pytest.mark.parametrize("operations", [[], [{"type": "message", "content": ""}] * 201])
async def test_a_batch_has_1_to_200_operations(room: Room, operations: list[object]) -> None:
    with pytest.raises(InvalidInput):
        await room.batch(*operations)


async def test_what_fails_is_told_in_its_own_event(room: Room) -> None:
    await room.call("sandbox.write_file", path="there", content="a a")
    answer = await room.batch(
        {"type": "createFile", "path": "there", "content": ""},
        {"type": "readFile", "path": "absent"},
        {"type": "editFile", "path": "there", "edits": [{"oldContent": "a", "newContent": "b"}]},
        {"type": "deleteFile", "path": "absent"},
        {"type": "shell", "command": "sleep 1000", "timeout": 100},
    )
    told = plain(answer)
    assert [one["type"] for one in told] == ["createFile", "readFile", "editFile", "deleteFile", "shell"]
    assert not any(one["success"] for one in told) and all(one["error"] for one in told)
    assert (told[4]["exitCode"], told[4]["timedOut"]) == (124, True)


async def test_a_denied_operation_is_an_event_with_reason_suggestion_and_rule(room: Room) -> None:
    answer = await room.batch({"type": "shell", "command": "sudo id"}, {"type": "readFile", "path": "x.pem"}, NOTE)
    sudo, key, ran = plain(answer)
    assert (sudo["type"], sudo["operationType"], sudo["rule"]) == ("policyDenied", "shell", "shell.blocked")
    assert sudo["reason"] and sudo["suggestion"]
    assert (key["rule"], ran["success"]) == ("files.blocked_paths", True)
    ended = await room.batch({"type": "shell", "command": "sudo id"}, NOTE, mode="fail-fast")
    assert (ended.status, len(ended.events)) == ("error", 1)


def test_the_tool_list_says_that_a_timeout_counts_milliseconds() -> None:
    assert "timeout (ms)" in str(input_schema(RUN_OPERATIONS))


def test_the_whole_schema_has_every_field_of_every_type_and_the_tools_own_names_them() -> None:
    listed = input_schema(RUN_OPERATIONS)["properties"]["operations"]
    fields = {
        one["properties"]["type"]["const"]: set(one["properties"]) - {"id", "type"} for one in listed["items"]["oneOf"]
    }
    assert fields == {
        "message": {"content"},
        "createFile": {"path", "content", "encoding", "overwrite"},
        "readFile": {"path", "encoding", "offset", "limit"},
        "editFile": {"path", "edits", "baseSha256"},
        "deleteFile": {"path"},
        "shell": {"command", "cwd", "timeout", "env"},
    }
    shown = tool_schema(RUN_OPERATIONS)["properties"]["operations"]
    assert all(field in shown["description"] for names in fields.values() for field in names)
    assert "oneOf" not in str(shown)


async def test_a_batch_pauses_for_a_person_and_goes_on_from_there_once(room: Room) -> None:
    first = await room.batch(NOTE, PUSH, AFTER)
    assert first.status == "awaiting_approval"
    ran, asked = plain(first)
    assert ran["success"] and (asked["type"], asked["operationId"]) == ("approvalRequired", "push")
    assert asked["operationType"] == "shell" and asked["details"]["policy"] == "shell.git_push"
    assert asked["details"]["command"].startswith("git push")
    assert f"mcp-spaces approve {asked['approvalId']}" in asked["reason"] and "repeat this batch" in asked["reason"]
    again = await room.batch(NOTE, PUSH, AFTER)
    assert plain(again)[1]["approvalId"] == asked["approvalId"] and len(again.events) == 2
    assert await note(room) == "ran\n"
    await room.decide(asked["approvalId"], grant=True)
    done = await room.batch(NOTE, PUSH, AFTER)
    assert done.status == "completed"
    assert [(one.type, one.operationId) for one in done.events] == [
        ("shell", "note"),
        ("shell", "push"),
        ("shell", "after"),
    ]
    assert await note(room) == "ran\npushed\nafter\n"
    assert [event for event, _ in room.events(first.runId)] == ["shell", "approvalRequired"]
    assert room.database.read("SELECT 1 FROM batches") == []


async def test_a_batch_that_waits_is_no_answer_to_a_repeat_with_its_key(room: Room) -> None:
    async def batch() -> Any:
        arguments = {"space": room.space.id, "operations": [NOTE, PUSH, AFTER]}
        return (await room.pipeline.call(room.agent, "sandbox.run_operations", arguments, idempotency_key="k")).output

    asked = await batch()
    await room.decide(asked.events[-1].approvalId, grant=True)
    done = await batch()
    assert (asked.status, done.status) == ("awaiting_approval", "completed")
    assert (await batch()).runId == done.runId, "an answer that is the last word is kept"
    assert await note(room) == "ran\npushed\nafter\n"


async def test_a_batch_waits_no_longer_than_its_question(room: Room) -> None:
    await room.batch(NOTE, PUSH, AFTER)
    await room.database.write(lambda tx: tx.execute("UPDATE batches SET body = json_set(body, '$.expires_at', 1)"))
    await room.batch(NOTE, PUSH, AFTER)
    assert await note(room) == "ran\nran\n", "it began anew"


async def test_a_batch_that_waits_survives_a_restart(tmp_path: Path) -> None:
    async with open_room(tmp_path) as before:
        asked = await before.batch(NOTE, PUSH, AFTER)
    async with open_room(tmp_path) as after:
        await after.decide(asked.events[-1].approvalId, grant=True)
        assert (await after.batch(NOTE, PUSH, AFTER)).status == "completed"
        assert await note(after) == "ran\npushed\nafter\n"


@pytest.mark.parametrize(
    ("mode", "status", "left"), [("continue", "completed", "ran\nafter\n"), ("fail-fast", "error", "ran\n")]
)
async def test_after_a_no_the_operation_is_denied_and_the_mode_decides(
    room: Room, mode: str, status: str, left: str
) -> None:
    asked = await room.batch(NOTE, PUSH, AFTER, mode=mode)
    await room.decide(asked.events[-1].approvalId, grant=False)
    answer = await room.batch(NOTE, PUSH, AFTER, mode=mode)
    assert answer.status == status
    assert answer.events[1].type == "policyDenied" and "said no" in answer.events[1].reason
    assert await note(room) == left


async def test_t16_another_batch_does_not_use_the_pause_or_the_yes(room: Room) -> None:
    asked = await room.batch(NOTE, PUSH, AFTER)
    await room.decide(asked.events[-1].approvalId, grant=True)
    other_push = {**PUSH, "command": PUSH["command"] + " "}
    other = await room.batch(NOTE, other_push, AFTER)
    assert other.status == "awaiting_approval"
    assert other.events[-1].approvalId != asked.events[-1].approvalId


async def test_of_two_repeats_side_by_side_one_goes_on(room: Room) -> None:
    slow = {"type": "shell", "command": "git push origin main; until [ -s go ]; do sleep 0.01; done; echo x >> note"}
    asked = await room.batch(NOTE, slow, AFTER)
    await room.decide(asked.events[-1].approvalId, grant=True)
    answers: list[Any] = []

    async def repeat() -> None:
        try:
            answers.append(await room.batch(NOTE, slow, AFTER))
        except SpacesError as error:
            answers.append(error)
            await room.call("sandbox.write_file", path="go", content="go")

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(repeat)
            tasks.start_soon(repeat)
    refused, done = answers
    assert isinstance(refused, Conflict) and "goes on" in refused.message
    assert done.status == "completed"
    assert await note(room) == "ran\nx\nafter\n"


async def test_k02_a_resumed_batch_whose_daemon_died_is_told_and_never_redone_silently(room: Room) -> None:
    asked = await room.batch(NOTE, PUSH, AFTER)
    await room.decide(asked.events[-1].approvalId, grant=True)
    # What a kill leaves: a claimed row, and a run that the next start marked.
    await room.database.write(lambda tx: _claim_for_a_dead_run(tx, asked.runId))
    told = await room.batch(NOTE, PUSH, AFTER)
    assert told.status == "error"
    assert [one.type for one in told.events] == ["shell", "error"]
    lost = told.events[-1]
    assert (lost.category, lost.operationId) == ("system", "push") and asked.runId in lost.message
    assert await note(room) == "ran\n"
    assert (await room.batch(NOTE, PUSH, AFTER)).status == "completed", "it was given up, so this is a new one"
    assert await note(room) == "ran\nran\npushed\nafter\n"


def _claim_for_a_dead_run(tx: Any, run_id: str) -> None:
    (row,) = tx.all("SELECT fingerprint, body FROM batches")
    claimed = BatchRow.model_validate_json(row["body"]).model_copy(update={"claimed_by": run_id})
    tx.execute("UPDATE batches SET body = ? WHERE fingerprint = ?", (claimed.model_dump_json(), row["fingerprint"]))
    tx.execute("UPDATE runs SET state = ? WHERE id = ?", (RunState.INTERRUPTED, run_id))


async def test_a_cancelled_batch_answers_with_what_was_done(room: Room) -> None:
    slow = {"type": "shell", "command": "echo $$ > started; sleep 1000", "id": "slow"}
    answers: list[Any] = []

    async def run() -> None:
        answers.append(await room.batch(NOTE, slow, AFTER))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await room.shell("until [ -s started ]; do sleep 0.01; done")
            room.pipeline.active.cancel_where(
                lambda call: call.run.operation == "sandbox.run_operations", reason="the test wants it"
            )
    (answer,) = answers
    assert answer.status == "cancelled"
    assert [(one.type, one.operationId) for one in answer.events] == [("shell", "note"), ("error", "slow")]
    states = [run["state"] for run in room.runs("sandbox.shell") if run["parent_id"] == answer.runId]
    assert states == ["succeeded", "cancelled"]
    (recorded,) = room.runs("sandbox.run_operations")
    assert (recorded["state"], recorded["error_code"]) == ("cancelled", "cancelled")
    # What was done until then is in the record all the same.
    assert json.loads(recorded["outcome"])["status"] == "cancelled"
    assert (await room.shell("kill -0 $(cat started)")).exit_code == 1


async def test_a_batch_whose_daemon_stops_is_cancelled_and_answers_nothing(room: Room) -> None:
    slow = {"type": "shell", "command": "touch started; sleep 1000"}
    batch = asyncio.create_task(room.batch(NOTE, slow, AFTER))
    with anyio.fail_after(30):
        await room.shell("until [ -e started ]; do sleep 0.01; done")
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
    assert [run["state"] for run in room.runs("sandbox.run_operations")] == ["cancelled"]


async def test_what_is_not_about_the_operation_is_an_error_of_its_kind(room: Room) -> None:
    # The parent of its supervisor.
    answer = await room.batch({"type": "shell", "command": "kill -9 $(ps -o ppid= -p $PPID)", "id": "end"})
    assert [(one.type, one.category, one.operationId) for one in answer.events] == [("error", "system", "end")]


async def test_a_batch_reaches_no_further_than_its_own_call(room: Room) -> None:
    await room.call("sandbox.delete")
    await room.call("sandbox.launch", scope={"operations": ["sandbox.run_operations", "sandbox.read_file"]})
    answer = await room.batch(NOTE, {"type": "createFile", "path": "a", "content": ""})
    assert {one.type for one in answer.events} == {"policyDenied"}
    assert {one.rule for one in answer.events} == {"scope.operations"}


async def test_however_much_the_operations_say_the_answer_fits(room: Room) -> None:
    answer = await room.batch(
        *[{"type": "shell", "command": f"seq 1 {100 * n}; seq 1 {100 * n} >&2"} for n in range(1, 12)],
        {"type": "shell", "command": "echo short"},
    )
    wire = answer.model_dump_json(exclude_none=True)
    assert len(wire) < 20_000
    assert answer.events[-1].stdout == "short\n" and not answer.events[-1].truncated
    assert answer.events[-2].truncated and answer.events[-2].stdout.endswith("\n1100\n")
    assert all(cost(one.stdout) < 4_000 for one in answer.events)


async def test_of_many_operations_those_that_failed_are_told_and_where_the_others_are(room: Room) -> None:
    fails = {"type": "shell", "command": "exit 3", "id": "fails"}
    gone = {"type": "readFile", "path": "gone", "id": "gone"}
    many = [{"type": "shell", "command": f"echo {n}"} for n in range(197)]
    answer = await room.batch(*many[:100], fails, *many[100:], gone)
    assert len(answer.model_dump_json(exclude_none=True)) < 20_000
    told = [event.operationId for event in answer.events]
    assert told[:2] == ["op_1", "op_2"] and told[-2:] == ["fails", "gone"]
    assert answer.eventsLeftOut == 199 - len(told) > 100
    assert answer.rest == f"run_get run={answer.runId} events_after=1"
    few = await room.batch(*many[:5], fails)
    assert (len(few.events), few.eventsLeftOut, few.rest) == (6, None, None)


async def test_progress_is_told_for_every_operation(room: Room) -> None:
    told: list[tuple[float, float | None, str]] = []

    async def progress(done: float, total: float | None, message: str) -> None:
        told.append((done, total, message))

    await room.batch({"type": "message", "content": "Hello, person."}, NOTE, progress=progress)
    assert told == [(1, 2, "Hello, person."), (2, 2, "note shell")]


async def test_in_a_stopped_sandbox_each_operation_says_how_to_start_it(room: Room) -> None:
    await room.call("sandbox.stop")
    answer = await room.batch(NOTE, {"type": "readFile", "path": "a"})
    assert [one.success for one in answer.events] == [False, False]
    assert f"sandbox_launch space={room.space.id} alias=main" in answer.events[0].error
