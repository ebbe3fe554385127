"""What a runtime may reach, read from the real store: live, and nothing where anything is wrong (threat N13)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from mcp_spaces.core.ids import Clock
from mcp_spaces.core.policy import Policy
from mcp_spaces.core.scope import NetworkGrant, NetworkMode, Scope, VaultGrant
from mcp_spaces.errors import InvalidInput
from mcp_spaces.network.access import LiveAccesses
from mcp_spaces.network.gateway import Gateway
from mcp_spaces.network.model import NO_ACCESS, NO_SECRETS, Access, RuntimeRef
from mcp_spaces.spaces.model import PolicyChoice, RuntimeKind
from mcp_spaces.spaces.port import Runtimes, Spaces
from mcp_spaces.spaces.store import SpaceStore
from tests.network.lab import pair
from tests.security.app import World, open_world

AFTERNOON = Clock(now=lambda: 1_800_000_000.0)
"""A day that does not end while it is being counted."""

pytestmark = pytest.mark.anyio

NO_VAULT = VaultGrant()
LIST = {"network": {"mode": "allowlist", "allow": ["a.com", "*.b.com"]}}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


def accesses(world: World, *, owner: NetworkGrant | None = None, vault: VaultGrant = NO_VAULT) -> LiveAccesses:
    def policy(choice: PolicyChoice) -> Policy:
        return world.use(SpaceStore).policy(choice)

    everything = NetworkGrant(mode=NetworkMode.OPEN)
    return LiveAccesses(
        spaces=world.use(Spaces),
        runtimes=world.use(Runtimes),
        policy=policy,
        owner_scope=lambda _: Scope(network=owner or everything, vault=vault),
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
    access = accesses(world).access(runtime)
    assert access.grant.allow == ("x.b.com:443",)
    assert access.space.allow == ("*.b.com", "a.com"), "what it might be launched anew with"


async def test_a_space_without_network_has_its_own_sandboxes_and_a_runtime_with_none_in_one_that_has_has_not(
    world: World,
) -> None:
    """It would get from what runs beside it what it was launched without."""
    runtime = await launched(world, {})
    assert accesses(world).access(runtime) == Access(neighbours=True)
    await world.govern("space.update", space="net", patch={"mounts": LIST})
    assert accesses(world).access(runtime) == NO_ACCESS
    narrowed = await world.govern("sandbox.launch", space="net", alias="less", scope={"network": {"mode": "none"}})
    assert accesses(world).access(RuntimeRef(narrowed.id, runtime.space_id, "less")) == NO_ACCESS
    await world.govern("sandbox.delete", space="net", runtime="less")
    again = await world.govern("sandbox.launch", space="net", alias="again")
    assert accesses(world).access(RuntimeRef(again.id, runtime.space_id, "again")).neighbours


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
    assert accesses(world).access(unknown) == NO_ACCESS
    await world.govern("space.down", space="net")
    assert accesses(world).access(runtime) == NO_ACCESS


@pytest.mark.parametrize("table", ["spaces", "runtimes"])
async def test_n13_a_damaged_row_denies_everything(world: World, table: str) -> None:
    runtime = await launched(world)

    await world.database.write(lambda tx: tx.execute(f"UPDATE {table} SET mac = x'00'"))
    access = accesses(world).access(runtime)
    assert access == Access(because="policy")
    assert accesses(world).secrets(runtime) == NO_SECRETS


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
    assert live.secrets(runtime) == NO_SECRETS


async def test_secrets_are_what_space_runtime_and_owner_all_permit_and_nothing_once_it_stops(world: World) -> None:
    mounts = {
        "vault": {"allow": ["prod", "test"], "deny": ["prod/admin"]},
        "network": {"mode": "allowlist", "allow": ["a.com"], "own_authority": True},
    }
    runtime = await launched(world, mounts, scope={"vault": {"allow": ["prod"], "deny": ["prod/admin"]}})
    live = accesses(world, vault=VaultGrant(allow=("prod/crm", "prod/admin", "test")))
    access = live.secrets(runtime)
    assert [path for path in ("prod/crm", "prod/admin", "prod/x", "test/x") if access.grant.permits(path)] == [
        "prod/crm"
    ]
    assert (access.own_authority, access.space_name) == (True, "net")
    assert live.secrets(RuntimeRef(runtime.id, "sp_other", "main")) == NO_SECRETS
    await world.govern("space.down", space="net")
    assert live.secrets(runtime) == NO_SECRETS


async def test_no_page_in_a_browser_uses_a_secret_by_its_requests(world: World) -> None:
    runtime = await launched(world, {"vault": {"allow": ["prod"]}})
    live = accesses(world, vault=VaultGrant(allow=("prod",)))
    assert live.secrets(runtime).grant.permits("prod/api")
    await world.use(Runtimes).change(runtime.id, lambda row: row.model_copy(update={"kind": RuntimeKind.BROWSER}))
    assert live.secrets(runtime) == NO_SECRETS


async def test_an_authority_cannot_be_asked_for_by_a_runtime(world: World) -> None:
    asked = {"network": {"mode": "allowlist", "allow": ["a.com"], "own_authority": True}}
    with pytest.raises(InvalidInput, match="own_authority"):
        await launched(world, scope=asked)


async def test_n15_a_restart_goes_on_counting_the_day(tmp_path: Path) -> None:
    async def ask(world: World, runtime: RuntimeRef) -> bytes:
        ours, theirs = await pair()
        world.use(Gateway).accept(runtime, theirs)
        await ours.send(b"GET http://elsewhere.com/ HTTP/1.1\r\nHost: elsewhere.com\r\n\r\n")
        with anyio.fail_after(20):
            answer = await ours.receive()
        ours.close()
        return answer

    async with open_world(tmp_path, clock=AFTERNOON, network_requests_per_day=3) as world:
        runtime = await launched(world)
        assert [b"not_listed" in await ask(world, runtime) for _ in range(2)] == [True, True]
    async with open_world(tmp_path, clock=AFTERNOON, network_requests_per_day=3) as world:
        again = await world.govern("sandbox.launch", space="net", alias=runtime.alias)
        runtime = RuntimeRef(again.id, runtime.space_id, runtime.alias)
        assert b"not_listed" in await ask(world, runtime)
        assert b"over_budget" in await ask(world, runtime)
