"""Spaces: create, look, change by merge patch, extend, up, down, delete; names, limits and what nobody granted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from mcp_spaces.core.active import ActiveCalls
from mcp_spaces.core.changes import Change, Changes
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.ids import new_id
from mcp_spaces.core.journal import Run
from mcp_spaces.core.limits import GIB
from mcp_spaces.errors import Ambiguous, Denied, ExceedsCeiling, InvalidInput, NotFound, QuotaExceeded, WrongState
from mcp_spaces.identity.model import AGENT_LIMITS
from mcp_spaces.spaces.model import PolicyChoice
from mcp_spaces.spaces.port import Runtimes
from mcp_spaces.spaces.store import POLICIES_MOST, SpaceStore
from tests.security.app import LITTLE, World, eventually, open_world
from tests.security.prepared import prepared
from tests.turns import cancelled_at, cancelled_everywhere, some_turns

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def test_a_new_space_runs_owns_its_files_and_reaches_nothing_else(world: World) -> None:
    made = await world.call("space.create", name="work", labels={"ticket": "42"}, region="here")
    assert (made.state, made.role, made.region, made.labels) == ("running", "owner", "here", {"ticket": "42"})
    assert made.mounts.storage == {"own": "rw"} and made.mounts.network == {"mode": "none"}
    assert made.policy.preset == "standard" and made.expires_at is None
    assert await world.call("space.get", space=made.id) == await world.call("space.state", space="work") == made


async def test_a_space_is_named_by_id_by_its_name_or_as_the_only_one(world: World) -> None:
    with pytest.raises(NotFound, match="no space yet") as none:
        await world.call("space.get")
    assert "space_create" in none.value.hint
    first = await world.space("work")
    assert (await world.call("space.get")).id == first
    for named in ("work", first):
        assert (await world.call("space.get", space=named)).id == first
    second = await world.space("work")
    with pytest.raises(Ambiguous) as several:
        await world.call("space.get", space="work")
    assert first in several.value.hint and second in several.value.hint
    assert several.value.message == "'work' fits several spaces."
    with pytest.raises(Ambiguous, match="No space was named, and there are several"):
        await world.call("space.get")
    named_default = await world.space("default")
    assert (await world.call("space.get")).id == named_default
    assert (await world.call("space.get", space=second)).id == second


async def test_a_list_is_paged_and_misses_nothing(world: World) -> None:
    ids = {await world.space(f"work-{number}") for number in range(7)}
    found: list[str] = []
    cursor = ""
    for _ in range(4):
        page = await world.call("space.list", limit=2, cursor=cursor)
        found += [row.id for row in page.spaces]
        cursor = page.next_cursor or ""
    assert not cursor and len(found) == 7 and set(found) == ids


async def test_a_patch_changes_what_it_names_clears_what_is_null_and_leaves_the_rest(world: World) -> None:
    space = await world.space("work", labels={"a": "1", "b": "2"}, limits={"memory_bytes": 1 << 30}, region="here")
    changed = await world.call(
        "space.update", space=space, patch={"name": "renamed", "labels": {"a": None, "c": "3"}, "region": None}
    )
    assert (changed.name, changed.labels, changed.region) == ("renamed", {"b": "2", "c": "3"}, None)
    assert changed.limits["memory_bytes"].limit == 1 << 30
    cleared = await world.call("space.update", space=space, patch={"limits": None, "labels": None})
    assert cleared.limits["memory_bytes"].limit > 1 << 30 and not cleared.labels
    with pytest.raises(InvalidInput, match=r"patch\.owner_id is unknown\."):
        await world.call("space.update", space=space, patch={"owner_id": "me"})
    with pytest.raises(InvalidInput, match=r"policy\.preset"):
        await world.call("space.update", space=space, patch={"policy": {"preset": "none"}})
    assert (await world.call("space.get", space=space)).name == "renamed"


async def test_what_is_unknown_in_a_patch_or_policy_is_said_to_be_unknown(world: World) -> None:
    space = await world.space("work")
    with pytest.raises(InvalidInput, match=r"patch\.polcy is unknown\."):
        await world.call("space.update", space=space, patch={"polcy": {}})
    with pytest.raises(InvalidInput, match=r"Policy key shell\.git_pushh is unknown\."):
        await world.call("space.update", space=space, patch={"policy": {"overrides": {"shell": {"git_pushh": "ask"}}}})


async def test_a_rule_for_an_operation_that_does_not_exist_is_refused(world: World) -> None:
    def ruled(operation: str) -> dict[str, Any]:
        return {"overrides": {"operations": {operation: "deny"}}}

    with pytest.raises(InvalidInput, match=r"operations\.storage\.delet is unknown"):
        await world.call("space.create", name="work", policy=ruled("storage.delet"))
    space = await world.space("work", policy=ruled("storage.delete"))
    with pytest.raises(InvalidInput, match=r"operations\.vault\.totpp is unknown"):
        await world.call("space.update", space=space, patch={"policy": ruled("vault.totpp")})
    # The gateway asks by this name; it is no operation that anybody calls.
    await world.call("space.update", space=space, patch={"policy": ruled("network.use_secret")})


async def test_an_authority_of_a_spaces_own_is_among_its_mounts_where_it_has_one(world: World) -> None:
    await world.govern("principal.grant", principal="local-agent", scope={"network": {"mode": "open"}})
    network = {"mode": "allowlist", "allow": ["a.com"]}
    space = await world.space("work", mounts={"network": network})
    assert dict((await world.call("space.get", space=space)).mounts.network) == {
        "mode": "allowlist",
        "allow": ("a.com",),
    }
    patch = {"mounts": {"network": {"own_authority": True}}}
    assert (await world.call("space.update", space=space, patch=patch)).mounts.network["own_authority"] is True
    assert (await world.call("context.get", space=space)).space.mounts.network["own_authority"] is True


async def test_an_overridden_policy_is_at_work_at_once(world: World) -> None:
    at = await prepared(world, "work")
    await world.call("space.update", space=at.space, patch={"policy": {"overrides": {"shell": {"mode": "none"}}}})
    explained = await world.call("policy.explain", space=at.space, command="ls")
    assert (explained.decision, explained.rule) == ("deny", "shell.mode")
    await world.call("space.update", space=at.space, patch={"policy": {"overrides": None}})
    assert (await world.call("sandbox.shell", space=at.space, command="echo on")).stdout == "on\n"


async def test_a_sandbox_that_starts_again_has_what_its_space_got_since_but_for_what_its_launch_named(
    world: World,
) -> None:
    space = await world.space("work")
    await world.launched(space, alias="main", scope={"limits": {"memory_bytes": GIB // 2}})
    await world.launched(space, alias="offline", scope={"network": {"mode": "none"}})
    given = {"vault": {"allow": ["dev"]}, "network": {"mode": "allowlist", "allow": ["pypi.org"]}}
    await world.govern("principal.grant", principal="local-agent", scope=given)
    await world.govern("space.update", space=space, patch={"mounts": given})
    note = "Launched before the space got all it has: main, offline."
    assert [one for one in (await world.call("context.get", space=space)).rules if one.startswith(note)]
    for alias in ("main", "offline"):
        await world.call("sandbox.stop", space=space, runtime=alias)
        await world.launched(space, alias=alias)
    assert not [one for one in (await world.call("context.get", space=space)).rules if "Launched before" in one]
    ceilings = {one.alias: one.ceiling for one in world.use(Runtimes).of_space(space)}
    assert [ceilings[alias].vault.allow for alias in ("main", "offline")] == [("dev",)] * 2
    assert (ceilings["main"].network.allow, ceilings["main"].limits.memory_bytes) == (("pypi.org",), GIB // 2)
    assert ceilings["offline"].network.mode == "none"


async def test_where_all_sandboxes_are_stopped_the_context_names_the_one_that_ran_last(world: World) -> None:
    async def instead() -> set[str]:
        refused = (await world.call("context.get", space="work")).refused
        return {one.instead for one in refused for operation in one.ids if operation == "sandbox.shell"}

    space = await world.space("work")
    assert await instead() == {"sandbox_launch space=work"}
    for alias in ("first", "second"):
        await world.launched(space, alias=alias)
    await world.call("sandbox.stop", space=space, runtime="first")
    assert await instead() == set()
    await world.call("sandbox.stop", space=space, runtime="second")
    assert await instead() == {"sandbox_launch space=work alias=second"}


async def test_who_names_none_of_several_sandboxes_is_told_which_there_are_and_which_run(world: World) -> None:
    space = await world.space("work")
    for alias in ("one", "two"):
        await world.launched(space, alias=alias)
    await world.call("sandbox.stop", space=space, runtime="two")
    with pytest.raises(Ambiguous, match="several sandboxes") as several:
        await world.call("sandbox.get", space=space)
    assert several.value.hint == "Name one as `runtime`: one, two (stopped)"


async def test_a_sandbox_that_starts_again_loses_what_its_space_holds_no_more(world: World) -> None:
    given = {"network": {"mode": "allowlist", "allow": ["pypi.org", "a.com"]}}
    await world.govern("principal.grant", principal="local-agent", scope=given)
    space = await world.space("work", mounts=given)
    await world.launched(space, alias="main", scope=given)
    await world.call("space.update", space=space, patch={"mounts": {"network": {"allow": ["a.com"]}}})
    await world.call("sandbox.stop", space=space, runtime="main")
    await world.launched(space, alias="main")
    await world.call("space.update", space=space, patch={"mounts": given})
    await world.call("sandbox.stop", space=space, runtime="main")
    await world.launched(space, alias="main")
    (runtime,) = world.use(Runtimes).of_space(space)
    assert runtime.ceiling.network.allow == ("a.com",)


async def test_policies_that_agents_made_up_are_not_kept_for_ever(world: World) -> None:
    store = world.use(SpaceStore)
    for seconds in range(1, POLICIES_MOST + 10):
        choice = PolicyChoice(overrides={"shell": {"timeout_s": seconds}})
        assert store.policy(choice) is store.policy(choice)
    assert len(store._policies) <= POLICIES_MOST


async def test_down_frees_sandboxes_and_up_lets_them_start_with_their_files(world: World) -> None:
    at = await prepared(world, "work")
    assert (await world.call("space.down", space=at.space)).state == "stopped"
    assert (await world.call("space.down", space=at.space)).state == "stopped"
    with pytest.raises(WrongState, match="stopped"):
        await world.call("sandbox.launch", space=at.space, alias="main")
    assert (await world.call("storage.read", space=at.space, path="inputs/sales.csv")).content == "a,b\n1,2\n"
    assert (await world.call("space.up", space=at.space)).state == "running"
    await world.call("sandbox.launch", space=at.space, alias="main")
    assert (await world.call("sandbox.read_file", space=at.space, path="src/main.py")).content == "print(1)\n"


async def test_delete_asks_for_force_while_a_sandbox_runs_and_leaves_only_records(world: World) -> None:
    at = await prepared(world, "work")
    with pytest.raises(WrongState, match="main") as refused:
        await world.call("space.delete", space=at.space)
    assert "force" in refused.value.hint
    await world.call("space.delete", space=at.space, force=True)
    for table in ("spaces", "runtimes", "files", "artifacts", "approvals"):
        assert world.count(f"SELECT count(*) FROM {table}") == 0, table
    assert list((world.folder / "workspaces").iterdir()) == []
    assert list((world.folder / "state" / "blobs").glob("[!.]*/*/*")) == []
    assert world.count("SELECT count(*) FROM runs WHERE space_id = ?", at.space) > 5
    with pytest.raises(NotFound):
        await world.call("space.get", space=at.space)


async def test_t09_a_sandbox_that_is_larger_than_a_lowered_limit_ends(world: World) -> None:
    space = await world.space("work", limits={"memory_bytes": 1 << 30})
    await world.launched(space, alias="large", scope={"limits": {**LITTLE, "memory_bytes": 512 << 20}})
    await world.launched(space, alias="small", scope={"limits": LITTLE})
    await world.call("space.update", space=space, patch={"limits": {"memory_bytes": 256 << 20}})
    found = {one.alias: (one.state, one.reason) for one in (await world.call("sandbox.list", space=space)).sandboxes}
    assert found["large"] == ("stopped", "the space's ceiling was lowered")
    assert found["small"][0] == "active"


async def test_t09_a_sandbox_that_is_too_large_ends_also_where_nobody_waits_for_the_change(world: World) -> None:
    """Nor for the calls that it ends, which take their time."""
    lower = {"limits": {"memory_bytes": 256 << 20}}

    async def attempt(suspension: int) -> bool:
        space = await world.space(f"work-{suspension}", limits={"memory_bytes": 1 << 30})
        await world.launched(space, scope={"limits": {**LITTLE, "memory_bytes": 512 << 20}})
        run, begun = Run(new_id("run"), "sandbox.shell", "", None, 0.0, space), anyio.Event()

        async def work() -> None:
            with world.use(ActiveCalls).entered(run, world.agent, Effect.EXECUTES) as call:
                with call.cancel_scope:
                    begun.set()
                    await anyio.sleep_forever()
                await some_turns()

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await begun.wait()
            more = await cancelled_at(suspension, world.call("space.update", space=space, patch=lower))
            group.cancel_scope.cancel()
        now = (await world.call("space.get", space=space)).limits["memory_bytes"].limit
        (sandbox,) = (await world.call("sandbox.list", space=space)).sandboxes
        assert (sandbox.state == "stopped") is (now == 256 << 20)
        return more

    await cancelled_everywhere(attempt)


async def test_a_sandbox_takes_its_share_of_the_spaces_limits_and_gives_it_back(world: World) -> None:
    space = await world.space("work", limits={"memory_bytes": 256 << 20, "runtimes": 2})
    await world.launched(space, alias="one", scope={"limits": LITTLE})
    await world.launched(space, alias="two", scope={"limits": LITTLE})
    with pytest.raises(QuotaExceeded, match="402,653,184 of 268,435,456") as refused:
        await world.launched(space, alias="three", scope={"limits": LITTLE})
    assert "Stop or delete" in refused.value.hint
    used = (await world.call("space.get", space=space)).limits
    assert (used["memory_bytes"].used, used["runtimes"].used) == (256 << 20, 2)
    await world.call("sandbox.stop", space=space, runtime="one")
    await world.launched(space, alias="three", scope={"limits": LITTLE})


async def test_who_lacks_disk_is_not_told_to_stop_what_keeps_its_disk(world: World) -> None:
    space = await world.space("work", limits={"disk_bytes": LITTLE["disk_bytes"]})
    await world.launched(space, alias="one", scope={"limits": LITTLE})
    await world.call("sandbox.stop", space=space, runtime="one")
    with pytest.raises(QuotaExceeded, match="disk_bytes") as refused:
        await world.launched(space, alias="two", scope={"limits": LITTLE})
    assert refused.value.hint.startswith("Delete a runtime")


async def test_storage_that_a_space_got_later_is_told_apart_from_what_its_runtimes_have(world: World) -> None:
    space = await world.space("work", limits={"storage_bytes": 5, "runtimes": 2})
    place: dict[str, Any] = {"space": space, "runtime": await world.launched(space, scope={"limits": LITTLE})}
    await world.call("sandbox.write_file", **place, path="a", content="seven..")
    browser = (await world.call("browser.launch", space=space)).id

    async def refused() -> list[str]:
        calls: dict[str, dict[str, Any]] = {
            "storage.collect": {**place, "path": "a", "to": "a"},
            "browser.screenshot": {"space": space, "runtime": browser, "to": "b"},
        }
        told = []
        for operation, more in calls.items():
            with pytest.raises(QuotaExceeded) as caught:
                await world.call(operation, **more)
            told.append(caught.value.hint)
        return told

    assert not any("launch" in hint for hint in await refused())
    await world.call("space.update", space=space, patch={"limits": {"storage_bytes": 7}})
    hints = await refused()
    assert all("was launched with 5 bytes of storage, its space has 7" in hint for hint in hints)
    await world.call("sandbox.stop", **place)
    await world.launched(space, alias="main", scope={"limits": {"storage_bytes": 7}})
    assert (await world.call("storage.collect", **place, path="a", to="a")).size_bytes == 7


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("storage.shared", {"mounts": {"storage": {"namespace": "shared", "mode": "ro"}}}),
        ("network.mode", {"mounts": {"network": {"mode": "open"}}}),
        ("network.mode", {"mounts": {"network": {"mode": "allowlist", "allow": ["example.com"]}}}),
        ("vault.allow.prod", {"mounts": {"vault": {"allow": ["prod"]}}}),
        ("ai.allow.openai", {"mounts": {"ai": {"allow": ["openai"]}}}),
        ("proxy.corporate", {"mounts": {"proxy": ["corporate"]}}),
        ("limits.memory_bytes", {"limits": {"memory_bytes": 1 << 50}}),
        ("limits.cpu_cores", {"limits": {"cpu_cores": 1000}}),
        ("policy.", {"policy": {"preset": "permissive"}}),
    ],
)
async def test_an_agent_mounts_nothing_that_it_was_not_granted(world: World, key: str, wanted: dict[str, Any]) -> None:
    with pytest.raises(ExceedsCeiling) as refused:
        await world.call("space.create", name="work", **wanted)
    assert refused.value.key.startswith(key)
    assert ("mcp-spaces space update" if key == "policy." else "principal grant local-agent") in refused.value.hint
    assert world.count("SELECT count(*) FROM spaces") == 0


@pytest.mark.parametrize("operation", ["sandbox.launch", "browser.launch"])
async def test_an_agent_whose_space_is_too_small_for_a_launch_hears_that_it_can_widen_it(
    world: World, operation: str
) -> None:
    space = await world.space("work", limits={"call_seconds": 60})
    wanted: dict[str, Any] = {"space": space, "alias": "one", "scope": {"limits": {"call_seconds": 61}}}
    with pytest.raises(ExceedsCeiling) as refused:
        await world.call(operation, **wanted)
    assert "its owner (space_update)" in refused.value.hint
    await world.call("space.update", space=space, patch={"limits": {"call_seconds": 61}})
    await world.call(operation, **wanted)


async def test_what_the_operator_granted_can_be_mounted_and_what_was_taken_back_is_out_of_reach(world: World) -> None:
    own = {"namespace": "own", "mode": "rw"}
    grant = {"storage": [own, {"namespace": "shared", "mode": "rw"}]}
    await world.govern("principal.grant", principal="local-agent", scope=grant)
    space = await world.space("work", mounts={"storage": {"namespace": "shared", "mode": "rw"}})
    await world.call("storage.upload", space=space, namespace="shared", path="a", content="x")
    await world.govern("principal.grant", principal="local-agent", scope={"storage": [own]})
    with pytest.raises(NotFound):
        await world.call("storage.read", space=space, namespace="shared", path="a")


async def test_a_principal_owns_no_more_spaces_than_it_may(world: World) -> None:
    for number in range(AGENT_LIMITS.spaces):
        await world.space(f"work-{number}")
    with pytest.raises(QuotaExceeded) as refused:
        await world.space("one-more")
    assert "space_delete" in refused.value.hint
    await world.call("space.delete", space="work-0")
    await world.space("one-more")


async def test_a_key_that_is_bound_to_its_spaces_makes_no_more(world: World) -> None:
    space = await world.space("work")
    key = await world.key(spaces=[space])
    with pytest.raises(Denied, match="bound") as refused:
        await world.space("another", caller=key)
    assert refused.value.rule == "key.spaces"


async def test_lists_of_spaces_change_when_one_comes_goes_or_is_renamed_and_only_its_owner_hears(world: World) -> None:
    heard: list[Change] = []

    async def listen(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with world.use(Changes).subscribe() as changes:
            task_status.started()
            async for change in changes:
                heard.append(change)

    async with anyio.create_task_group() as tasks:
        await tasks.start(listen)
        space = await world.space("work")
        await world.launched(space)
        await world.call("space.update", space=space, patch={"labels": {"a": "b"}})
        await world.call("space.down", space=space)
        await world.call("space.update", space=space, patch={"name": "play"})
        await world.call("space.delete", space=space, force=True)
        await eventually(lambda: len([one for one in heard if one.kind == "resources"]) >= 3)
        tasks.cancel_scope.cancel()
    owner = world.agent.principal_id
    assert [one for one in heard if one.kind == "resources"] == [Change("resources", space, owner)] * 3
    assert {one.principal_id for one in heard} == {owner}
    # A runtime's coming and going is news of the context alone.
    assert len([one for one in heard if one.kind == "context"]) > 4
