"""Idempotency keys: the same answer once, for as long as the key lives and no longer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mcp_spaces.core.idempotency import LIFETIME_S, Idempotency
from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import (
    ApprovalNeeded,
    Cancelled,
    Conflict,
    Internal,
    NotFound,
    OutOfMemory,
    RuntimeUnavailable,
    SpacesError,
    TimedOut,
    WrongState,
)
from tests.core.bench import AGENT, Bench, open_bench
from tests.turns import cancelled_everywhere, meanwhile


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


async def test_t09_an_answer_of_before_is_not_given_to_whom_it_was_taken_away_meanwhile(bench: Bench) -> None:
    await bench.pipeline.call(AGENT, "thing.say", {"text": "a"}, idempotency_key="k1")

    async def attempt(suspension: int) -> bool:
        ended: list[int] = []

        def taken_away() -> None:
            ended.append(bench.pipeline.active.cancel_where(lambda _: True, reason="the key was revoked"))

        again = bench.pipeline.call(AGENT, "thing.say", {"text": "a"}, idempotency_key="k1")
        try:
            await meanwhile(suspension, again, taken_away)
        except Cancelled:
            assert ended == [1]
        else:
            assert ended != [1]
        return bool(ended)

    await cancelled_everywhere(attempt)
    assert bench.steering.calls == ["a"]


async def test_after_a_crash_inside_an_idempotency_key_stays_taken(bench: Bench) -> None:
    with pytest.raises(Internal):
        await bench.pipeline.call(AGENT, "thing.crash", {"text": "x"}, idempotency_key="k1")
    with pytest.raises(Conflict, match="unknown"):
        await bench.pipeline.call(AGENT, "thing.crash", {"text": "x"}, idempotency_key="k1")


@pytest.mark.parametrize("error", [TimedOut, Cancelled, RuntimeUnavailable, OutOfMemory])
async def test_k03_where_nobody_knows_how_much_was_done_the_key_stays_taken(
    bench: Bench, error: type[SpacesError]
) -> None:
    bench.steering.failure = error("It is gone.", hint="Look.")
    with pytest.raises(error):
        await bench.pipeline.call(AGENT, "thing.say", {"text": "a"}, idempotency_key="k1")
    bench.steering.failure = None
    with pytest.raises(Conflict, match="unknown"):
        await bench.pipeline.call(AGENT, "thing.say", {"text": "a"}, idempotency_key="k1")
    assert bench.steering.calls == ["a"]


@pytest.mark.parametrize("error", [NotFound, WrongState])
async def test_what_was_refused_may_be_tried_again_with_its_key(bench: Bench, error: type[SpacesError]) -> None:
    bench.steering.failure = error("It is not there.", hint="Make it.")
    with pytest.raises(error):
        await bench.pipeline.call(AGENT, "thing.say", {"text": "a"}, idempotency_key="k1")
    bench.steering.failure = None
    await bench.pipeline.call(AGENT, "thing.say", {"text": "a"}, idempotency_key="k1")
    assert bench.steering.calls == ["a", "a"]


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
