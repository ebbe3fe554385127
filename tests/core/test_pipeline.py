"""Nine steps, in order, for every call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_spaces.core.approvals import Approval
from mcp_spaces.core.idempotency import LIFETIME_S, Idempotency
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.policy import Answer
from mcp_spaces.core.scope import EVERYTHING
from mcp_spaces.errors import (
    ApprovalNeeded,
    Cancelled,
    Conflict,
    Denied,
    Internal,
    InvalidInput,
    NotFound,
    QuotaExceeded,
    TimedOut,
    WrongState,
)
from mcp_spaces.state.database import Transaction
from tests.core.bench import AGENT, OPERATOR, Bench, narrowed, open_bench

pytestmark = pytest.mark.anyio

AFTERNOON = Clock(now=lambda: 1_800_000_000.0)
"""A day that does not end while it is being counted."""


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as opened:
        yield opened


async def test_the_intent_is_recorded_before_the_handler_runs(bench: Bench) -> None:
    outcome = await bench.pipeline.call(AGENT, "thing.say", {"text": "hello"})
    assert bench.steering.runs_seen == ["running"]
    assert bench.run(outcome.run_id)["state"] == "succeeded"
    kinds = [row["kind"] for row in bench.database.read("SELECT kind FROM audit ORDER BY seq")]
    assert kinds == ["intent", "outcome"]


async def test_the_receipt_is_the_head_of_the_chain(bench: Bench) -> None:
    outcome = await bench.pipeline.call(AGENT, "thing.say", {"text": "hello"})
    head = bench.database.read_one("SELECT seq, mac FROM audit ORDER BY seq DESC LIMIT 1")
    assert head is not None
    assert outcome.receipt == f"{head['seq']}:{head['mac'].hex()[:32]}"


async def test_bad_input_is_named_and_recorded_and_its_value_is_not_repeated(bench: Bench) -> None:
    with pytest.raises(InvalidInput) as caught:
        await bench.pipeline.call(AGENT, "thing.say", {"text": 5, "wrong": "s3cret-value"})
    assert "wrong is unknown" in caught.value.message
    assert "s3cret-value" not in caught.value.message
    assert caught.value.hint == "Arguments: text."
    assert bench.last_run()["error_code"] == "invalid_input"
    assert bench.steering.calls == []


async def test_what_only_the_operator_may_do_does_not_exist_for_others(bench: Bench) -> None:
    with pytest.raises(NotFound) as forbidden:
        await bench.pipeline.call(AGENT, "thing.govern", {"text": "x"})
    with pytest.raises(NotFound) as absent:
        await bench.pipeline.call(AGENT, "thing.absent", {"text": "x"})
    assert forbidden.value.message.replace("govern", "absent") == absent.value.message
    assert (await bench.pipeline.call(OPERATOR, "thing.govern", {"text": "x"})).output


async def test_an_operation_outside_the_scope_is_denied_with_its_rule_and_recorded(bench: Bench) -> None:
    caller = narrowed(AGENT, operations=("space.*",))
    with pytest.raises(Denied) as caught:
        await bench.pipeline.call(caller, "thing.say", {"text": "x"})
    assert caught.value.rule == "scope.operations"
    assert bench.last_run()["state"] == "denied"


async def test_a_call_may_be_narrowed_further_but_never_widened(bench: Bench) -> None:
    caller = narrowed(AGENT, operations=("thing.say",))
    with pytest.raises(Denied):
        await bench.pipeline.call(AGENT, "thing.say", {"text": "x"}, scope=narrowed(AGENT, operations=()).scope)
    with pytest.raises(Denied):
        await bench.pipeline.call(caller, "thing.crash", {"text": "x"}, scope=EVERYTHING)


async def test_a_stopped_space_and_an_unknown_one_say_what_to_do(bench: Bench) -> None:
    with pytest.raises(NotFound) as caught:
        await bench.pipeline.call(AGENT, "thing.shell", {"space": "other", "command": "ls"})
    assert "space_list" in caught.value.hint


async def test_policy_denies_with_rule_reason_and_suggestion(bench: Bench) -> None:
    with pytest.raises(Denied) as caught:
        await bench.pipeline.call(AGENT, "thing.shell", {"command": "sudo ls"})
    assert caught.value.rule.startswith("shell.")
    assert caught.value.hint
    decision = json.loads(bench.last_run()["decision"])
    assert decision["verdict"] == "deny" and decision["rule"] == caught.value.rule
    assert bench.steering.calls == []


async def test_an_approval_lets_exactly_one_identical_call_through(bench: Bench) -> None:
    push = {"command": "git push origin main"}
    with pytest.raises(ApprovalNeeded) as asked:
        await bench.pipeline.call(AGENT, "thing.shell", push)
    with pytest.raises(ApprovalNeeded) as again:
        await bench.pipeline.call(AGENT, "thing.shell", push)
    assert asked.value.approval_id == again.value.approval_id
    await bench.approvals.decide(asked.value.approval_id, grant=True, decided_by="pr_operator", run_id="run_x")
    await bench.pipeline.call(AGENT, "thing.shell", push)
    assert bench.steering.calls == ["git push origin main"]
    with pytest.raises(ApprovalNeeded) as third:
        await bench.pipeline.call(AGENT, "thing.shell", push)
    assert third.value.approval_id != asked.value.approval_id


async def test_an_approval_survives_a_restart(tmp_path: Path) -> None:
    push = {"command": "git push"}
    async with open_bench(tmp_path) as first:
        with pytest.raises(ApprovalNeeded) as asked:
            await first.pipeline.call(AGENT, "thing.shell", push)
        await first.approvals.decide(asked.value.approval_id, grant=True, decided_by="pr_operator", run_id="run_x")
    async with open_bench(tmp_path) as second:
        await second.pipeline.call(AGENT, "thing.shell", push)
        assert second.steering.calls == ["git push"]


async def test_a_no_is_heard_once_and_then_asked_again(bench: Bench) -> None:
    push = {"command": "git push"}
    with pytest.raises(ApprovalNeeded) as asked:
        await bench.pipeline.call(AGENT, "thing.shell", push)
    await bench.approvals.decide(asked.value.approval_id, grant=False, decided_by="pr_operator", run_id="run_x")
    with pytest.raises(Denied, match="said no"):
        await bench.pipeline.call(AGENT, "thing.shell", push)
    with pytest.raises(ApprovalNeeded):
        await bench.pipeline.call(AGENT, "thing.shell", push)


async def test_concurrent_repeats_use_an_approval_once(bench: Bench) -> None:
    push = {"command": "git push"}
    with pytest.raises(ApprovalNeeded) as asked:
        await bench.pipeline.call(AGENT, "thing.shell", push)
    await bench.approvals.decide(asked.value.approval_id, grant=True, decided_by="pr_operator", run_id="run_x")

    async def repeat() -> None:
        with suppress(ApprovalNeeded):
            await bench.pipeline.call(AGENT, "thing.shell", push)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(repeat)
    assert bench.steering.calls == ["git push"]


async def test_nobody_approves_their_own_call(bench: Bench) -> None:
    with pytest.raises(ApprovalNeeded) as asked:
        await bench.pipeline.call(AGENT, "thing.shell", {"command": "git push"})
    with pytest.raises(WrongState):
        await bench.approvals.decide(asked.value.approval_id, grant=True, decided_by="pr_agent", run_id="run_x")


async def test_the_same_idempotency_key_gives_the_same_answer_once_and_another_body_is_a_conflict(bench: Bench) -> None:
    first = await bench.pipeline.call(AGENT, "thing.say", {"text": "a"}, idempotency_key="k1")
    second = await bench.pipeline.call(AGENT, "thing.say", {"text": "a"}, idempotency_key="k1")
    assert first.output == second.output
    assert bench.steering.calls == ["a"]
    with pytest.raises(Conflict):
        await bench.pipeline.call(AGENT, "thing.say", {"text": "b"}, idempotency_key="k1")
    other = replace(AGENT, principal_id="pr_other")
    await bench.pipeline.call(other, "thing.say", {"text": "b"}, idempotency_key="k1")


async def test_a_refused_call_gives_its_idempotency_key_back(bench: Bench) -> None:
    push = {"command": "git push"}
    with pytest.raises(ApprovalNeeded) as asked:
        await bench.pipeline.call(AGENT, "thing.shell", push, idempotency_key="k1")
    await bench.approvals.decide(asked.value.approval_id, grant=True, decided_by="pr_operator", run_id="run_x")
    await bench.pipeline.call(AGENT, "thing.shell", push, idempotency_key="k1")
    await bench.pipeline.call(AGENT, "thing.shell", push, idempotency_key="k1")
    assert bench.steering.calls == ["git push"]


async def test_after_a_crash_inside_an_idempotency_key_stays_taken(bench: Bench) -> None:
    with pytest.raises(Internal):
        await bench.pipeline.call(AGENT, "thing.crash", {"text": "x"}, idempotency_key="k1")
    with pytest.raises(Conflict, match="unknown"):
        await bench.pipeline.call(AGENT, "thing.crash", {"text": "x"}, idempotency_key="k1")


async def test_a_call_that_outlives_its_key_gives_no_answer_to_whoever_has_the_key_now(tmp_path: Path) -> None:
    now = [1_000_000.0]
    async with open_bench(tmp_path) as bench:
        keys = Idempotency(bench.database, Clock(now=lambda: now[0]))
        await keys.reserve("pr_agent", "k1", fingerprint="one", run_id="run_1")
        now[0] += LIFETIME_S
        await keys.reserve("pr_agent", "k1", fingerprint="two", run_id="run_2")
        await bench.database.write(lambda tx: keys.keep(tx, "pr_agent", "k1", '{"text": "one"}', run_id="run_1"))
        await bench.database.write(lambda tx: keys.release(tx, "pr_agent", "k1", run_id="run_1"))
        with pytest.raises(Conflict, match="unknown"):
            await keys.reserve("pr_agent", "k1", fingerprint="two", run_id="run_3")


async def test_what_is_pending_in_a_space_is_found_without_a_look_at_all_that_was_ever_asked(bench: Bench) -> None:
    """Counted in steps of SQLite's machine: time is the machine's."""
    steps: list[int] = []
    for number in (20, 2_000):

        def ask(tx: Transaction, number: int = number) -> None:
            for one in range(number):
                bench.approvals._store(tx, an_approval(bench, space_id=f"sp_{one}"))

        await bench.database.write(ask)
        counted = [0]

        def step(counted: list[int] = counted) -> None:
            counted[0] += 1

        bench.database._reader.set_progress_handler(step, 1)
        found = bench.approvals.pending(space_id="sp_absent")
        bench.database._reader.set_progress_handler(None, 1)
        assert found == []
        steps.append(counted[0])
    assert steps[1] < steps[0] * 1.2


def an_approval(bench: Bench, *, space_id: str) -> Approval:
    return bench.approvals.request(
        fingerprint=space_id,
        operation="thing.say",
        principal_id="pr_agent",
        principal_name="agent",
        space_id=space_id,
        space_name="work",
        run_id="run_x",
        reason="",
        rule="",
        input_json="{}",
    )


async def test_a_bug_tells_the_caller_a_reference_and_nothing_else(bench: Bench) -> None:
    with pytest.raises(Internal) as caught:
        await bench.pipeline.call(AGENT, "thing.crash", {"text": "x"})
    assert "hunter2" not in str(caught.value) + caught.value.hint
    assert caught.value.reference in caught.value.message
    assert bench.last_run()["error_code"] == "internal"
    assert "hunter2" not in (bench.last_run()["outcome"] or "")


async def test_l09_the_log_tells_of_a_bug_without_the_secrets_of_its_run(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Internal) as caught:
        await bench.pipeline.call(AGENT, "thing.crash", {"text": "a secret of this run"})
    assert "a secret of this run" not in caplog.text
    assert "and '[redacted:prod/api]'" in caplog.text
    assert caught.value.reference in caplog.text and "in crash" in caplog.text


async def test_l21_how_much_was_redacted_is_in_the_record_and_in_the_audit_log(bench: Bench) -> None:
    bench.steering.secret = "guess-me"
    await bench.pipeline.call(AGENT, "thing.twice", {"text": "is it guess-me or guess-you?"})
    run = bench.database.read_one("SELECT id FROM runs WHERE operation = 'thing.twice'")
    assert run is not None
    events = [
        json.loads(row["body"])
        for row in bench.database.read("SELECT body FROM events WHERE run_id = ? AND type = 'redacted'", (run["id"],))
    ]
    (audited,) = bench.database.read("SELECT body FROM audit WHERE run_id = ? AND kind = 'outcome'", (run["id"],))
    assert events == [json.loads(audited["body"])["redacted"]]
    assert events[0]["prod/api"] >= 3


async def test_a_cancelled_call_is_recorded_as_cancelled(bench: Bench) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.pipeline.call, AGENT, "thing.hang", {"text": "x"})
        with anyio.fail_after(5):
            await bench.steering.started.wait()
        tasks.cancel_scope.cancel()
    assert bench.last_run()["state"] == "cancelled"


async def test_a_call_can_be_cancelled_by_its_run(bench: Bench) -> None:
    async def cancel() -> None:
        await bench.steering.started.wait()
        bench.pipeline.active.cancel_where(lambda call: True, reason="a test wants it")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel)
        with anyio.fail_after(5), pytest.raises(Cancelled, match="a test wants it"):
            await bench.pipeline.call(AGENT, "thing.hang", {"text": "x"})
    assert bench.last_run()["state"] == "cancelled"


async def test_a_call_ends_when_the_scope_s_seconds_are_over(bench: Bench) -> None:
    limits = AGENT.scope.limits.model_copy(update={"call_seconds": 0.05})
    with anyio.fail_after(5), pytest.raises(TimedOut, match=r"0\.05 s"):
        await bench.pipeline.call(narrowed(AGENT, limits=limits), "thing.hang", {"text": "x"})
    assert bench.last_run()["error_code"] == "timeout"


async def test_a_call_ends_when_its_key_expires(bench: Bench) -> None:
    import time

    with anyio.fail_after(5), pytest.raises(TimedOut):
        await bench.pipeline.call(replace(AGENT, expires_at=time.time() + 0.05), "thing.hang", {"text": "x"})


async def test_one_call_too_many_at_a_time_is_refused(bench: Bench) -> None:
    limits = AGENT.scope.limits.model_copy(update={"concurrent_calls": 1})
    caller = narrowed(AGENT, limits=limits)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.pipeline.call, caller, "thing.hang", {"text": "x"})
        with anyio.fail_after(5):
            await bench.steering.started.wait()
        with pytest.raises(QuotaExceeded):
            await bench.pipeline.call(caller, "thing.say", {"text": "x"})
        tasks.cancel_scope.cancel()
    await bench.pipeline.call(caller, "thing.say", {"text": "x"})


async def test_d11_the_calls_of_a_day_are_counted_over_restarts_and_the_refusal_leaves_no_record(
    tmp_path: Path,
) -> None:
    limits = AGENT.scope.limits.model_copy(update={"calls_per_day": 3})
    caller = narrowed(AGENT, limits=limits)
    async with open_bench(tmp_path, AFTERNOON) as first:
        await first.pipeline.call(caller, "thing.say", {"text": "1"})
        await first.pipeline.call(caller, "thing.say", {"text": "2"})
    async with open_bench(tmp_path, AFTERNOON) as second:
        await second.pipeline.call(caller, "thing.say", {"text": "3"})
        for _ in range(3):
            with pytest.raises(QuotaExceeded, match="today"):
                await second.pipeline.call(caller, "thing.say", {"text": "4"})
        assert second.database.read("SELECT count(*) AS n FROM runs")[0]["n"] == 3
        await second.pipeline.call(AGENT, "thing.say", {"text": "another limit"})


async def test_a_learnt_secret_leaves_neither_in_the_answer_nor_in_the_record(bench: Bench) -> None:
    bench.steering.secret = "correct-horse-battery"
    outcome = await bench.pipeline.call(AGENT, "thing.say", {"text": "it is correct-horse-battery!"})
    assert outcome.output.model_dump() == {"text": "it is [redacted:prod/api]!"}
    assert "correct-horse" not in bench.run(outcome.run_id)["outcome"]


async def test_redaction_may_leave_the_grammar_of_the_answer(bench: Bench) -> None:
    outcome = await bench.pipeline.call(AGENT, "thing.name", {"text": "hunterab"})
    assert outcome.output.model_dump() == {"name": "[redacted:prod/api]"}
    assert bench.run(outcome.run_id)["state"] == "succeeded"


async def test_an_answer_that_redaction_took_out_of_its_grammar_is_given_again_for_its_key(bench: Bench) -> None:
    first = await bench.pipeline.call(AGENT, "thing.name", {"text": "hunterab"}, idempotency_key="k1")
    again = await bench.pipeline.call(AGENT, "thing.name", {"text": "hunterab"}, idempotency_key="k1")
    assert first.output.model_dump() == again.output.model_dump() == {"name": "[redacted:prod/api]"}
    assert bench.run(first.run_id)["state"] == bench.run(again.run_id)["state"] == "succeeded"


@pytest.mark.parametrize("through", ["thing.name", "operation.call"])
async def test_an_answer_that_is_not_the_last_word_is_not_given_again_even_where_it_was_redacted(
    bench: Bench, through: str
) -> None:
    arguments: dict[str, object] = {"text": "pending"}
    if through == "operation.call":
        arguments = {"operation": "thing.name", "input": arguments}
    await bench.pipeline.call(AGENT, through, arguments, idempotency_key="k1")
    assert bench.database.read("SELECT 1 FROM idempotency") == []


async def test_what_a_child_learnt_is_kept_out_of_its_parent_s_record_too(bench: Bench) -> None:
    bench.steering.secret = "hunter2-hunter2"
    outcome = await bench.pipeline.call(AGENT, "thing.twice", {"text": "it is hunter2-hunter2"})
    assert outcome.output.model_dump() == {"text": "it is [redacted:prod/api]"}
    assert "hunter2-hunter2" not in bench.run(outcome.run_id)["outcome"]


async def test_an_operator_who_is_asked_outside_of_a_space_needs_another_person_as_anybody(bench: Bench) -> None:
    asking = OPERATOR.policy.model_copy(update={"operations": {"thing.say": Answer.ASK}})
    with pytest.raises(ApprovalNeeded):
        await bench.pipeline.call(replace(OPERATOR, policy=asking), "thing.say", {"text": "x"})


async def test_our_own_keys_are_never_shown_or_stored(bench: Bench) -> None:
    token = "msp_" + "a" * 26 + "_" + "B" * 43
    outcome = await bench.pipeline.call(AGENT, "thing.say", {"text": f"key {token}"})
    assert token not in outcome.output.model_dump_json()
    assert token not in bench.run(outcome.run_id)["input"]


async def test_a_composed_call_leaves_one_child_run_per_operation(bench: Bench) -> None:
    outcome = await bench.pipeline.call(AGENT, "thing.twice", {"text": "x"})
    children = bench.database.read("SELECT operation FROM runs WHERE parent_id = ?", (outcome.run_id,))
    assert [row["operation"] for row in children] == ["thing.say", "thing.say"]


async def test_a_run_s_events_are_on_the_disk_with_its_outcome_and_hold_no_key(bench: Bench) -> None:
    outcome = await bench.pipeline.call(AGENT, "thing.twice", {"text": "x"})
    (event,) = bench.database.read("SELECT type, body FROM events WHERE run_id = ?", (outcome.run_id,))
    assert event["type"] == "halfway"
    assert json.loads(event["body"]) == {"said": "x", "key": "[redacted:key]"}


async def test_runs_left_open_by_a_dead_daemon_are_marked_interrupted(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as first:
        run = first.journal.open(
            "thing.say", principal_id="pr_agent", parent_id=None, space_id=None, arguments={"text": "x"}
        )
        assert run.recorded is not None
        await run.recorded
    async with open_bench(tmp_path) as second:
        assert await second.journal.interrupt_open_runs() == 1
        assert second.run(run.id)["state"] == "interrupted"


async def test_arguments_nested_too_deep_are_refused_and_recorded(bench: Bench) -> None:
    deep: dict[str, object] = {}
    for _ in range(3000):
        deep = {"text": deep}
    with pytest.raises(InvalidInput, match="deeper"):
        await bench.pipeline.call(AGENT, "thing.say", deep)
    assert bench.last_run()["error_code"] == "invalid_input"


async def test_lone_surrogates_and_nul_are_recorded_not_crashed_on(bench: Bench) -> None:
    with pytest.raises(InvalidInput):
        await bench.pipeline.call(AGENT, "thing.say", {"text": "\ud800"})
    await bench.pipeline.call(AGENT, "thing.say", {"text": "a\0b"})
