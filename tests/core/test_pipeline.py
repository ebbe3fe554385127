"""Nine steps, in order, for every call: recorded, parsed, narrowed, decided, handled, closed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_spaces.core.scope import EVERYTHING
from mcp_spaces.errors import Denied, Internal, InvalidInput, NotFound
from tests.core.bench import AGENT, OPERATOR, Bench, narrowed, open_bench


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


async def test_a_name_that_no_operation_has_is_answered_with_those_that_begin_alike(bench: Bench) -> None:
    names = [one.id for one in bench.pipeline.permitted(AGENT) if one.noun == "thing"]
    assert "thing.say" in names and "thing.govern" not in names
    for wanted, hint in (("thing.absent", f"There are {', '.join(names)}."), ("nothing.absent", "See context_get")):
        with pytest.raises(NotFound) as absent:
            await bench.pipeline.call(AGENT, wanted, {})
        assert absent.value.hint.startswith(hint)


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


async def test_a_bug_tells_the_caller_a_reference_and_nothing_else(bench: Bench) -> None:
    with pytest.raises(Internal) as caught:
        await bench.pipeline.call(AGENT, "thing.crash", {"text": "x"})
    assert "hunter2" not in str(caught.value) + caught.value.hint
    assert caught.value.reference in caught.value.message
    assert bench.last_run()["error_code"] == "internal"
    assert "hunter2" not in (bench.last_run()["outcome"] or "")


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
