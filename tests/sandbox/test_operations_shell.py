"""Commands: their answers, their bounds, and what is left of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from mcp_spaces.core.answer import ANSWER_CHARACTERS
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.errors import Cancelled, Denied, InvalidInput, QuotaExceeded, RuntimeUnavailable, WrongState
from mcp_spaces.sandbox.agent.wire import CHUNK
from mcp_spaces.sandbox.cutting import cost
from mcp_spaces.sandbox.foreground import run_to_end
from mcp_spaces.sandbox.job_operations import WRITE_BYTES
from mcp_spaces.sandbox.jobs import KEPT_LIMIT, OLD_RING_BYTES, RUNNING_LIMIT
from mcp_spaces.sandbox.output import HEAD_BYTES, TAIL_BYTES, Capture
from mcp_spaces.sandbox.port import Command, OutputSink, Process, Sandbox, Stream
from mcp_spaces.sandbox.ring import PIECES, RING_BYTES, Ring
from tests.leaps import leap
from tests.sandbox.app_fixture import Room, open_room

pytestmark = pytest.mark.anyio


@pytest.fixture
async def free_room(tmp_path: Path) -> AsyncIterator[Room]:
    async with open_room(tmp_path, preset="permissive") as opened:
        yield opened


async def test_exit_code_and_both_streams_come_back(room: Room) -> None:
    ran = await room.shell("echo out; echo err >&2; exit 7")
    assert (ran.exit_code, ran.stdout, ran.stderr) == (7, "out\n", "err\n")
    assert ran.truncated is None and ran.artifact is None and ran.stopped_by is None


async def test_folder_variables_and_stdin_reach_the_command(room: Room) -> None:
    await room.shell("mkdir -p deep/er")
    ran = await room.shell("pwd; echo $NAME; cat", cwd="/workspace/deep/er", env={"NAME": "value"}, stdin="in\n")
    assert ran.stdout.endswith("deep/er\nvalue\nin\n")


async def test_a_command_that_looks_like_an_option_is_a_command(free_room: Room) -> None:
    assert (await free_room.shell("-c echo")).exit_code == 127


async def test_commands_are_read_as_bash_reads_them(room: Room) -> None:
    assert (await room.shell("words=(a b); echo ${#words[@]}")).stdout == "2\n"


async def test_a_job_that_does_not_read_its_input_is_answered_at_once(room: Room) -> None:
    with anyio.fail_after(20):
        job = (await room.shell("sleep 1000", background=True, stdin="x" * (1 << 20))).job
        await room.call("job.stop", job=job)


async def test_a_command_that_needs_no_shell_behaves_as_if_it_had_one(free_room: Room) -> None:
    await free_room.shell(
        "mkdir -p deep && printf 'words=(a b)\necho ${#words[@]} $1\n' > deep/plain && chmod +x deep/plain"
    )
    assert (await free_room.shell("printenv PWD", cwd="deep")).stdout.endswith("/deep\n")
    # A script without a first line that names its interpreter is the shell's.
    assert (await free_room.shell("./plain yes", cwd="deep")).stdout == "2 yes\n"
    missing = await free_room.shell("no-such-program --at all")
    assert (missing.exit_code, missing.stderr) == (127, "no-such-program: command not found\n")
    refused = await free_room.shell("./deep")
    assert (refused.exit_code, refused.stderr) == (126, "./deep: Permission denied\n")
    assert (await free_room.shell("timeout -s KILL 0.01 sleep 60")).exit_code == 137


async def test_a_timeout_kills_the_tree_keeps_the_output_and_the_next_command_works(room: Room) -> None:
    ran: list[Any] = []

    async def run() -> None:
        command = "echo before; echo $$ > pid; (sleep 1000 & sleep 1000); echo after"
        ran.append(await room.shell(command, timeout_s=500))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await room.shell(AWAIT_PID)
        leap(500)
    (ended,) = ran
    assert (ended.exit_code, ended.stopped_by, ended.timed_out, ended.stdout) == (124, "timeout", True, "before\n")
    assert (await room.shell("echo next")).stdout == "next\n"


async def test_the_policys_time_is_the_most_that_can_be_asked(tmp_path: Path) -> None:
    async with open_room(tmp_path) as room:
        short = room.space.requested.model_copy(
            update={"policy": room.space.requested.policy.model_copy(update={"overrides": {"shell": {"timeout_s": 1}}})}
        )
        await room.spaces.change(room.space.id, lambda one: one.model_copy(update={"requested": short}))
        ran = await room.shell("sleep 1000", timeout_s=500)
        assert ran.timed_out and ran.duration_ms < 100_000 and ran.timeout_s == 1
        assert (await room.shell("sleep 1000", timeout_s=0.5)).timeout_s is None


class NeverStarts:
    async def start(self, command: Command, *, output: OutputSink) -> Process:
        await anyio.sleep_forever()
        raise AssertionError


async def test_a_command_that_had_no_time_to_start_says_how_much_it_had(tmp_path: Path) -> None:
    capture = Capture(lambda: tmp_path / "spool", Redactor())
    sandbox = cast(Sandbox, NeverStarts())
    with pytest.raises(RuntimeUnavailable, match=r"within 0\.001 s") as caught:
        await run_to_end(sandbox, Command(("true",)), stdin=None, timeout_s=0.001, capture=capture)
    assert caught.value.hint.startswith("Give it more time")


async def test_long_output_shows_both_ends_and_keeps_all_of_it_as_an_artifact(room: Room) -> None:
    ran = await room.shell("seq 1 100000; echo problem >&2")
    assert ran.truncated and ran.stdout.startswith("1\n2\n") and ran.stdout.endswith("\n100000\n")
    assert "588,895 bytes in all" in ran.stdout and ran.stderr == "problem\n"
    assert cost(ran.stdout) + cost(ran.stderr) <= ANSWER_CHARACTERS
    row = room.database.read_one("SELECT size_bytes, run_id FROM artifacts WHERE id = ?", (ran.artifact,))
    assert row is not None and row["size_bytes"] == 588_895 + len("problem\n")


@pytest.mark.parametrize(
    "command",
    [
        "seq 1 20000 | tr '\\n' '\\033'",
        "head -c 100000 /dev/zero",
        "yes '\"\\' | head -c 100000",
        "head -c 100000 /dev/urandom; head -c 100000 /dev/urandom >&2",
        "yes ünïcödé€ | head -c 100000",
    ],
)
async def test_whatever_a_command_writes_the_answer_fits(room: Room, command: str) -> None:
    ran = await room.shell(command)
    assert ran.truncated
    assert cost(ran.stdout) + cost(ran.stderr or "") <= ANSWER_CHARACTERS


async def test_short_output_leaves_no_file(room: Room) -> None:
    await room.shell("seq 1 3000")
    await room.shell("seq 1 3000; sleep 1000", timeout_s=0.2)
    assert list((room.folder / "blobs" / ".incoming").iterdir()) == []


async def test_a_cancelled_command_is_killed(room: Room) -> None:
    async def run() -> None:
        with pytest.raises(Cancelled):
            await room.shell("echo $$ > pid; sleep 1000")

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await room.shell(AWAIT_PID)
            room.pipeline.active.cancel_where(lambda call: call.run.operation == "sandbox.shell", reason="test")
    assert (await room.shell(IS_ALIVE)).exit_code == 1


AWAIT_PID = "until [ -s pid ]; do sleep 0.01; done"
IS_ALIVE = "kill -0 $(cat pid)"


@pytest.mark.parametrize("name", ["LD_PRELOAD", "BASH_ENV", "ENV", "PATH", "GIT_SSH_COMMAND", "PAGER"])
async def test_a_variable_that_changes_what_runs_is_refused(room: Room, name: str) -> None:
    with pytest.raises(Denied) as caught:
        await room.shell("true", env={name: "x"})
    assert caught.value.rule == "shell.environment" and name in caught.value.message


async def test_a_permissive_policy_lets_such_variables_through(free_room: Room) -> None:
    assert (await free_room.shell("/bin/echo $PATH", env={"PATH": "/bin"})).stdout == "/bin\n"


@pytest.mark.parametrize(
    "arguments",
    [
        {"command": ""},
        {"command": "echo \0"},
        {"command": "echo \ud800"},
        {"command": "x" * 65_537},
        {"command": "true", "env": {"A=B": "x"}},
        {"command": "true", "env": {"A": "x\0"}},
        {"command": "true", "env": {"A": "x" * 32_769}},
        {"command": "true", "env": {f"A{n}": "" for n in range(65)}},
        {"command": "true", "stdin": "x" * ((1 << 20) + 1)},
        {"command": "true", "timeout_s": 0},
        {"command": "true", "timeout_s": float("nan")},
        {"command": "true", "cwd": "../.."},
        {"command": "true", "background": True, "timeout_s": 5},
        {"command": "true", "unknown": 1},
    ],
)
async def test_bad_input_is_refused_with_a_hint_before_anything_runs(room: Room, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        await room.call("sandbox.shell", **arguments)
    assert caught.value.hint.startswith("Arguments:")


async def test_a_job_answers_at_once_and_its_output_is_read_by_cursor(room: Room) -> None:
    job = (await room.shell("echo one; cat; echo two >&2; exit 3", background=True)).job
    with anyio.fail_after(20):
        first = await room.call("job.read", job=job, wait_s=10)
        assert first.state == "running" and first.output[0].text == "one\n"
        await room.call("job.write", job=job, text="typed\n", close=True)
        ended = await room.call("job.wait", job=job, timeout_s=60)
    assert (ended.state, ended.exit_code) == ("exited", 3)
    rest = await room.call("job.read", job=job, cursor=first.next_cursor)
    assert [(one.stream, one.text) for one in rest.output] == [("stdout", "typed\n"), ("stderr", "two\n")]
    nothing = await room.call("job.read", job=job, cursor=rest.next_cursor)
    assert nothing.output == () and nothing.next_cursor == rest.next_cursor
    with pytest.raises(WrongState):
        await room.call("job.write", job=job, text="late")


async def test_the_end_of_a_job_is_an_event_of_the_run_that_started_it(room: Room) -> None:
    job = (await room.shell("exit 4", background=True)).job
    with anyio.fail_after(20):
        await room.call("job.wait", job=job)
        run_id = room.runs("sandbox.shell")[-1]["id"]
        while not room.events(run_id):
            await anyio.lowlevel.checkpoint()
    assert room.events(run_id) == [("job.ended", {"job": job, "state": "exited", "exit_code": 4})]


async def test_a_stopped_job_is_stopped_and_stopping_it_again_changes_nothing(room: Room) -> None:
    job = (await room.shell("echo $$ > pid; sleep 1000", background=True)).job
    with anyio.fail_after(20):
        await room.shell(AWAIT_PID)
        stopped = await room.call("job.stop", job=job)
    assert stopped.state == "stopped"
    assert await room.call("job.stop", job=job) == stopped
    assert (await room.shell(IS_ALIVE)).exit_code == 1


async def test_reading_a_job_in_small_steps_loses_no_byte_and_breaks_no_character(room: Room) -> None:
    job = (await room.shell("for i in $(seq 300); do echo ünï€$i; done", background=True)).job
    await room.call("job.wait", job=job)
    text, cursor = "", 0
    while True:
        step = await room.call("job.read", job=job, cursor=cursor, limit=101)
        if not step.output:
            break
        text += "".join(one.text for one in step.output)
        cursor = step.next_cursor
    assert text == "".join(f"ünï€{n}\n" for n in range(1, 301))


async def test_old_output_of_a_job_is_dropped_and_that_is_said(room: Room) -> None:
    job = (await room.shell("yes | head -c 3000000", background=True)).job
    await room.call("job.wait", job=job)
    step = await room.call("job.read", job=job)
    assert step.output_bytes == 3_000_000
    assert 3_000_000 - RING_BYTES <= step.dropped_bytes < 3_000_000
    assert step.next_cursor > step.dropped_bytes


def test_single_bytes_to_both_streams_cost_no_more_than_a_bounded_number_of_pieces() -> None:
    ring = Ring()
    for _ in range(PIECES):
        ring.add(Stream.STDOUT, b"o")
        ring.add(Stream.STDERR, b"e")
    assert ring.end - ring.start == PIECES
    texts, cursor = ring.since(ring.end - 3, 100, ended=True)
    assert [text for _, text in texts] == ["e", "o", "e"] and cursor == ring.end


def test_of_an_old_job_s_output_the_last_bytes_are_kept_however_large_its_pieces_are() -> None:
    ring = Ring()
    for letter in b"abc":
        ring.add(Stream.STDOUT, bytes([letter]) * CHUNK)
    ring.trim(OLD_RING_BYTES)
    assert ring.end - ring.start == OLD_RING_BYTES
    ring.add(Stream.STDOUT, b"d" * 10)
    ring.trim(OLD_RING_BYTES)
    texts, _ = ring.since(0, 1 << 20, ended=True)
    assert "".join(text for _, text in texts) == "c" * (OLD_RING_BYTES - 10) + "d" * 10


def test_what_an_answer_shows_behind_the_cut_is_one_piece_of_the_output(tmp_path: Path) -> None:
    capture = Capture(lambda: tmp_path / "spooled", Redactor())
    for part in ("a" * HEAD_BYTES, "early " * 1000, "漢" * TAIL_BYTES):
        capture(Stream.STDOUT, part.encode())
    capture.finish()
    shown = capture.shown().stdout
    capture.discard()
    assert "early" not in shown and shown.endswith("漢")


async def test_what_is_written_to_a_job_is_limited_in_bytes_not_in_characters(room: Room) -> None:
    job = (await room.shell("wc -c", background=True)).job
    with pytest.raises(InvalidInput, match="bytes"):
        await room.call("job.write", job=job, text="é" * (WRITE_BYTES // 2 + 1))
    await room.call("job.write", job=job, text="é" * (WRITE_BYTES // 2), close=True)
    await room.call("job.wait", job=job)
    assert (await room.call("job.read", job=job)).output[0].text.strip() == str(WRITE_BYTES)


async def test_waiting_for_a_job_ends_when_the_time_is_over(room: Room) -> None:
    job = (await room.shell("sleep 1000", background=True)).job
    assert (await room.call("job.wait", job=job, timeout_s=0.05)).state == "running"
    assert (await room.call("job.read", job=job, wait_s=0.05)).output == ()


async def test_jobs_of_a_runtime_are_limited_and_old_ones_are_forgotten(room: Room) -> None:
    running = [(await room.shell("sleep 1000", background=True)).job for _ in range(RUNNING_LIMIT)]
    with pytest.raises(QuotaExceeded):
        await room.shell("true", background=True)
    await room.call("job.stop", job=running[0])
    for _ in range(KEPT_LIMIT):
        job = (await room.shell("true", background=True)).job
        await room.call("job.wait", job=job)
    runtime_id = room.runtimes.of_space(room.space.id)[0].id
    assert len(room.service.jobs.of_runtime(runtime_id)) == KEPT_LIMIT
    assert (await room.call("job.read", job=running[1])).state == "running"


async def test_stopping_a_sandbox_ends_its_jobs(room: Room) -> None:
    job = (await room.shell("sleep 1000", background=True)).job
    await room.call("sandbox.stop")
    assert (await room.call("job.wait", job=job)).state == "stopped"
    assert not room.service.is_busy(room.space.id)


async def test_t06_a_job_ends_with_the_permission_that_it_began_under(room: Room) -> None:
    job = (await room.shell("sleep 60", background=True)).job
    with anyio.fail_after(20):
        await room.pipeline.active.end_where(
            lambda call: call.caller.principal_id == room.agent.principal_id, reason="the key was revoked"
        )
    ended = await room.call("job.wait", job=job, timeout_s=20)
    assert ended.state == "stopped"


async def test_t06_a_job_ends_when_the_key_that_began_it_expires(room: Room) -> None:
    caller = replace(room.agent, expires_at=time.time() + 5)
    job = (await room.call("sandbox.shell", caller=caller, command="sleep 60", background=True)).job
    assert (await room.call("job.wait", job=job, timeout_s=60)).state == "stopped"
