"""What an agent is told that it may do is what it may do, and all of it (T14, T15)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.errors import ApprovalNeeded, Denied, NotFound, WrongState
from tests.security.app import LITTLE, World, refusal, short_folder, told
from tests.security.daemons import nursery
from tests.security.lines import line_to
from tests.security.prepared import FOR_AGENTS, FOR_OPERATORS, NOWHERE, Prepared, prepare_for, prepared, valid_inputs

# What is lent has a process of its own: tests/browser/test_lease.py.
IN_BROWSERS = [one for one in FOR_AGENTS if one.noun == "browser" and one.id != "browser.connect"]
ELSEWHERE = [operation for operation in FOR_AGENTS if operation.noun != "browser"]

LIST_BYTES_MAX = 20_000
"""As docs/benchmarks.md promises."""
STATES: Mapping[str, dict[str, Any]] = {
    "running": {},
    "running without a sandbox": {"runtime": False},
    "stopped": {"running": False},
    "stopped without a sandbox": {"running": False, "runtime": False},
}  # fmt: skip
REFUSALS = (Denied, WrongState, NotFound)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("preset", ["restrictive", "standard", "permissive", "asking"])
async def test_t14_every_listed_operation_succeeds_and_every_unlisted_one_is_refused(
    world: World, preset: str, state: str
) -> None:
    await _as_the_context_says(world, world.agent, preset=preset, **STATES[state])


@pytest.mark.parametrize("preset", ["restrictive", "standard", "permissive", "asking"])
async def test_t14_what_the_context_says_of_an_open_browser_is_true(world: World, preset: str) -> None:
    await _as_the_context_says(world, world.agent, preset=preset, operations=IN_BROWSERS)


@pytest.mark.parametrize(
    "bounds",
    [{"operations": ["context.get", "storage.*", "run.*"]}, {"operations": ["*"], "bound": True}, {"operations": ["sandbox.*", "context.get"], "bound": True}],
    ids=str,
)  # fmt: skip
async def test_t14_the_context_is_as_true_for_a_narrow_key(world: World, bounds: dict[str, Any]) -> None:
    await _as_the_context_says(world, None, preset="standard", bounds=bounds)


async def test_t14_the_context_is_as_true_for_a_space_that_holds_less_than_its_caller(world: World) -> None:
    await world.govern("principal.grant", principal="local-agent", scope={"vault": {"allow": ["prod"]}})
    assert world.agent.scope.vault.allow
    of_secrets = [one for one in FOR_AGENTS if one.noun == "vault"]
    await _as_the_context_says(world, world.agent, preset="standard", operations=of_secrets)


@pytest.mark.parametrize(
    "operations", [["sandbox.read_file", "sandbox.list"], ["sandbox.*"], ["storage.*", "sandbox.get"]]
)
async def test_t14_the_context_is_as_true_for_a_narrow_sandbox(world: World, operations: list[str]) -> None:
    at = await prepared(world, "narrow")
    await world.call("sandbox.delete", space=at.space, runtime=at.runtime)
    runtime = await world.launched(at.space, alias="main", scope={"limits": LITTLE, "operations": operations})
    world_file = world.folder / "workspaces" / runtime / "src"
    world_file.mkdir()
    for name in ("main.py", "old.py"):
        (world_file / name).write_text("print(1)\n")
    at = replace(at, runtime=runtime, job=NOWHERE.job)
    listed = (await world.call("context.get", space=at.space)).operations
    named = {one.id for one in listed}
    # The least destructive first, so that one world serves all.
    for operation in sorted((one for one in FOR_AGENTS if one.in_runtime), key=lambda one: one.effect.value == "ends"):
        answer = await told(world, world.agent, operation, valid_inputs(at)[operation.id])
        if operation.id in named:
            assert answer == "it worked", operation.id
        else:
            assert isinstance(answer, tuple) and answer[0] in ("denied", "not_found", "wrong_state"), operation.id
        if operation.id in named and operation.effect.value == "ends":
            break


async def _as_the_context_says(
    world: World,
    caller: Caller | None,
    *,
    preset: str,
    bounds: dict[str, Any] | None = None,
    running: bool = True,
    runtime: bool = True,
    operations: Sequence[AnyOperation] = tuple(ELSEWHERE),
) -> None:
    number = 0
    browser = operations[0].noun == "browser"

    async def fresh() -> tuple[Prepared, Caller]:
        nonlocal number
        number += 1
        at = await prepared(
            world,
            f"work-{number}",
            preset="standard" if preset == "asking" else preset,
            running=running,
            runtime=runtime,
            browser=browser,
        )
        if preset == "asking":
            asks = {"effects": {"writes": "ask", "executes": "ask", "deletes": "deny", "interacts": "ask"}}
            await world.govern("space.update", space=at.space, patch={"policy": {"overrides": asks}})
        if bounds is None:
            return at, caller or world.agent
        spaces = [at.space] if bounds.get("bound") else None
        return at, await world.key(operations=bounds["operations"], spaces=spaces)

    at, who = await fresh()
    for operation in operations:
        if operation.id == "context.get":
            continue
        if browser:
            # Refused where nothing may be clicked: then the operation is as well.
            await refusal(prepare_for(world, at, operation.id))
        context = await world.call("context.get", caller=who, space=at.space)
        listed = {one.id: one for one in context.operations}
        refused = {one for group in context.refused or () for one in group.ids}
        permitted = {one.id for one in world.app.permitted(who)}
        assert set(listed) | refused == permitted and not set(listed) & refused
        problem = await refusal(world.call(operation.id, caller=who, **valid_inputs(at)[operation.id]))
        where = (operation.id, "listed" if operation.id in listed else "not listed", problem)
        if operation.id not in listed:
            # Whether a job exists is found out by its handler, after a person was asked.
            asked_first = operation.id == "job.write" and preset == "asking"
            assert isinstance(problem, (*REFUSALS, ApprovalNeeded) if asked_first else REFUSALS), where
        elif listed[operation.id].asks:
            assert isinstance(problem, ApprovalNeeded), where
        else:
            assert problem is None, where
        if operation.effect.value not in ("observes", "reads", "composes") and problem is None:
            gone = {"space.create": ["another"], "space.delete": []}.get(operation.id, [])
            for space in gone if operation.id == "space.delete" else [*gone, at.space]:
                await world.govern("space.delete", space=space, force=True)
            at, who = await fresh()


async def test_t14_an_example_names_a_tool_that_is_listed_and_input_that_it_takes(world: World) -> None:
    at = await prepared(world, "examples")
    listed = {one.tool: one for one in CATALOGUE if one.listed}
    by_id = {one.id: one for one in CATALOGUE}
    shown = await world.call("context.get", space=at.space, topic="examples")
    assert {"storage_link", "storage_upload"} & set(listed) == {"storage_upload"}
    called = set()
    for example in shown.examples:
        operation, arguments = listed[example["tool"]], example["arguments"]
        if operation.id == "operation.call":
            operation, arguments = by_id[arguments["operation"]], arguments["input"]
        operation.input.model_validate(arguments)
        called.add(operation.id)
    assert {"storage.link", "storage.upload"} <= called


async def test_t14_a_tool_s_name_is_as_good_as_its_operation_s_id_so_what_a_hint_names_can_be_called(
    world: World,
) -> None:
    at = await prepared(world, "topics")
    for topic in ("sandbox.list_files", "sandbox_list_files"):
        (shown,) = (await world.call("context.get", space=at.space, topic=topic)).operations
        assert shown.id == "sandbox.list_files" and "depth" in shown.input_schema["properties"]
    with pytest.raises(NotFound):
        await world.call("operation.call", operation="principal_list", input={})
    await world.call("operation.call", operation="space_down", input={"space": at.space})
    with pytest.raises(WrongState) as caught:
        await world.call("sandbox.shell", space=at.space, command="ls")
    tool, _, space = caught.value.hint.removeprefix("Start it: ").partition(" space=")
    verdict = await world.call("policy.explain", space=space, operation=tool, input={"space": space})
    assert verdict.decision == "allow"
    answer = await world.call("operation.call", operation=tool, input={"space": space})
    assert answer.root["state"] == "running"
    runs = (await world.call("run.list", operation="context_get", limit=2)).runs
    assert [run.operation for run in runs] == ["context.get", "context.get"]


async def test_t14_the_commands_that_a_refusal_speaks_of_are_listed_where_it_says(world: World) -> None:
    at = await prepared(world, "commands")
    with pytest.raises(Denied) as caught:
        await world.call("sandbox.shell", space=at.space, command="nmap")
    assert "context_get topic=rules detail=full" in caught.value.hint
    rules = (await world.call("context.get", space=at.space, topic="rules", detail="full")).rules
    (line,) = [rule for rule in rules if rule.startswith("The commands: ")]
    assert {"git", "rg", "python3"} <= set(line.split()) and "nmap" not in line.split()


async def test_t15_a_tool_list_holds_what_is_permitted_and_no_other_name() -> None:
    with short_folder() as folder:
        state = folder / "state"
        async with nursery() as nurse:
            pid = await nurse.running(state)
            async with line_to(state, operator=True) as operator:
                narrow_key = await operator.call(
                    "key.create", label="narrow", operations=["storage.read", "context.get"]
                )
                whole = await operator.ask("tools/list")
            async with line_to(state) as agent:
                agents = await agent.ask("tools/list")
            async with line_to(state, key=narrow_key.content["token"]) as narrowest:
                narrow_list = await narrowest.ask("tools/list")
                denied = await narrowest.ask("tools/call", name="key_create", arguments={"label": "x"})
                absent = await narrowest.ask("tools/call", name="sandbox_absent", arguments={})
            await nurse.stop(pid)
    names = [{tool["name"] for tool in said["result"]["tools"]} for said in (whole, agents, narrow_list)]
    assert names[0] == {one.tool for one in CATALOGUE}
    assert names[1] == {one.tool for one in FOR_AGENTS if one.listed}
    assert names[2] == {"storage_read", "context_get"}
    size = len(json.dumps(agents["result"]["tools"], ensure_ascii=False, separators=(",", ":")).encode())
    assert size <= LIST_BYTES_MAX, "every session of an agent pays for it"
    for operation in FOR_OPERATORS:
        assert operation.tool not in str(agents) and operation.id not in str(agents)
    assert str(denied).replace("key_create", "sandbox_absent") == str(absent)


async def test_t14_the_context_of_one_runtime_knows_of_those_of_another_kind(world: World) -> None:
    at = await prepared(world, "both", browser=True)
    for runtime, works in ((at.browser, "sandbox.shell"), (at.runtime, "browser.snapshot")):
        shown = await world.call("context.get", space=at.space, runtime=runtime)
        assert works in {one.id for one in shown.operations}
        assert [one.id for one in shown.runtimes] == [runtime]
    await world.call("sandbox.shell", space=at.space, command="true")


async def test_who_has_no_space_yet_is_told_what_one_may_be_made_with(world: World) -> None:
    (shown,) = (await world.call("context.get", topic="space_create")).operations
    assert shown.id == "space.create" and shown.refused is None
    assert "network" in shown.input_schema["properties"]["mounts"]["properties"]
    (later,) = (await world.call("context.get", topic="sandbox.shell")).operations
    assert later.refused == "you have no space yet; space_create name=work"
    refused: list[tuple[dict[str, Any], str]] = [
        ({}, "no space yet"),
        ({"topic": "rules"}, "no space yet"),
        ({"topic": "space.create", "space": "nowhere"}, "No such space"),
        ({"topic": "vault.set"}, "No operation"),
        ({"topic": "nothing.at_all"}, "No operation"),
    ]
    for asked, why in refused:
        with pytest.raises(NotFound, match=why) as caught:
            await world.call("context.get", **asked)
        assert caught.value.hint.startswith("There are vault.") is (asked.get("topic") == "vault.set")
    assert (await world.call("space.create", **shown.example)).name == "work"
    (now,) = (await world.call("context.get", topic="sandbox.shell")).operations
    assert now.refused == "no sandbox; sandbox_launch space=work"


async def test_an_operator_without_a_space_is_told_the_same_of_the_vault_as_it_finds(world: World) -> None:
    (shown,) = (await world.govern("context.get", topic="vault.list")).operations
    assert shown.refused is None
    await world.govern("vault.list")
