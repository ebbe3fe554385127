"""What a call has to pass before its operation begins, each gate on its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.core.caller import Caller
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Facts, NoFacts
from mcp_spaces.core.idempotency import MAXIMUM_KEY_LENGTH
from mcp_spaces.core.limits import Limits
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InRuntime, InSpace, RuntimePlace
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.core.scope import EVERYTHING, Scope
from mcp_spaces.errors import Busy, Cancelled, Denied, InvalidInput, NotFound, TimedOut, WrongState
from mcp_spaces.state.database import Database
from tests.core.bench import AGENT, OPERATOR, Bench, OnePlace, Said, SayInput, Steering, narrowed, open_bench, thing

pytestmark = pytest.mark.anyio


async def where(context: Context, _: InSpace) -> Said:
    """The space of this call, by its context and by its record, while it is under way."""
    row = context.use(Database).read_one("SELECT space_id FROM runs WHERE id = ?", (context.run_id,))
    context.use(Steering).calls.append(context.runtime_place.id if context.runtime_place else "")
    assert row is not None
    return Said(text=f"{context.place.id if context.place else None} {row['space_id']}")


def placed(verb: str, kind: type[InSpace] = InSpace, **more: Any) -> AnyOperation:
    return Operation(
        id=f"thing.{verb}", summary="A place.", input=kind, output=Said, effect=Effect.OBSERVES, handler=where, **more
    )


class Sandboxes(OnePlace):
    """The one space, with a sandbox in it."""

    sandbox = RuntimePlace("rt_1", "main", "sandbox", EVERYTHING)

    def runtime(self, space: object, reference: str | None, *, operation_id: str, active: bool) -> RuntimePlace:
        return self.sandbox


async def say_where(bench: Bench, caller: Caller, operation: str, **arguments: Any) -> str:
    output = (await bench.pipeline.call(caller, operation, arguments)).output
    assert isinstance(output, Said)
    return output.text


async def test_only_what_a_caller_may_call_somewhere_is_permitted(tmp_path: Path) -> None:
    async with open_bench(tmp_path, more=[thing("alone", where, unbound=True)]) as bench:

        def permitted(caller: Caller) -> set[str]:
            return {operation.verb for operation in bench.pipeline.permitted(caller)}

        everything = {operation.verb for operation in bench.pipeline.operations.values()}
        assert permitted(OPERATOR) == everything
        assert permitted(AGENT) == everything - {"govern"}
        assert permitted(replace(AGENT, spaces=frozenset({"sp_1"}))) == everything - {"govern", "alone"}
        assert permitted(narrowed(AGENT, operations=("thing.say", "thing.govern"))) == {"say"}


async def test_what_cannot_be_recorded_does_not_happen_and_leaves_no_outcome(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        with pytest.raises(InvalidInput):
            await bench.pipeline.call(AGENT, "thing.say", {"text": "x"}, parent_id="run_\ud800")
        assert bench.steering.calls == []
        assert bench.database.read("SELECT * FROM audit") == []


async def test_the_input_is_in_the_record_as_it_came(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        await bench.pipeline.call(AGENT, "thing.say", {"text": "hello"})
        assert json.loads(bench.last_run()["input"]) == {"text": "hello"}


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1, 1 << 64])
async def test_a_number_of_more_than_64_bits_is_refused_wherever_it_stands(tmp_path: Path, number: int) -> None:
    async with open_bench(tmp_path) as bench:
        for arguments in ({"text": number}, {"text": [{"n": [number]}]}):
            with pytest.raises(InvalidInput, match="64 bits"):
                await bench.pipeline.call(AGENT, "thing.say", arguments)


@pytest.mark.parametrize("key", ["", "x" * (MAXIMUM_KEY_LENGTH + 1), "a\nb", "\x1b[2J"])
async def test_an_idempotency_key_is_a_short_printable_text(tmp_path: Path, key: str) -> None:
    async with open_bench(tmp_path) as bench:
        with pytest.raises(InvalidInput, match="idempotency key"):
            await bench.pipeline.call(AGENT, "thing.say", {"text": "x"}, idempotency_key=key)
        assert bench.steering.calls == []
        await bench.pipeline.call(AGENT, "thing.say", {"text": "x"}, idempotency_key="x" * MAXIMUM_KEY_LENGTH)


async def test_a_repeat_is_told_to_wait_while_the_first_call_with_its_key_runs(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench, anyio.create_task_group() as tasks:

        async def first() -> None:
            with pytest.raises(Cancelled):
                await bench.pipeline.call(AGENT, "thing.hang", {"text": "x"}, idempotency_key="k")

        tasks.start_soon(first)
        await bench.steering.started.wait()
        run_id = bench.last_run()["id"]
        with pytest.raises(Busy, match="still running") as refused:
            await bench.pipeline.call(AGENT, "thing.hang", {"text": "x"}, idempotency_key="k")
        assert run_id in refused.value.hint
        bench.pipeline.active.cancel_where(lambda _call: True, reason="the test is over")


async def test_a_space_lists_a_call_while_it_runs(tmp_path: Path) -> None:
    async with open_bench(tmp_path, more=[placed("where")]) as bench:
        assert await say_where(bench, AGENT, "thing.where", space="work") == "sp_1 sp_1"
        with pytest.raises(InvalidInput):
            await bench.pipeline.call(AGENT, "thing.where", {"space": 7})
        with pytest.raises(NotFound):
            await bench.pipeline.call(AGENT, "thing.where", {"space": "elsewhere"})


async def test_an_operator_who_names_no_space_calls_in_none_where_an_operation_allows_it(tmp_path: Path) -> None:
    async with open_bench(tmp_path, more=[placed("anywhere", operator_anywhere=True), placed("where")]) as bench:
        assert await say_where(bench, OPERATOR, "thing.anywhere") == "None None"
        assert await say_where(bench, OPERATOR, "thing.anywhere", space="work") == "sp_1 sp_1"
        assert await say_where(bench, OPERATOR, "thing.where") == "sp_1 sp_1"
        assert await say_where(bench, AGENT, "thing.anywhere") == "sp_1 sp_1"


async def test_what_needs_a_running_space_is_not_begun_in_a_stopped_one(tmp_path: Path) -> None:
    more = [placed("where"), placed("works", needs_running_space=True)]
    async with open_bench(tmp_path, more=more) as bench:
        assert await say_where(bench, AGENT, "thing.works") == "sp_1 sp_1"
        bench.places.place = replace(bench.places.place, running=False)
        with pytest.raises(WrongState, match="stopped"):
            await bench.pipeline.call(AGENT, "thing.works", {})
        assert await say_where(bench, AGENT, "thing.where") == "sp_1 sp_1"


async def test_t08_the_space_s_ceiling_and_the_runtime_s_count_beside_the_caller_s(tmp_path: Path) -> None:
    places = Sandboxes()
    narrow = EVERYTHING.model_copy(update={"operations": ("thing.say",)})
    async with open_bench(tmp_path, more=[placed("inside", InRuntime)], places=places) as bench:
        assert await say_where(bench, AGENT, "thing.inside") == "sp_1 sp_1"
        assert bench.steering.calls == ["rt_1"]
        assert bench.last_run()["runtime_id"] == "rt_1"
        places.place = replace(places.place, ceiling=narrow)
        with pytest.raises(Denied, match="outside the scope"):
            await bench.pipeline.call(AGENT, "thing.inside", {})
        places.place = replace(places.place, ceiling=EVERYTHING)
        places.sandbox = replace(places.sandbox, ceiling=narrow)
        with pytest.raises(Denied, match="outside the scope"):
            await bench.pipeline.call(AGENT, "thing.inside", {})


async def test_t08_what_a_call_calls_is_never_under_more_than_its_own_scope(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        alone = EVERYTHING.model_copy(update={"operations": ("thing.twice",)})
        with pytest.raises(Denied, match=r"thing\.say is outside the scope"):
            await bench.pipeline.call(AGENT, "thing.twice", {"text": "x"}, scope=alone)
        assert bench.steering.calls == []


async def test_an_input_is_held_against_the_narrowed_scope_before_the_operation_begins(tmp_path: Path) -> None:
    def few(wanted: InSpace, scope: Scope) -> None:
        if scope.limits.runtimes < 2:
            raise Denied("Too few runtimes.", hint="", rule="scope.limits")

    async with open_bench(tmp_path, more=[placed("where", check_scope=few)]) as bench:
        assert await say_where(bench, AGENT, "thing.where")
        limits = Limits.unlimited().model_copy(update={"runtimes": 1})
        with pytest.raises(Denied, match="Too few"):
            await bench.pipeline.call(AGENT, "thing.where", {}, scope=EVERYTHING.model_copy(update={"limits": limits}))
        assert bench.steering.calls == [""]


async def test_t09_what_was_taken_away_while_a_call_waited_is_not_begun(tmp_path: Path) -> None:
    def taken_away(_: InSpace) -> Facts:
        bench.pipeline.active.cancel_where(lambda _call: True, reason="the space was narrowed")
        return NoFacts()

    async with open_bench(tmp_path, more=[placed("where", facts=taken_away)]) as bench:
        with pytest.raises(Cancelled, match="the space was narrowed"):
            await bench.pipeline.call(AGENT, "thing.where", {})
        assert bench.steering.calls == []


async def test_what_lasts_is_not_ended_by_the_scope_s_seconds(tmp_path: Path) -> None:
    async def waits(context: Context, wanted: SayInput) -> Said:
        context.use(Steering).calls.append(f"{context.scope.limits.call_seconds:g}")
        assert context.runtime_place is None
        return Said(text=wanted.text)

    more = [thing("lasting", waits, lasts=True), thing("brief", waits)]
    limits = Limits.unlimited().model_copy(update={"call_seconds": 0})
    async with open_bench(tmp_path, more=more) as bench:
        with pytest.raises(TimedOut):
            await bench.pipeline.call(narrowed(AGENT, limits=limits), "thing.brief", {"text": "x"})
        await bench.pipeline.call(narrowed(AGENT, limits=limits), "thing.lasting", {"text": "x"})
        assert bench.steering.calls == ["0"]


async def test_l21_what_a_refusal_would_have_repeated_is_counted_as_well(tmp_path: Path) -> None:
    async def refuse(context: Context, wanted: SayInput) -> Said:
        context.redactor.learn(wanted.text, name="prod/api")
        raise InvalidInput(f"{wanted.text} will not do.", hint=f"Not {wanted.text}.")

    async with open_bench(tmp_path, more=[thing("refuse", refuse)]) as bench:
        with pytest.raises(InvalidInput) as refused:
            await bench.pipeline.call(AGENT, "thing.refuse", {"text": "hunter2000"})
        assert (refused.value.message, refused.value.hint) == (
            "[redacted:prod/api] will not do.",
            "Not [redacted:prod/api].",
        )
        (outcome,) = bench.database.read("SELECT body FROM audit WHERE kind = 'outcome'")
        assert json.loads(outcome["body"])["redacted"] == {"prod/api": 2}


async def test_what_was_redacted_before_a_call_is_not_counted_as_its_own(tmp_path: Path) -> None:
    redactor = Redactor()
    redactor.mark("prod/api")
    async with open_bench(tmp_path) as bench:
        await bench.pipeline.call(AGENT, "thing.say", {"text": "x"}, redactor=redactor)
        (outcome,) = bench.database.read("SELECT body FROM audit WHERE kind = 'outcome'")
        assert "redacted" not in json.loads(outcome["body"])
