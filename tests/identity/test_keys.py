"""Principals, keys, and the callers that come out of them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.core.ids import Clock
from mcp_spaces.core.scope import EVERYTHING
from mcp_spaces.errors import Ambiguous, Conflict, Denied, InvalidInput, NotFound, Unauthenticated
from mcp_spaces.identity.model import AGENT_SCOPE, TOKEN, new_token, parse_token, secret_matches
from mcp_spaces.identity.store import KEYS_LISTED, Identity
from mcp_spaces.state.sealed import seal
from mcp_spaces.state.transaction import Transaction
from tests.security.app import World, open_world

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


def test_a_token_names_its_key_and_hides_its_secret() -> None:
    fresh = new_token()
    assert TOKEN.fullmatch(fresh.token)
    parsed = parse_token(fresh.token)
    assert parsed is not None and parsed[0] == fresh.key_id
    assert parsed[1] not in fresh.secret_sha256 and re.fullmatch("[0-9a-f]{64}", fresh.secret_sha256)
    assert len({new_token().token for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "token", ["", "msp_", "msp_a_b", "Bearer x", "msp_" + "a" * 26 + "_" + "b" * 44, "msp\0", "é" * 50]
)
def test_what_is_no_token_is_nobody(token: str) -> None:
    assert parse_token(token) is None
    assert not secret_matches("", None)


async def test_of_very_many_keys_the_newest_are_listed(world: World) -> None:
    """One that has just leaked is among them."""
    await world.govern("key.create", label="first")
    (first,) = world.use(Identity).all_keys()

    def many(tx: Transaction) -> None:
        for number in range(KEYS_LISTED - 1):
            key = first.model_copy(update={"id": f"key_{number}"})
            body, mac = seal(world.database.sealer, "keys", key.id, key)
            tx.execute(
                "INSERT INTO keys (id, principal_id, body, mac) VALUES (?, ?, ?, ?)",
                (key.id, key.principal_id, body, mac),
            )

    await world.database.write(many)
    await world.govern("key.create", label="last")
    listed = (await world.govern("key.list")).keys
    assert (len(listed), listed[-1].label) == (KEYS_LISTED, "last")
    assert first.id not in {one.id for one in listed}


async def test_whoever_shows_no_token_or_another_s_is_told_one_and_the_same(world: World) -> None:
    made = await world.govern("key.create", label="one")
    parsed = parse_token(made.token)
    assert parsed is not None
    told = set()
    for token in ("", "Bearer x", new_token().token, made.token[:-1] + ("A" if made.token[-1] != "A" else "B")):
        with pytest.raises(Unauthenticated) as refused:
            await world.app.authenticate(token)
        told.add((refused.value.message, refused.value.hint))
    ((_, hint),) = told
    assert "`Authorization: Bearer msp_…`" in hint and "MCP_SPACES_KEY over stdio" in hint
    agent = await world.app.authenticate(made.token)
    assert await world.app.still_valid(agent) and await world.app.still_valid(world.agent)
    assert not await world.app.still_valid(replace(agent, key_id="key_" + "a" * 26))


async def test_a_fresh_instance_has_an_operator_and_an_agent_that_may_make_spaces_and_mount_nothing(
    world: World,
) -> None:
    assert world.operator.operator and world.operator.scope == EVERYTHING
    assert not world.agent.operator and world.agent.scope == AGENT_SCOPE
    assert set(AGENT_SCOPE.storage) == {"own"} and AGENT_SCOPE.network.mode == "none" and not AGENT_SCOPE.proxy
    assert not AGENT_SCOPE.vault.allow and not AGENT_SCOPE.ai.allow
    names = [one.name for one in (await world.govern("principal.list")).principals]
    assert names == ["local-agent", "operator"]


async def test_a_grant_of_a_narrower_policy_names_the_spaces_that_stay_wider(world: World) -> None:
    await world.govern("principal.grant", principal="local-agent", policy="permissive")
    wide = await world.space("wide", policy={"preset": "permissive"})
    slow = await world.space("slow", policy={"preset": "standard", "overrides": {"shell": {"timeout_s": 200}}})
    await world.space("usual", policy={"preset": "standard"})
    unsaid = await world.govern("principal.grant", principal="local-agent", scope={"limits": {"pids": 600}})
    assert unsaid.wider_spaces is None and unsaid.hint is None
    granted = await world.govern("principal.grant", principal="local-agent", policy="standard")
    assert granted.policy == "standard"
    assert {one.id: one.preset for one in granted.wider_spaces} == {wide: "permissive", slow: "standard"}
    assert next(one.wider for one in granted.wider_spaces if one.id == slow) == ["shell.timeout_s"]
    # What the hint says can be done as it is said.
    command = re.fullmatch(r"These keep .*: mcp-spaces space update (\S+) --patch '(.*)'", granted.hint)
    assert command is not None
    await world.govern("space.update", space=command[1], patch=json.loads(command[2]))
    again = await world.govern("principal.grant", principal="local-agent", policy="standard")
    assert {one.id for one in again.wider_spaces} == {wide, slow} - {command[1]}


async def test_a_key_is_shown_once_and_is_in_no_record(world: World) -> None:
    made = await world.govern("key.create", label="ci")
    listed = await world.govern("key.list")
    assert [key.id for key in listed.keys] == [made.id]
    assert made.token not in listed.model_dump_json()
    rows = world.database.read("SELECT input, outcome FROM runs")
    assert made.token not in str([tuple(row) for row in rows])
    assert (await world.app.authenticate(made.token)).key_id == made.id


async def test_a_key_is_narrower_than_its_principal_and_never_wider(world: World) -> None:
    space, other = await world.space("work"), await world.space("other")
    key = await world.key(spaces=[space], operations=["space.*", "storage.read", "key.*"])
    assert [row.id for row in (await world.call("space.list", caller=key)).spaces] == [space]
    with pytest.raises(NotFound):
        await world.call("space.get", caller=key, space=other)
    with pytest.raises(Denied) as outside:
        await world.call("storage.upload", caller=key, space=space, path="a", content="x")
    assert "mcp-spaces key create" in outside.value.hint and "principal grant" not in outside.value.hint
    with pytest.raises(NotFound):
        await world.call("key.list", caller=key)


async def test_what_is_taken_from_a_principal_is_taken_from_its_keys(world: World) -> None:
    space = await world.space("work")
    key = await world.key(operations=["storage.*", "space.get"])
    await world.call("storage.upload", caller=key, space=space, path="a", content="x")
    await world.govern("principal.grant", principal="local-agent", scope={"operations": ["space.*"]})
    with pytest.raises(Denied):
        await world.call("storage.read", caller=world.app.current(key), space=space, path="a")
    await world.call("space.get", caller=world.app.current(key), space=space)


async def test_a_revoked_key_is_nobody_and_revoking_it_again_changes_nothing(world: World) -> None:
    made = await world.govern("key.create", label="one")
    key = await world.app.authenticate(made.token)
    first = await world.govern("key.revoke", key=made.id)
    assert await world.govern("key.revoke", key=made.id) == first
    assert not await world.app.still_valid(key)
    with pytest.raises(Unauthenticated):
        await world.app.authenticate(made.token)
    with pytest.raises(Unauthenticated):
        world.app.current(key)
    with pytest.raises(NotFound):
        await world.govern("key.revoke", key="key_" + "a" * 26)


async def test_a_key_ends_when_its_time_is_over_also_after_a_restart(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    clock = Clock(now=lambda: now[0])
    async with open_world(tmp_path, clock=clock) as world:
        made = await world.govern("key.create", label="short", expires_in_s=60)
        assert (await world.app.authenticate(made.token)).expires_at == now[0] + 60
    now[0] += 61
    async with open_world(tmp_path, clock=clock) as again:
        with pytest.raises(Unauthenticated):
            await again.app.authenticate(made.token)


async def test_the_list_of_keys_names_their_principals_and_says_which_are_valid(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    async with open_world(tmp_path, clock=Clock(now=lambda: now[0])) as world:
        await world.govern("principal.add", name="ci")
        await world.govern("key.create", label="short", principal="ci", expires_in_s=60)
        gone = await world.govern("key.create", label="gone")
        await world.govern("key.create", label="for ever", expires_in_s=None)
        await world.govern("key.revoke", key=gone.id)
        now[0] += 60
        listed = (await world.govern("key.list")).keys
    assert {one.label: (one.principal, one.state) for one in listed} == {
        "short": ("ci", "expired"),
        "gone": ("local-agent", "revoked"),
        "for ever": ("local-agent", "valid"),
    }


async def test_an_operation_that_does_not_exist_binds_no_key_and_is_granted_to_nobody(world: World) -> None:
    for wrong in ("sandbox.shel", "sandboxes.*"):
        with pytest.raises(InvalidInput, match=wrong):
            await world.govern("key.create", label="ci", operations=["run.get", wrong])
        with pytest.raises(InvalidInput, match=wrong):
            await world.govern("principal.grant", principal="local-agent", scope={"operations": ["run.get", wrong]})
    assert not (await world.govern("key.list")).keys


async def test_an_operators_key_is_made_by_the_operator_and_is_not_bound(world: World) -> None:
    with pytest.raises(InvalidInput):
        await world.govern("key.create", label="x", operator=True, spaces=["sp_" + "a" * 26])
    key = await world.key(operator=True)
    assert key.operator and key.name == "operator" and key.scope == EVERYTHING
    assert (await world.call("key.list", caller=key)).keys


async def test_a_key_names_its_spaces_by_id_or_by_a_name_that_is_there_and_unique(world: World) -> None:
    work = await world.space("work")
    await world.space("twice")
    await world.govern("space.create", name="twice")
    key = await world.key(spaces=["work", work])
    assert key.spaces == frozenset({work})
    with pytest.raises(NotFound):
        await world.key(spaces=["wrok"])
    with pytest.raises(Ambiguous):
        await world.key(spaces=["twice"])


async def test_what_a_principal_is_granted_later_reaches_its_keys(world: World) -> None:
    key = await world.key(operations=["space.*"])
    await world.govern("principal.grant", principal="local-agent", scope={"storage": [{"namespace": "shared"}]})
    assert "shared" in world.app.current(key).scope.storage
    assert not world.app.current(key).scope.permits_operation("vault.get")


async def test_a_grant_changes_the_parts_that_it_names(world: World) -> None:
    granted = await world.govern(
        "principal.grant", principal="local-agent", scope={"limits": {"memory_bytes": 1 << 30}}, policy="restrictive"
    )
    assert granted.scope.limits.memory_bytes == 1 << 30
    assert granted.scope.limits.cpu_cores == AGENT_SCOPE.limits.cpu_cores and granted.policy == "restrictive"
    with pytest.raises(NotFound):
        await world.govern("principal.grant", principal="nobody")
    await world.govern("principal.add", name="ci")
    with pytest.raises(Conflict):
        await world.govern("principal.add", name="ci")
    assert (await world.key(principal="ci")).name == "ci"


async def test_t09_what_one_grant_takes_away_is_not_given_back_by_others_at_the_same_time(world: World) -> None:
    for pids in range(100, 105):
        await world.govern("principal.grant", principal="local-agent", scope={"vault": {"allow": ["prod"]}})
        limits = {"cpu_cores": 1, "memory_bytes": 1 << 30, "disk_bytes": 1 << 30, "pids": pids, "runtimes": 2}
        wanted: list[dict[str, Any]] = [{"limits": {name: value}} for name, value in limits.items()]
        async with anyio.create_task_group() as grants:
            for scope in (*wanted[:2], {"vault": {"allow": []}}, *wanted[2:]):
                grants.start_soon(partial(world.govern, "principal.grant", principal="local-agent", scope=scope))
        assert world.agent.scope.vault.allow == ()
        assert {name: getattr(world.agent.scope.limits, name) for name in limits} == limits
