"""The calls under way: whose secrets they learn, which one works in a runtime, and who is told that a space is in use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from mcp_spaces.core.active import ActiveCalls
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.journal import Run
from mcp_spaces.core.redaction import Redactor
from tests.core.bench import AGENT

CALLS = ActiveCalls()

pytestmark = pytest.mark.anyio


@pytest.fixture
def under_way() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def begin(stack: ExitStack, run_id: str, *, parent: str | None = None, runtime: str | None = "rt_1") -> Redactor:
    run = Run(run_id, "thing.say", AGENT.principal_id, parent, 0.0, space_id="sp_1", runtime_id=runtime)
    redactor = Redactor()
    stack.enter_context(CALLS.entered(run, AGENT, Effect.READS, redactor))
    return redactor


async def test_what_is_used_in_a_runtime_is_learnt_by_the_calls_there_and_by_no_others(under_way: ExitStack) -> None:
    there, elsewhere = begin(under_way, "run_1"), begin(under_way, "run_2", runtime="rt_2")
    CALLS.learn("rt_1", "hunter2000", name="prod/api")
    assert there.text("hunter2000") == "[redacted:prod/api]" and elsewhere.text("hunter2000") == "hunter2000"


async def test_the_one_call_that_works_in_a_runtime_is_the_innermost_of_its_family(under_way: ExitStack) -> None:
    assert CALLS.only_run_in("rt_1") is None
    begin(under_way, "run_1")
    assert CALLS.only_run_in("rt_1") == "run_1" and CALLS.only_run_in("rt_2") is None
    begin(under_way, "run_2", parent="run_1")
    assert CALLS.only_run_in("rt_1") == "run_2"
    begin(under_way, "run_3", runtime="rt_2")
    assert CALLS.only_run_in("rt_1") == "run_2"
    begin(under_way, "run_4")
    assert CALLS.only_run_in("rt_1") is None


async def test_a_space_is_in_use_while_a_call_in_it_is_under_way() -> None:
    with ExitStack() as stack:
        begin(stack, "run_1")
        assert CALLS.any_in("sp_1") and not CALLS.any_in("sp_2")
        found = CALLS.get("run_1")
        assert found is not None and found.run.id == "run_1" and CALLS.get("run_2") is None
    assert not CALLS.any_in("sp_1") and CALLS.get("run_1") is None
