"""What grants something is sealed; the columns beside it, by which rows are found, grant nothing by themselves (K11)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_spaces.errors import NotFound
from mcp_spaces.identity.model import LOCAL_AGENT, OPERATOR
from mcp_spaces.identity.store import Identity
from mcp_spaces.spaces.port import Runtimes, Spaces
from mcp_spaces.state.database import Database
from tests.security.app import World, open_world
from tests.security.prepared import prepared

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def tamper(world: World, sql: str, *parameters: object) -> None:
    changed = await world.use(Database).write(lambda tx: tx.execute(sql, parameters).rowcount)
    assert changed == 1


async def test_k11_a_principal_under_another_s_name_is_nobody(world: World) -> None:
    identity = world.use(Identity)
    await tamper(world, "UPDATE principals SET name = 'once' WHERE name = ?", LOCAL_AGENT)
    await tamper(world, "UPDATE principals SET name = ? WHERE name = ?", LOCAL_AGENT, OPERATOR)
    with pytest.raises(NotFound):
        identity.local_agent()
    assert identity.find("once") is None


async def test_k11_a_space_under_another_owner_or_name_is_not_theirs(world: World) -> None:
    spaces, agent = world.use(Spaces), world.agent
    theirs = str((await world.govern("space.create", name="theirs")).id)
    mine = await world.space("mine")
    await tamper(world, "UPDATE spaces SET owner_id = ? WHERE id = ?", agent.principal_id, theirs)
    assert not spaces.may_see(agent, theirs)
    assert [space.id for space in spaces.visible(agent)] == [mine]
    for reference in (theirs, "theirs"):
        with pytest.raises(NotFound):
            spaces.resolve(agent, reference)
    await tamper(world, "UPDATE spaces SET name = 'other' WHERE id = ?", mine)
    with pytest.raises(NotFound):
        spaces.resolve(agent, "other")
    assert spaces.resolve(agent, mine).name == "mine"


async def test_k11_a_sandbox_that_was_moved_to_another_space_is_not_there(world: World) -> None:
    at, other = await prepared(world, "work"), await world.space("other")
    (sandbox,) = world.use(Runtimes).of_space(at.space)
    await tamper(world, "UPDATE runtimes SET space_id = ? WHERE id = ?", other, sandbox.id)
    assert world.use(Runtimes).of_space(other) == []
    with pytest.raises(NotFound):
        await world.call("sandbox.shell", space=other, runtime=sandbox.id, command="ls")
