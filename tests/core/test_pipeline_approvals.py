"""A yes is for exactly one call, by somebody else, and a no is heard."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_spaces.core.approvals import Approval
from mcp_spaces.core.policy import Answer
from mcp_spaces.errors import ApprovalNeeded, Cancelled, Denied, WrongState
from mcp_spaces.state.transaction import Transaction
from tests.core.bench import AGENT, OPERATOR, Bench, open_bench
from tests.turns import meanwhile


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


async def test_a_yes_is_not_used_up_by_a_call_that_was_ended_before(bench: Bench) -> None:
    push = {"command": "git push"}
    with pytest.raises(ApprovalNeeded) as asked:
        await bench.pipeline.call(AGENT, "thing.shell", push)
    await bench.approvals.decide(asked.value.approval_id, grant=True, decided_by="pr_operator", run_id="run_x")
    repeat = bench.pipeline.call(AGENT, "thing.shell", push, idempotency_key="k1")
    with pytest.raises(Cancelled):
        await meanwhile(
            1, repeat, lambda: bench.pipeline.active.cancel_where(lambda _: True, reason="its space was narrowed")
        )
    assert bench.steering.calls == []
    await bench.pipeline.call(AGENT, "thing.shell", push)
    assert bench.steering.calls == ["git push"]


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


async def test_an_operator_who_is_asked_outside_of_a_space_needs_another_person_as_anybody(bench: Bench) -> None:
    asking = OPERATOR.policy.model_copy(update={"operations": {"thing.say": Answer.ASK}})
    with pytest.raises(ApprovalNeeded):
        await bench.pipeline.call(replace(OPERATOR, policy=asking), "thing.say", {"text": "x"})
