"""A space is narrowed or goes while calls are under way (T09)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from mcp_spaces.core.ids import new_id
from mcp_spaces.errors import (
    ApprovalNeeded,
    Cancelled,
    Conflict,
    Denied,
    NotFound,
    RuntimeUnavailable,
    SpacesError,
    WrongState,
)
from mcp_spaces.sandbox.port import Sandbox, SandboxSpec
from mcp_spaces.spaces.model import Runtime, RuntimeKind, RuntimeState
from mcp_spaces.spaces.port import Runtimes, Spaces
from tests.cli.served import served
from tests.processes import processes
from tests.sandbox.fake import FakeDriver
from tests.security.app import World, eventually, open_world, refusal
from tests.security.lines import Line, line_to
from tests.security.prepared import Prepared, prepared, valid_inputs


class Held:
    """A sandbox whose named method waits until it is let go."""

    def __init__(self, sandbox: Sandbox, driver: HoldingDriver) -> None:
        self._sandbox = sandbox
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._sandbox, name)
        if name != self._driver.holds:
            return found

        async def held(*arguments: Any, **more: Any) -> Any:
            answer = await found(*arguments, **more)
            self._driver.reached.set()
            await self._driver.go.wait()
            return answer

        return held


class HoldingDriver(FakeDriver):
    """`holds` names a method of sandboxes that stops at a barrier, after it did its work and before it tells."""

    holds = ""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.reached, self.go = anyio.Event(), anyio.Event()

    async def launch(self, spec: SandboxSpec) -> Sandbox:
        return cast(Sandbox, Held(await super().launch(spec), self))


@asynccontextmanager
async def held(tmp_path: Path, method: str) -> AsyncIterator[tuple[World, HoldingDriver, Prepared]]:
    driver = HoldingDriver(tmp_path / "workspaces")
    async with open_world(tmp_path, driver=driver) as world:
        at = await prepared(world, "work")
        driver.holds = method
        yield world, driver, at


NARROWINGS: Mapping[str, dict[str, Any]] = {
    "storage for reading only": {"patch": {"mounts": {"storage": [{"namespace": "own", "mode": "ro"}]}}},
    "another policy": {"patch": {"policy": {"preset": "restrictive"}}},
}


@pytest.mark.parametrize("narrowing", NARROWINGS)
async def test_t09_what_is_under_way_when_its_space_is_narrowed_writes_nothing_afterwards(
    tmp_path: Path, narrowing: str
) -> None:
    async with held(tmp_path, "read_file") as (world, driver, at):
        ended: list[BaseException] = []

        async def collect() -> None:
            with pytest.raises(SpacesError) as refused:
                await world.call("storage.collect", space=at.space, path="src/main.py", to="taken.py")
            ended.append(refused.value)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect)
            await driver.reached.wait()
            await world.govern("space.update", space=at.space, **NARROWINGS[narrowing])
            driver.go.set()
        assert isinstance(ended[0], Cancelled | Denied | Conflict | WrongState)
        assert world.count("SELECT count(*) FROM files WHERE path = 'taken.py'") == 0


async def test_t09_a_shell_ends_when_the_policy_runs_no_commands_any_more(world: World) -> None:
    at = await prepared(world, "work")
    marker = f"sleep 97{random.randrange(10**6):06d}"

    async def work() -> None:
        with pytest.raises(Cancelled):
            await world.call("sandbox.shell", space=at.space, command=marker)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await eventually(lambda: processes(marker) != [])
        await world.govern("space.update", space=at.space, patch={"policy": {"preset": "restrictive"}})
        # When the narrowing has been acknowledged, nothing of before goes on.
        assert processes(marker) == []


async def test_t09_a_change_that_narrows_nothing_here_ends_nothing(world: World) -> None:
    at, other = await prepared(world, "work"), await world.space("other")
    async with anyio.create_task_group() as tasks:
        done = anyio.Event()

        async def work() -> None:
            assert (
                await world.call("sandbox.shell", space=at.space, command="until test -e go; do sleep 0.02; done")
            ).exit_code == 0
            done.set()

        tasks.start_soon(work)
        await eventually(lambda: world.count("SELECT count(*) FROM runs WHERE state = 'running'") > 0)
        await world.call("space.update", space=at.space, patch={"labels": {"a": "b"}})
        await world.govern("space.update", space=at.space, patch={"policy": {"preset": "permissive"}})
        await world.govern("space.update", space=other, patch={"policy": {"preset": "restrictive"}})
        (world.folder / "workspaces" / at.runtime / "go").touch()
        with anyio.fail_after(10):
            await done.wait()


@pytest.mark.parametrize("ending", ["space.down", "space.delete"])
async def test_t09_a_space_that_goes_takes_the_calls_in_it_along(world: World, ending: str) -> None:
    at = await prepared(world, "work")
    marker = f"sleep 96{random.randrange(10**6):06d}"

    async def work() -> None:
        with pytest.raises((Cancelled, RuntimeUnavailable, WrongState, NotFound)):
            await world.call("sandbox.shell", space=at.space, command=marker)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await eventually(lambda: processes(marker) != [])
        await world.call(ending, **valid_inputs(at)[ending])
        assert processes(marker) == []


async def test_t09_a_write_into_a_space_that_is_being_deleted_leaves_no_file_without_a_space(tmp_path: Path) -> None:
    async with held(tmp_path, "read_file") as (world, driver, at):

        async def collect(number: int) -> None:
            wanted: dict[str, Any] = {"space": at.space, "path": "src/main.py", "to": f"taken-{number}.py"}
            refused = await refusal(world.call("storage.collect", **wanted))
            assert refused is None or refused.code in ("not_found", "cancelled", "wrong_state"), refused

        async def upload(number: int) -> None:
            wanted: dict[str, Any] = {"space": at.space, "path": f"up-{number}", "content": "x" * 100_000}
            refused = await refusal(world.call("storage.upload", **wanted))
            assert refused is None or refused.code in ("not_found", "cancelled"), refused

        async def delete() -> None:
            await world.call("space.delete", space=at.space, force=True)

        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(collect, number)
            await driver.reached.wait()
            for number in range(20):
                tasks.start_soon(upload, number)
            tasks.start_soon(delete)
            await anyio.lowlevel.checkpoint()
            driver.go.set()
        assert world.count("SELECT count(*) FROM spaces") == 0
        assert world.count("SELECT count(*) FROM files") == 0
        assert world.count("SELECT count(*) FROM artifacts") == 0
        assert list((world.folder / "state" / "blobs").glob("[!.]*/*/*")) == []


async def test_t09_a_yes_from_before_a_narrowing_is_no_yes_after_it(world: World) -> None:
    at = await prepared(world, "work")
    push: dict[str, Any] = {"space": at.space, "command": "git push"}
    with pytest.raises(ApprovalNeeded) as asked:
        await world.call("sandbox.shell", **push)
    await world.govern("approval.grant", approval=asked.value.approval_id)
    await world.govern("space.update", space=at.space, patch={"policy": {"overrides": {"shell": {"timeout_s": 5}}}})
    with pytest.raises(ApprovalNeeded) as again:
        await world.call("sandbox.shell", **push)
    assert again.value.approval_id != asked.value.approval_id


@pytest.mark.parametrize("seed", range(6))
async def test_t09_however_calls_and_narrowings_interleave_nothing_begins_under_the_old_ceiling(
    world: World, seed: int
) -> None:
    """Uploads race with `rw` → `ro`; each upload that is recorded as begun after the update's end was refused."""
    at = await prepared(world, "work", runtime=False)
    rng = random.Random(seed)

    async def upload(number: int) -> None:
        for _ in range(rng.randrange(12)):
            await anyio.lowlevel.checkpoint()
        refused = await refusal(world.call("storage.upload", space=at.space, path=f"f{number}", content="x"))
        assert refused is None or refused.code in ("denied", "cancelled"), refused

    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(upload, number)
        for _ in range(rng.randrange(12)):
            await anyio.lowlevel.checkpoint()
        updated = await world.outcome(
            "space.update", caller=world.operator, space=at.space, **NARROWINGS["storage for reading only"]
        )
        files = world.count("SELECT count(*) FROM files WHERE path LIKE 'f%'")
    assert world.count("SELECT count(*) FROM files WHERE path LIKE 'f%'") == files, "written after the narrowing"
    row = world.row("SELECT seq FROM audit WHERE run_id = ? AND kind = 'outcome'", updated.run_id)
    assert row is not None
    late = world.count(
        "SELECT count(*) FROM runs JOIN audit ON audit.run_id = runs.id AND audit.kind = 'intent'"
        " WHERE audit.seq > ? AND runs.state = 'succeeded' AND runs.operation = 'storage.upload'",
        row["seq"],
    )
    assert late == 0


