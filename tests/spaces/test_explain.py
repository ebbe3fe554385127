"""policy.explain says what a call would be answered, without making it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcp_spaces.errors import Denied, InvalidInput, NotFound
from tests.security.app import World, open_world

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.space("work")
        yield opened


JUDGED: list[tuple[dict[str, Any], str, str]] = [
    ({"command": "ls"}, "allow", "policy"),
    ({"command": "git push"}, "ask", "shell.git_push"),
    ({"command": "nc -l 80"}, "deny", "shell.commands"),
    ({"operation": "run.list"}, "allow", "policy"),
    ({"operation": "sandbox_shell", "input": {"command": "git push"}}, "ask", "shell.git_push"),
    ({"operation": "sandbox.write_file", "input": {"path": ".env", "content": "x"}}, "deny", "files.blocked_paths"),
    ({"operation": "sandbox.write_file", "input": {"path": "a", "content": "x"}}, "allow", "policy"),
]


async def test_a_command_or_a_call_is_explained_by_the_rule_that_decides(world: World) -> None:
    for asked, decision, rule in JUDGED:
        told = await world.call("policy.explain", space="work", **asked)
        assert (told.decision, told.rule) == (decision, rule)
        assert told.reason and bool(told.suggestion) == (decision != "allow")
        if "command" in asked:
            assert told.commands == [asked["command"]]


async def test_it_is_asked_about_one_thing(world: World) -> None:
    wrong: list[dict[str, Any]] = [{}, {"command": "ls", "operation": "run.list"}]
    for asked in wrong:
        with pytest.raises(InvalidInput, match="either"):
            await world.call("policy.explain", space="work", **asked)


async def test_what_the_caller_may_never_call_does_not_exist_and_wrong_input_is_told(world: World) -> None:
    for unknown in ("key.create", "run.lists"):
        with pytest.raises(NotFound):
            await world.call("policy.explain", space="work", operation=unknown)
    with pytest.raises(InvalidInput, match="command is missing"):
        await world.call("policy.explain", space="work", operation="sandbox.shell")


async def test_what_is_outside_the_scope_is_denied_whatever_the_policy_says(world: World) -> None:
    scope = world.agent.scope.model_copy(update={"operations": ("policy.explain", "run.list", "vault.list")})
    narrow = replace(world.agent, scope=scope)
    told = await world.call("policy.explain", caller=narrow, space="work", command="ls")
    assert (told.decision, told.rule) == ("deny", "scope.operations")
    told = await world.call("policy.explain", caller=narrow, space="work", operation="vault.list")
    assert (told.decision, told.rule) == ("deny", "scope.vault")


async def test_what_is_outside_the_scope_says_whose_scope_has_to_be_widened(world: World) -> None:
    async def told() -> list[str]:
        """By the call, by the context and by policy.explain."""
        with pytest.raises(Denied) as caught:
            await world.call("vault.list", space="work")
        refused = (await world.call("context.get", space="work")).refused
        (instead,) = [one.instead for one in refused if "vault.list" in one.ids]
        explained = await world.call("policy.explain", space="work", operation="vault.list")
        return [caught.value.hint, instead, explained.suggestion]

    own = "your own scope (mcp-spaces principal grant local-agent), then the space's"
    assert [own in one for one in await told()] == [True] * 3
    await world.govern("space.update", space="work", patch={"mounts": {"vault": {"allow": ["dev"]}}})
    own = "your own scope: mcp-spaces principal grant local-agent"
    assert [own in one for one in await told()] == [True] * 3
    await world.govern("principal.grant", principal="local-agent", scope={"vault": {"allow": ["dev"]}})
    assert (await world.call("vault.list", space="work")).secrets == []
    await world.govern("space.update", space="work", patch={"mounts": {"vault": None}})
    assert ["its owner can widen the space's ceiling: space_update" in one for one in await told()] == [True] * 3
