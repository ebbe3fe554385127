"""Calls that are cancelled, last too long or are too many."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest

from mcp_spaces.core.context import Context
from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import Busy, Cancelled, Conflict, QuotaExceeded, SpacesError, TimedOut
from mcp_spaces.state.database import Database
from tests.core.bench import AGENT, Bench, Said, SayInput, Steering, locked, narrowed, open_bench, thing

PATIENCE_S = 30
AFTERNOON = Clock(now=lambda: 1_800_000_000.0)
"""A day that does not end while it is being counted."""


async def test_a_cancelled_call_is_recorded_as_cancelled(bench: Bench) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.pipeline.call, AGENT, "thing.hang", {"text": "x"})
        with anyio.fail_after(PATIENCE_S):
            await bench.steering.started.wait()
        tasks.cancel_scope.cancel()
    assert bench.last_run()["state"] == "cancelled"


async def test_a_call_can_be_cancelled_by_its_run(bench: Bench) -> None:
    async def cancel() -> None:
        await bench.steering.started.wait()
        bench.pipeline.active.cancel_where(lambda call: True, reason="a test wants it")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel)
        with anyio.fail_after(PATIENCE_S), pytest.raises(Cancelled, match="a test wants it"):
            await bench.pipeline.call(AGENT, "thing.hang", {"text": "x"})
    assert bench.last_run()["state"] == "cancelled"


@pytest.mark.parametrize("through", ["thing.begin", "operation.call"])
async def test_what_a_cancelled_call_answers_is_recorded_as_cancelled(bench: Bench, through: str) -> None:
    asked = {"text": "x"} if through == "thing.begin" else {"operation": "thing.begin", "input": {"text": "x"}}
    client = anyio.CancelScope()

    async def call() -> None:
        with client:
            await bench.pipeline.call(AGENT, through, asked)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await bench.steering.started.wait()
            client.cancel()
    runs = bench.database.read("SELECT state, error_code, outcome FROM runs")
    assert {(run["state"], run["error_code"]) for run in runs} == {("cancelled", "cancelled")}
    assert {json.loads(run["outcome"])["text"] for run in runs} == {"half of it"}


async def test_a_call_ends_when_the_scope_s_seconds_are_over(bench: Bench) -> None:
    limits = AGENT.scope.limits.model_copy(update={"call_seconds": 0.05})
    with anyio.fail_after(PATIENCE_S), pytest.raises(TimedOut, match=r"0\.05 s"):
        await bench.pipeline.call(narrowed(AGENT, limits=limits), "thing.hang", {"text": "x"})
    assert bench.last_run()["error_code"] == "timeout"


async def test_a_call_ends_when_its_key_expires(bench: Bench) -> None:
    import time

    with anyio.fail_after(PATIENCE_S), pytest.raises(TimedOut):
        await bench.pipeline.call(replace(AGENT, expires_at=time.time() + 0.05), "thing.hang", {"text": "x"})


async def test_one_call_too_many_at_a_time_is_refused(bench: Bench) -> None:
    limits = AGENT.scope.limits.model_copy(update={"concurrent_calls": 1})
    caller = narrowed(AGENT, limits=limits)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.pipeline.call, caller, "thing.hang", {"text": "x"})
        with anyio.fail_after(PATIENCE_S):
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


@pytest.mark.parametrize("failure", [None, TimedOut("It took too long.", hint="Give it more time.")])
async def test_what_was_done_but_not_recorded_says_so_and_its_key_has_the_answer_afterwards(
    tmp_path: Path, failure: SpacesError | None
) -> None:
    """A disk that fills, or a lock, between a call's intent and its outcome."""
    async with AsyncExitStack() as stack:

        async def lock(context: Context, wanted: SayInput) -> Said:
            context.use(Steering).calls.append(wanted.text)
            lasts.enter_context(locked(context.use(Database)))
            if failure is not None:
                raise failure
            return Said(text=wanted.text)

        lasts = stack.enter_context(ExitStack())
        bench = await stack.enter_async_context(open_bench(tmp_path, more=[thing("lock", lock)]))
        call = partial(bench.pipeline.call, AGENT, "thing.lock", {"text": "x"}, idempotency_key="k1")
        with pytest.raises(Busy if failure is None else TimedOut) as told:
            await call()
        if failure is None:
            assert "was done" in told.value.message and str(bench.last_run()["id"]) in told.value.hint
            assert "nothing was done" not in told.value.message
        assert bench.last_run()["state"] == "running"
        lasts.close()
        if failure is None:
            assert (await call()).output == Said(text="x")
        else:
            with pytest.raises(Conflict, match="unknown"):
                await call()
        assert bench.steering.calls == ["x"]
        (first, _) = bench.database.read("SELECT state, error_code FROM runs ORDER BY seq")
        assert tuple(first) == (("succeeded", None) if failure is None else ("failed", "timeout"))
