"""A handle names a thing and opens none: over every operation, with keys for other spaces (T01, T02)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.ids import ID_PATTERN, new_id
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.errors import NotFound
from tests.security.app import LITTLE, World, told
from tests.security.prepared import FOR_AGENTS, FOR_OPERATORS, NOWHERE, Prepared, prepared, valid_inputs


def test_every_operation_for_agents_has_an_input_that_has_to_work() -> None:
    assert set(valid_inputs(NOWHERE)) == {operation.id for operation in FOR_AGENTS}


def foreign_names(mine: Prepared, theirs: Prepared) -> Iterator[tuple[str, Prepared]]:
    """Ways to name what is theirs: all of it, or one thing of it from within what is mine."""
    yield "all by id", theirs
    yield "all by name", replace(theirs, space=theirs.name)
    yield "runtime", replace(mine, runtime=theirs.runtime)
    yield "run", replace(mine, run=theirs.run)
    yield "job", replace(mine, job=theirs.job)
    yield "artifact", replace(mine, artifact=theirs.artifact)
    yield "namespace", replace(mine, namespace=theirs.space)
    yield "shared namespace", replace(mine, namespace=f"shared.{theirs.space}")


async def test_t01_a_key_for_one_space_cannot_name_anything_of_another_over_every_operation(world: World) -> None:
    """The other space belongs to the same principal: only the key's own bounds stand between them."""
    mine, theirs = await prepared(world, "mine"), await prepared(world, "theirs")
    await world.govern("principal.add", name="other")
    other = await world.key(principal="other")
    strangers = await prepared_by(world, other, "strangers")
    key = await world.key(spaces=[mine.space])
    kinds = [(kind, at) for target in (theirs, strangers) for kind, at in foreign_names(mine, target)]
    nowhere = dict(foreign_names(mine, NOWHERE))
    checked = 0
    for kind, foreign in kinds:
        named, random_one, own = valid_inputs(foreign), valid_inputs(nowhere[kind]), valid_inputs(mine)
        for operation in FOR_AGENTS:
            if named[operation.id] == own[operation.id]:
                continue
            answer = await told(world, key, operation, named[operation.id])
            assert answer != "it worked", (operation.id, kind)
            assert answer == await told(world, key, operation, random_one[operation.id]), (operation.id, kind)
            checked += 1
    assert checked > 2 * len(FOR_AGENTS)
    for operation in FOR_OPERATORS:
        answer = await told(world, key, operation, operation.example)
        absent = (answer[1] if isinstance(answer, tuple) else "").replace(operation.id, "thing.absent")
        with pytest.raises(NotFound) as refused:
            await world.call("thing.absent", caller=key)
        assert absent == refused.value.message
    # Nothing of theirs was touched, and lists show nothing of it.
    assert await everything_works(world, theirs) and await everything_works(world, strangers, caller=other)
    for listed in ("space.list", "run.list"):
        shown = (await world.call(listed, caller=key)).model_dump_json()
        assert theirs.space not in shown and strangers.space not in shown


async def prepared_by(world: World, caller: Caller, name: str) -> Prepared:
    space = await world.space(name, caller=caller)
    uploaded = await world.outcome("storage.upload", caller=caller, space=space, path="inputs/sales.csv", content="a")
    exported = await world.call("run.export", caller=caller, run=uploaded.run_id)
    runtime = await world.launched(space, caller=caller, alias="main", scope={"limits": LITTLE})
    started = await world.call("sandbox.shell", caller=caller, space=space, command="sleep 1000", background=True)
    return Prepared(space, name, runtime, uploaded.run_id, started.job, exported.artifact.id)


async def everything_works(world: World, at: Prepared, caller: Caller | None = None) -> bool:
    reads = ("space.get", "sandbox.get", "job.read", "storage.read", "run.get", "run.read_artifact")
    return all(
        [await told(world, caller or world.agent, by_id(one), valid_inputs(at)[one]) == "it worked" for one in reads]
    )


def by_id(operation_id: str) -> AnyOperation:
    return next(operation for operation in CATALOGUE if operation.id == operation_id)


async def test_t02_a_handle_is_random_and_is_no_authority(world: World) -> None:
    mine = await prepared(world, "mine")
    await world.govern("principal.add", name="other")
    thief = await world.key(principal="other")
    handles = (mine.space, mine.runtime, mine.run, mine.job, mine.artifact)
    assert all(re.match(ID_PATTERN, handle) for handle in handles)
    for operation_id, arguments in valid_inputs(mine).items():
        if any(handle in arguments.values() for handle in handles):
            answer = await told(world, thief, by_id(operation_id), arguments)
            guessed = await told(world, thief, by_id(operation_id), valid_inputs(NOWHERE)[operation_id])
            assert answer == guessed != "it worked", operation_id


def test_t02_nothing_of_a_handle_follows_from_others() -> None:
    """Neither a time nor a counter is in it: each place takes each letter."""
    ids = [new_id("sp").removeprefix("sp_") for _ in range(2_000)]
    assert len(set(ids)) == len(ids)
    assert {len(set(letters)) for letters in zip(*ids, strict=True)} == {32}
    assert len(set(zip(*ids, strict=True))) == 26


async def test_t02_an_idempotency_key_opens_nobody_elses_answer(world: World) -> None:
    await world.govern("principal.add", name="other")
    other = await world.key(principal="other")
    first = await world.app.pipeline.call(world.agent, "space.create", {"name": "work"}, idempotency_key="same")
    second = await world.app.pipeline.call(other, "space.create", {"name": "work"}, idempotency_key="same")
    assert cast(Any, first.output).id != cast(Any, second.output).id
