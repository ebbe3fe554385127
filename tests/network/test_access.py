"""What a runtime may reach, read from the real store: live, and nothing where anything is wrong (threat N13)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_spaces.core.policy import Policy
from mcp_spaces.core.scope import NetworkGrant, NetworkMode, Scope
from mcp_spaces.network.access import LiveAccesses
from mcp_spaces.network.model import RuntimeRef
from mcp_spaces.spaces.model import PolicyChoice
from mcp_spaces.spaces.port import Runtimes, Spaces
from mcp_spaces.spaces.store import SpaceStore
from tests.security.app import World, open_world

pytestmark = pytest.mark.anyio

LIST = {"network": {"mode": "allowlist", "allow": ["a.com", "*.b.com"]}}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


def accesses(world: World, *, owner: NetworkGrant | None = None) -> LiveAccesses:
    def policy(choice: PolicyChoice) -> Policy:
        return world.use(SpaceStore).policy(choice)

    everything = NetworkGrant(mode=NetworkMode.OPEN)
    return LiveAccesses(
        spaces=world.use(Spaces),
        runtimes=world.use(Runtimes),
        policy=policy,
        owner_scope=lambda _: Scope(network=owner or everything),
    )


async def launched(
    world: World, mounts: object = LIST, *, preset: str = "standard", scope: object = None
) -> RuntimeRef:
    made = await world.govern("space.create", name="net", mounts=mounts, policy={"preset": preset})
    more = {} if scope is None else {"scope": scope}
    runtime = await world.govern("sandbox.launch", space="net", **more)
    return RuntimeRef(runtime.id, made.id, runtime.alias)


async def test_it_is_the_space_s_list(world: World) -> None:
    runtime = await launched(world)
    assert accesses(world).access(runtime).grant.allow == ("*.b.com", "a.com")


async def test_a_runtime_may_have_less(world: World) -> None:
    runtime = await launched(world, scope={"network": {"mode": "allowlist", "allow": ["x.b.com:443"]}})
    assert accesses(world).access(runtime).grant.allow == ("x.b.com:443",)


async def test_a_change_counts_for_the_next_connection(world: World) -> None:
    runtime = await launched(world)
    live = accesses(world)
    await world.govern(
        "space.update", space="net", patch={"mounts": {"network": {"mode": "allowlist", "allow": ["a.com"]}}}
    )
    assert live.access(runtime).grant.allow == ("a.com",)
    await world.govern("space.update", space="net", patch={"policy": {"preset": "restrictive"}})
    assert live.access(runtime).grant.mode is NetworkMode.NONE
    assert live.access(runtime).because == "policy.network.mode"


async def test_what_the_owner_lost_today_the_space_has_lost_too(world: World) -> None:
    runtime = await launched(world)
    access = accesses(world, owner=NetworkGrant(mode=NetworkMode.NONE)).access(runtime)
    assert (access.grant.mode, access.because) == (NetworkMode.NONE, "the owner's scope")


async def test_open_needs_a_policy_that_is(world: World) -> None:
    runtime = await launched(world, {"network": {"mode": "open"}})
    assert accesses(world).access(runtime).because == "policy.network.mode"


async def test_a_stopped_or_unknown_space_reaches_nothing(world: World) -> None:
    runtime = await launched(world)
    unknown = RuntimeRef(runtime.id, "sp_other", "main")
    assert accesses(world).access(unknown).grant.mode is NetworkMode.NONE
    await world.govern("space.down", space="net")
    assert accesses(world).access(runtime).grant.mode is NetworkMode.NONE


@pytest.mark.parametrize("table", ["spaces", "runtimes"])
async def test_n13_a_damaged_row_denies_everything(world: World, table: str) -> None:
    runtime = await launched(world)

    await world.database.write(lambda tx: tx.execute(f"UPDATE {table} SET mac = x'00'"))
    access = accesses(world).access(runtime)
    assert (access.grant.mode, access.because) == (NetworkMode.NONE, "policy")


async def test_n13_a_policy_that_cannot_be_read_denies_everything(world: World) -> None:
    runtime = await launched(world)

    def broken(_: PolicyChoice) -> Policy:
        raise ValueError

    live = LiveAccesses(
        spaces=world.use(Spaces),
        runtimes=world.use(Runtimes),
        policy=broken,
        owner_scope=lambda _: Scope(network=NetworkGrant(mode=NetworkMode.OPEN)),
    )
    assert live.access(runtime).because == "policy"
