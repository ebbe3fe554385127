"""What takes a permission away is told to whoever keeps something open by it (N13, L22)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from mcp_spaces.core.changes import Change, Changes
from mcp_spaces.errors import ApprovalNeeded, Cancelled
from mcp_spaces.identity.store import Identity
from mcp_spaces.spaces.model import RuntimeState, Space, SpaceState
from mcp_spaces.spaces.port import Runtimes
from mcp_spaces.spaces.store import SpaceStore
from tests.security.app import PATIENCE_S, World, eventually, open_world
from tests.security.prepared import prepared
from tests.turns import cancelled_at, cancelled_everywhere, some_turns

pytestmark = pytest.mark.anyio

TURNS_MAX = 100_000


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


@pytest.fixture
async def heard(world: World) -> AsyncIterator[list[Change]]:
    """What was announced, from the beginning on."""
    heard: list[Change] = []

    async def listen(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with world.use(Changes).subscribe() as changes:
            task_status.started()
            async for change in changes:
                heard.append(change)

    async with anyio.create_task_group() as tasks:
        await tasks.start(listen)
        yield heard
        tasks.cancel_scope.cancel()


async def test_l22_whatever_a_person_does_to_a_secret_is_announced(world: World, heard: list[Change]) -> None:
    async def announced(operation: str, **arguments: object) -> None:
        del heard[:]
        await world.govern(operation, **arguments)
        await eventually(lambda: heard == [Change("secrets")])

    await announced("vault.set", path="prod/api", kind="api_key", token="tok-123456789")
    await announced("vault.update", path="prod/api", label="new")
    await announced("vault.restore", path="prod/api", version=1)
    await announced("vault.delete", path="prod/api")


async def given_up(call: Callable[[], Awaitable[object]], *, once: Callable[[], bool]) -> None:
    """Its caller goes away as soon as what it does is on the disk, and mostly before the call hears of that."""

    async def made() -> None:
        with suppress(Cancelled):
            await call()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made)
        for _ in range(TURNS_MAX):
            if once():
                break
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def test_n13_a_space_that_was_changed_is_announced_although_its_caller_gave_up(
    world: World, heard: list[Change]
) -> None:
    space, spaces = await world.space("work"), world.use(SpaceStore)
    for labels in ({"turn": "one"}, {"turn": "two"}, {"turn": "three"}):
        del heard[:]

        def changed(wanted: dict[str, str] = labels) -> bool:
            found = spaces.get(space)
            return found is not None and found.requested.labels == wanted

        def update(wanted: dict[str, str] = labels) -> Awaitable[object]:
            return world.govern("space.update", space=space, patch={"labels": wanted})

        await given_up(update, once=changed)
        await eventually(lambda: "context" in [one.kind for one in heard])


async def test_whatever_becomes_of_a_space_is_announced_in_whichever_moment_its_caller_gave_up(
    world: World, heard: list[Change]
) -> None:
    """The reaper goes by it as well: a space's time runs from when it is made."""

    spaces = world.use(SpaceStore)

    async def attempt(suspension: int) -> bool:
        name, space = f"work-{suspension}", await world.space(f"other-{suspension}", ttl_s=60)
        await world.call("space.down", space=space)

        async def made(call: Coroutine[Any, Any, object], is_made: Callable[[Space], bool]) -> bool:
            await some_turns()
            heard.clear()
            more = await cancelled_at(suspension, call)
            # Changes are made in their order: what the call submitted is made by now.
            await world.database.write(lambda _: None)
            await some_turns()
            assert any(map(is_made, spaces.visible(world.agent))) is ("context" in [one.kind for one in heard])
            return more

        create = world.call("space.create", name=name, ttl_s=600)
        extend = world.call("space.extend", space=space, ttl_s=600)
        up = world.call("space.up", space=space)
        ends = [
            await made(create, lambda one: one.requested.name == name),
            await made(extend, lambda one: one.id == space and (one.expires_at or 0) > one.created_at + 300),
            await made(up, lambda one: one.id == space and one.state is SpaceState.RUNNING),
        ]
        return any(ends)

    await cancelled_everywhere(attempt)


@pytest.mark.parametrize(("answer", "state"), [("grant", "approved"), ("deny", "denied")])
async def test_a_person_s_answer_is_announced_in_whichever_moment_its_caller_gave_up(
    world: World, heard: list[Change], answer: str, state: str
) -> None:
    at = await prepared(world, "work")

    async def attempt(suspension: int) -> bool:
        with pytest.raises(ApprovalNeeded) as asked:
            await world.call("sandbox.shell", space=at.space, command=f"git push origin main-{suspension}")
        approval = asked.value.approval_id
        await some_turns()
        heard.clear()
        more = await cancelled_at(suspension, world.govern(f"approval.{answer}", approval=approval))
        # Changes are made in their order: what the call submitted is made by now.
        await world.database.write(lambda _: None)
        await some_turns()
        row = world.row("SELECT state FROM approvals WHERE id = ?", approval)
        is_decided = row is not None and row["state"] == state
        assert (Change("context", space_id=at.space) in heard) is is_decided
        if not is_decided:
            await world.govern("approval.deny", approval=approval)
        return more

    await cancelled_everywhere(attempt)


async def test_n13_a_grant_that_was_changed_is_announced_although_its_caller_gave_up(
    world: World, heard: list[Change]
) -> None:
    identity = world.use(Identity)
    for host in ("a.test", "b.test", "c.test"):
        del heard[:]

        def changed(wanted: str = host) -> bool:
            return identity.get("local-agent").scope.network.allow == (wanted,)

        def grant(wanted: str = host) -> Awaitable[object]:
            network = {"mode": "allowlist", "allow": [wanted]}
            return world.govern("principal.grant", principal="local-agent", scope={"network": network})

        await given_up(grant, once=changed)
        await eventually(lambda: "tools" in [one.kind for one in heard])


async def test_n13_a_space_that_stops_is_announced_before_what_runs_in_it_has_ended(world: World) -> None:
    space = await world.space("work")
    runtime = await world.launched(space)
    async with world.use(Changes).subscribe() as changes, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: world.call("space.down", space=space))
        with anyio.fail_after(PATIENCE_S):
            async for change in changes:
                assert change.kind == "context"
                break
        stopped, still_there = world.use(SpaceStore).get(space), world.use(Runtimes).get(runtime)
        assert stopped is not None and stopped.state is SpaceState.STOPPED
        assert still_there is not None and still_there.state is RuntimeState.ACTIVE