async def test_t09_a_grant_counts_at_once_on_the_connections_that_its_principal_has() -> None:
    """Wider and narrower alike: an agent's connection over stdio lives as long as its session."""

    async def listed(agent: Line, tool: str) -> bool:
        tools = (await agent.ask("tools/list"))["result"]["tools"]
        return tool in {one["name"] for one in tools}

    async with served() as house:
        space = await house.world.space("work")
        await house.world.govern("space.update", space=space, patch={"mounts": {"vault": {"allow": ["dev"]}}})
        async with line_to(house.world.folder / "state") as agent:
            assert (await agent.call("vault.list", space=space)).code == "denied"
            await house.world.govern("principal.grant", principal="local-agent", scope={"vault": {"allow": ["dev"]}})
            assert (await agent.call("vault.list", space=space)).code is None
            assert await listed(agent, "space_create")
            await house.world.govern("principal.grant", principal="local-agent", scope={"operations": ["space.get"]})
            assert (await agent.call("space.create", name="another")).code == "denied"
            assert not await listed(agent, "space_create")


async def test_t09_a_runtime_that_was_judged_before_its_space_changed_is_not_stored(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        space_id = await world.space("work")
        before = world.use(Spaces).get(space_id)
        assert before is not None
        wanted = Runtime(
            id=new_id("rt"), space_id=space_id, kind=RuntimeKind.SANDBOX, alias="late", state=RuntimeState.STARTING,
            image="", ceiling=before.ceiling, created_at=0,
        )  # fmt: skip
        await world.call("space.update", space=space_id, patch={"limits": {"memory_bytes": 1 << 30}})
        with pytest.raises(Conflict, match="changed meanwhile"):
            await world.use(Runtimes).add(wanted, space_version=before.version)
        await world.call("space.down", space=space_id)
        now = world.use(Spaces).get(space_id)
        assert now is not None
        with pytest.raises(WrongState, match="is stopped"):
            await world.use(Runtimes).add(wanted, space_version=now.version)
        assert world.count("SELECT count(*) FROM runtimes") == 0
