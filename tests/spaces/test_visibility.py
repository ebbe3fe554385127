"""Who sees a space: its owner, an operator, and a key that is bound to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mcp_spaces.errors import Ambiguous
from mcp_spaces.spaces.port import Spaces
from tests.security.app import World, open_world

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def test_a_bound_key_sees_its_spaces_whoever_owns_them_and_no_others(world: World) -> None:
    spaces, agent, operator = world.use(Spaces), world.agent, world.operator
    mine, theirs = await world.space("mine"), str((await world.govern("space.create", name="theirs")).id)
    bound = replace(agent, spaces=frozenset({theirs}))
    for caller, seen in ((agent, {mine}), (bound, {theirs}), (operator, {mine, theirs})):
        assert {space.id for space in spaces.visible(caller)} == seen
        assert {one for one in (mine, theirs, "sp_absent") if spaces.may_see(caller, one)} == seen


async def test_who_sees_two_spaces_of_a_name_is_told_which_one_is_theirs(world: World) -> None:
    agents, own = await world.space("work"), str((await world.govern("space.create", name="work")).id)
    with pytest.raises(Ambiguous) as several:
        await world.govern("space.get", space="work")
    assert f"{agents} (work, another's)" in several.value.hint and f"{own} (work, yours)" in several.value.hint
    assert (await world.call("space.get", space="work")).id == agents
