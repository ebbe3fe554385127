"""Keys, handles and the ceiling (T01, T02, T04–T06, T08, T09, T11, T12, T14, T15), over the whole catalogue."""

from __future__ import annotations

import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.ids import ID_PATTERN
from mcp_spaces.core.json_schema import input_schema
from mcp_spaces.core.operation import AnyOperation, Audience
from mcp_spaces.core.scope import covers, narrow
from mcp_spaces.errors import (
    ApprovalNeeded,
    Cancelled,
    Conflict,
    Denied,
    ExceedsCeiling,
    NotFound,
    RuntimeUnavailable,
    SpacesError,
    TimedOut,
    Unauthenticated,
    WrongState,
)
from mcp_spaces.identity.model import AGENT_SCOPE
from mcp_spaces.sandbox.port import Sandbox, SandboxSpec
from mcp_spaces.spaces.model import Runtime, Space
from mcp_spaces.spaces.port import Runtimes, Spaces
from mcp_spaces.state.database import Transaction
from tests.folders import content_of, files_below
from tests.sandbox.fake import FakeDriver
from tests.security.app import LITTLE, World, eventually, open_world, refusal, short_folder
from tests.security.daemons import nursery
from tests.security.lines import line_to
from tests.security.prepared import ABSENT, NOWHERE, Prepared, prepare_for, prepared, valid_inputs

GUARD_S = 20.0
"""The promise is two seconds; a busy machine adds to it, and nothing else would end what is waited for."""

pytestmark = pytest.mark.anyio

FOR_AGENTS = [operation for operation in CATALOGUE if operation.audience is Audience.EVERYONE]
# What is lent has a process of its own: tests/browser/test_lease.py.
IN_BROWSERS = [one for one in FOR_AGENTS if one.noun == "browser" and one.id != "browser.connect"]
ELSEWHERE = [operation for operation in FOR_AGENTS if operation.noun != "browser"]
FOR_OPERATORS = [operation for operation in CATALOGUE if operation.audience is Audience.OPERATOR]
MINE = {"labels": {"whose": "mine"}}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


def test_every_operation_for_agents_has_an_input_that_has_to_work() -> None:
    assert set(valid_inputs(NOWHERE)) == {operation.id for operation in FOR_AGENTS}


# ------------------------------------------------------------------------------------------------------- T01


async def keep(shown: list[str], call: Awaitable[Any]) -> None:
    shown.append((await call).model_dump_json())


async def told(world: World, caller: Caller, operation: AnyOperation, arguments: Mapping[str, Any]) -> object:
    """Everything that a caller learns from a refusal; of a success, that it was one."""
    error = await refusal(world.call(operation.id, caller=caller, **arguments))
    return "it worked" if error is None else (error.code, error.message, error.hint, error.details())


def foreign_names(mine: Prepared, theirs: Prepared) -> Iterator[tuple[str, Prepared]]:
    """Ways to name what is theirs: all of it, or one thing of it from within what is mine."""
    yield "all by id", theirs
    yield "all by name", replace(theirs, space=theirs.name)
    yield "runtime", replace(mine, runtime=theirs.runtime)
    yield "run", replace(mine, run=theirs.run)
    yield "job", replace(mine, job=theirs.job)
    yield "artifact", replace(mine, artifact=theirs.artifact)
    yield "namespace", replace(mine, namespace=theirs.space)
    yield "shared namespace", replace(mine, namespace=f"shared.{theirs.space}")


async def test_t01_a_key_for_one_space_cannot_name_anything_of_another_over_every_operation(world: World) -> None:
    """The other space belongs to the same principal: only the key's own bounds stand between them."""
    mine, theirs = await prepared(world, "mine"), await prepared(world, "theirs")
    await world.govern("principal.add", name="other")
    other = await world.key(principal="other")
    strangers = await prepared_by(world, other, "strangers")
    key = await world.key(spaces=[mine.space])
    kinds = [(kind, at) for target in (theirs, strangers) for kind, at in foreign_names(mine, target)]
    nowhere = dict(foreign_names(mine, NOWHERE))
    checked = 0
    for kind, foreign in kinds:
        named, random_one, own = valid_inputs(foreign), valid_inputs(nowhere[kind]), valid_inputs(mine)
        for operation in FOR_AGENTS:
            if named[operation.id] == own[operation.id]:
                continue
            answer = await told(world, key, operation, named[operation.id])
            assert answer != "it worked", (operation.id, kind)
            assert answer == await told(world, key, operation, random_one[operation.id]), (operation.id, kind)
            checked += 1
    assert checked > 2 * len(FOR_AGENTS)
    for operation in FOR_OPERATORS:
        answer = await told(world, key, operation, operation.example)
        absent = (answer[1] if isinstance(answer, tuple) else "").replace(operation.id, "thing.absent")
        with pytest.raises(NotFound) as refused:
            await world.call("thing.absent", caller=key)
        assert absent == refused.value.message
    # Nothing of theirs was touched, and lists show nothing of it.
    assert await everything_works(world, theirs) and await everything_works(world, strangers, caller=other)
    for listed in ("space.list", "run.list"):
        shown = (await world.call(listed, caller=key)).model_dump_json()
        assert theirs.space not in shown and strangers.space not in shown


async def prepared_by(world: World, caller: Caller, name: str) -> Prepared:
    space = await world.space(name, caller=caller)
    uploaded = await world.outcome("storage.upload", caller=caller, space=space, path="inputs/sales.csv", content="a")
    exported = await world.call("run.export", caller=caller, run=uploaded.run_id)
    runtime = await world.launched(space, caller=caller, alias="main", scope={"limits": LITTLE})
    started = await world.call("sandbox.shell", caller=caller, space=space, command="sleep 1000", background=True)
    return Prepared(space, name, runtime, uploaded.run_id, started.job, exported.artifact.id)


async def everything_works(world: World, at: Prepared, caller: Caller | None = None) -> bool:
    reads = ("space.get", "sandbox.get", "job.read", "storage.read", "run.get", "run.read_artifact")
    return all(
        [await told(world, caller or world.agent, by_id(one), valid_inputs(at)[one]) == "it worked" for one in reads]
    )


def by_id(operation_id: str) -> AnyOperation:
    return next(operation for operation in CATALOGUE if operation.id == operation_id)


# ------------------------------------------------------------------------------------------------------- T02


async def test_t02_a_handle_is_random_and_is_no_authority(world: World) -> None:
    mine = await prepared(world, "mine")
    await world.govern("principal.add", name="other")
    thief = await world.key(principal="other")
    handles = (mine.space, mine.runtime, mine.run, mine.job, mine.artifact)
    assert all(re.match(ID_PATTERN, handle) for handle in handles)
    for operation_id, arguments in valid_inputs(mine).items():
        if any(handle in arguments.values() for handle in handles):
            answer = await told(world, thief, by_id(operation_id), arguments)
            guessed = await told(world, thief, by_id(operation_id), valid_inputs(NOWHERE)[operation_id])
            assert answer == guessed != "it worked", operation_id


async def test_t02_an_idempotency_key_opens_nobody_elses_answer(world: World) -> None:
    await world.govern("principal.add", name="other")
    other = await world.key(principal="other")
    first = await world.app.pipeline.call(world.agent, "space.create", {"name": "work"}, idempotency_key="same")
    second = await world.app.pipeline.call(other, "space.create", {"name": "work"}, idempotency_key="same")
    assert cast(Any, first.output).id != cast(Any, second.output).id


# -------------------------------------------------------------------------------------------------- T04, T05


async def test_t04_what_the_database_holds_does_not_authenticate(world: World) -> None:
    made = await world.govern("key.create", label="stolen")
    public, secret = made.id.removeprefix("key_"), made.token.rpartition(made.id.removeprefix("key_") + "_")[2]
    row = world.row("SELECT body, mac FROM keys WHERE id = ?", made.id)
    assert row is not None
    (digest,) = re.findall(r"[0-9a-f]{64}", row["body"])
    for guess in (digest, digest[:43], digest[-43:], row["mac"].hex()[:43], "A" * 43):
        with pytest.raises(Unauthenticated):
            await world.app.authenticate(f"msp_{public}_{guess}")
    assert (await world.app.authenticate(made.token)).key_id == made.id
    everything = b"".join(map(content_of, files_below(world.folder / "state")))
    assert digest.encode() in everything
    assert secret.encode() not in everything and made.token.encode() not in everything


async def test_t04_a_forged_row_is_nobodys_key(world: World) -> None:
    mine, theirs = await world.govern("key.create", label="mine"), await world.govern("key.create", label="theirs")

    changes: list[tuple[str, tuple[object, ...]]] = []
    for column in ("body", "mac"):
        row = world.row(f"SELECT {column} FROM keys WHERE id = ?", mine.id)
        assert row is not None
        changes.append((f"UPDATE keys SET {column} = ? WHERE id = ?", (row[column], theirs.id)))
    # The hash of my secret under the other's id: the row's seal is over its id, too.
    for sql, parameters in changes:
        await world.database.write(partial(Transaction.execute, sql=sql, parameters=parameters))
        for token in (theirs.token, mine.token.replace(mine.id[4:], theirs.id[4:])):
            with pytest.raises((Unauthenticated, WrongState)):
                await world.app.authenticate(token)


async def test_t05_a_wrong_secret_takes_as_long_whatever_it_begins_with(world: World) -> None:
    made = await world.govern("key.create", label="one")
    head, secret = made.token[:31], made.token[31:]
    nearly = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    wrong = {"nearly": head + nearly, "nothing": head + "-" * 43, "unknown": f"msp_{ABSENT}_{secret}"}
    took: dict[str, list[float]] = {name: [] for name in wrong}
    for _ in range(400):
        for name, token in wrong.items():
            began = time.perf_counter()
            with pytest.raises(Unauthenticated):
                await world.app.authenticate(token)
            took[name].append(time.perf_counter() - began)
    middle = {name: median(times) for name, times in took.items()}
    assert middle["nearly"] == pytest.approx(middle["nothing"], rel=0.5, abs=50e-6)
    # That an id exists is no secret; it still must not stand out over a network.
    assert abs(middle["unknown"] - middle["nothing"]) < max(500e-6, middle["nothing"])


# ------------------------------------------------------------------------------------------------------- T06


@pytest.mark.parametrize("ending", ["revoked", "expired", "narrowed"])
async def test_t06_a_call_ends_with_its_key_and_so_does_what_it_started(world: World, ending: str) -> None:
    mine = await prepared(world, "mine")
    made = await world.govern("key.create", label="one", expires_in_s=5 if ending == "expired" else 60)
    key = await world.app.authenticate(made.token)
    marker = f"sleep 98{random.randrange(10**6):06d}"
    ended: list[SpacesError] = []

    async def work() -> None:
        with pytest.raises(SpacesError) as stopped:
            await world.call("sandbox.shell", caller=key, space=mine.space, command=marker)
        ended.append(stopped.value)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await eventually(lambda: processes(marker) != [])
        if ending == "revoked":
            await world.govern("key.revoke", key=made.id)
        elif ending == "narrowed":
            await world.govern("principal.grant", principal="local-agent", scope={"operations": ["run.*", "space.*"]})
        await eventually(lambda: bool(ended), seconds=GUARD_S)
    assert isinstance(ended[0], Cancelled | TimedOut)
    await eventually(lambda: processes(marker) == [], seconds=GUARD_S)
    if ending != "narrowed":
        with pytest.raises(Unauthenticated):
            await world.app.authenticate(made.token)


def processes(marker: str) -> list[str]:
    """Those of this machine whose command line is exactly this."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b" ".join(words[:-1]).decode(errors="replace") == marker:
            found.append(path.parent.name)
    return found


# ------------------------------------------------------------------------------------------------------- T08


async def test_t08_more_than_the_ceiling_is_refused_with_the_key_that_does_not_fit(world: World) -> None:
    space = await world.space("work", limits={"memory_bytes": 1 << 30, "cpu_cores": 1})
    too_much: list[tuple[str, str, dict[str, Any]]] = [
        ("sandbox.launch", "limits.memory_bytes", {"scope": {"limits": {"memory_bytes": 2 << 30}}}),
        ("sandbox.launch", "limits.cpu_cores", {"scope": {"limits": {"cpu_cores": 64}}}),
        ("sandbox.launch", "network.mode", {"scope": {"network": {"mode": "open"}}}),
        ("sandbox.launch", "vault.allow.prod/crm", {"scope": {"vault": {"allow": ["prod/crm"]}}}),
        ("sandbox.launch", "vault.allow_raw_reads", {"scope": {"vault": {"allow_raw_reads": True}}}),
        ("sandbox.launch", "storage.shared", {"scope": {"storage": [{"namespace": "shared"}]}}),
        ("sandbox.launch", "proxy.any", {"scope": {"proxy": ["any"]}}),
        ("sandbox.launch", "ai.allow.openai", {"scope": {"ai": {"allow": ["openai"]}}}),
        ("space.update", "limits.memory_bytes", {"patch": {"limits": {"memory_bytes": 1 << 40}}}),
        ("space.update", "network.mode", {"patch": {"mounts": {"network": {"mode": "open"}}}}),
        ("space.update", "storage.shared", {"patch": {"mounts": {"storage": [{"namespace": "shared"}]}}}),
        ("space.update", "policy.", {"patch": {"policy": {"preset": "permissive"}}}),
        ("space.update", "policy.shell.timeout_s", {"patch": {"policy": {"overrides": {"shell": {"timeout_s": 9000}}}}}),
    ]  # fmt: skip
    for operation_id, where, arguments in too_much:
        with pytest.raises(ExceedsCeiling) as refused:
            await world.call(operation_id, space=space, **arguments)
        assert refused.value.key.startswith(where), refused.value.key
    assert world.count("SELECT count(*) FROM runtimes") == 0
    assert (await world.call("space.get", space=space)).policy.preset == "standard"


LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "cpu_cores": st.sampled_from([0.5, 1, 2, 4, 64]),
        "memory_bytes": st.sampled_from([64 << 20, 1 << 30, 4 << 30, 1 << 40]),
        "disk_bytes": st.sampled_from([32 << 20, 1 << 30, 1 << 41]),
        "pids": st.sampled_from([16, 256, 512, 100_000]),
        "call_seconds": st.sampled_from([10, 600, 86_400]),
        "storage_bytes": st.sampled_from([0, 1 << 20, 1 << 50]),
    },
)
STORAGE = st.lists(
    st.fixed_dictionaries(
        {"namespace": st.sampled_from(["own", "shared", "exports", "*"]), "mode": st.sampled_from(["ro", "rw"])},
        optional={"prefix": st.sampled_from(["", "a", "a/b", "b"])},
    ),
    max_size=2,
)
NETWORK = st.fixed_dictionaries(
    {"mode": st.sampled_from(["none", "allowlist", "open"])},
    optional={"allow": st.lists(st.sampled_from(["example.com", "*.example.com", "a.example.com:443"]), max_size=2)},
)
VAULT = st.fixed_dictionaries(
    {"allow": st.lists(st.sampled_from(["prod", "prod/crm", "*"]), max_size=2), "allow_raw_reads": st.booleans()}
)
MOUNTS = st.fixed_dictionaries({}, optional={"storage": STORAGE, "network": NETWORK, "vault": VAULT})
POLICY = st.fixed_dictionaries(
    {"preset": st.sampled_from(["restrictive", "standard", "permissive"])},
    optional={"overrides": st.sampled_from([{}, {"shell": {"mode": "all"}}, {"effects": {"writes": "ask"}}])},
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("update"), st.fixed_dictionaries({}, optional={"limits": LIMITS, "mounts": MOUNTS, "policy": POLICY})),
        st.tuples(st.just("launch"), MOUNTS.flatmap(lambda mounts: LIMITS.map(lambda limits: {**mounts, "limits": limits}))),
        st.tuples(st.just("grant"), st.one_of(STORAGE.map(lambda one: {"storage": one}), NETWORK.map(lambda one: {"network": one}), LIMITS.map(lambda one: {"limits": one}))),
    ),
    min_size=1,
    max_size=12,
)  # fmt: skip


async def _never_wider(world: World, steps: list[tuple[str, dict[str, Any]]]) -> None:
    await world.govern("principal.grant", principal="local-agent", scope=_as_request())
    space = await world.space("work")
    try:
        for kind, wanted in steps:
            before = world.use(Spaces).get(space)
            assert before is not None
            granted = world.agent.scope
            await _attempt(world, space, kind, wanted)
            _check_scopes(world, before, space, granted_before=granted, kind=kind)
    finally:
        await world.govern("space.delete", space=space, force=True)


async def _attempt(world: World, space: str, kind: str, wanted: dict[str, Any]) -> None:
    match kind:
        case "update":
            call = world.call("space.update", space=space, patch=wanted)
        case "launch":
            limits = {**LITTLE, **wanted["limits"]}
            call = world.call("sandbox.launch", space=space, scope={**wanted, "limits": limits})
        case _:
            call = world.govern("principal.grant", principal="local-agent", scope=wanted)
    refused = await refusal(call)
    usual = ("exceeds_ceiling", "invalid_input", "quota", "conflict", "wrong_state")
    assert refused is None or refused.code in usual, refused


def _as_request() -> dict[str, Any]:
    return {
        "storage": [{"namespace": "own", "mode": "rw"}, {"namespace": "shared", "mode": "ro"}],
        "network": {"mode": "none"},
        "vault": {"allow": ["prod/crm"]},
        "limits": {
            name: getattr(AGENT_SCOPE.limits, name)
            for name in ("cpu_cores", "memory_bytes", "disk_bytes", "pids", "call_seconds", "storage_bytes")
        },
    }


def _check_scopes(world: World, before: Space, space_id: str, *, granted_before: Any, kind: str) -> None:
    space = world.use(Spaces).get(space_id)
    assert space is not None
    # The space grows by what its owner's principal holds, and by nothing else.
    if kind == "update":
        gained = narrow(space.ceiling, space.ceiling)
        assert (
            covers(before.ceiling, gained)
            or covers(granted_before, gained)
            or _gain_is_granted(before, space, granted_before)
        )
    else:
        assert space.ceiling == before.ceiling
    for runtime in world.use(Runtimes).of_space(space_id):
        effective = _effective(world, space, runtime)
        assert covers(space.ceiling, effective)
        assert covers(world.agent.scope, effective)
        assert covers(runtime.ceiling, effective)


def _gain_is_granted(before: Space, after: Space, granted: Any) -> bool:
    """Each part that was not there before is the principal's own."""
    from mcp_spaces.core.scope import excess

    return not set(excess(before.ceiling, after.ceiling)) & set(excess(granted, after.ceiling))


def _effective(world: World, space: Space, runtime: Runtime) -> Any:
    return narrow(narrow(world.agent.scope, space.ceiling), runtime.ceiling)


async def test_t08_no_sequence_of_updates_launches_and_grants_widens_what_is_above(world: World) -> None:
    found: list[list[tuple[str, dict[str, Any]]]] = []

    @settings(max_examples=120, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def collect(steps: list[tuple[str, dict[str, Any]]]) -> None:
        found.append(steps)

    collect()
    assert sum(map(len, found)) > 300
    for steps in found:
        await _never_wider(world, steps)


# ------------------------------------------------------------------------------------------------------- T09


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


async def test_t09_a_change_that_narrows_nothing_ends_nothing(world: World) -> None:
    at = await prepared(world, "work")
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


# ------------------------------------------------------------------------------------------------------- T11


TRICKS = (
    "space://{b}/context", "space://{a}/../{b}/context", "space://{a}%2f..%2f{b}/context", "space://{a}%252f{b}/context",
    "space://{b}%00/context", "SPACE://{b}/context", "space://{b}/Context", "space://{a}@{b}/context",
    "space://{a}:80@{b}/context", "space://{b}/context/", "space://{b}//context", "space:///{b}/context",
    "space://{b}/context?topic=all&topic=space", "space://{b}/context#x", "space://{b}/context?space={a}",
    "space://{a}/runtimes/{rt}/context", "space://{a}/runtimes/../../{b}/context", "space://{b}/./context",
    "space://{a}\\{b}/context", "space://{a}\n/{b}/context", " space://{b}/context", "space://{b}/context ",
    "run://{run}", "run://{run}/../{run}", "RUN://{run}", "run://{a}/{run}", "run://%72un_{run}",
    "storage://{b}/inputs/sales.csv", "storage://own/../{b}/inputs/sales.csv", "storage://shared.{b}/inputs/sales.csv",
    "storage://own/%2e%2e/{b}/inputs/sales.csv", "storage://own/..%2f{b}/inputs", "storage://OWN/inputs/sales.csv",
    "file:///etc/passwd", "https://example.com/", "space://{up}/context", "space://theirs/context",
)  # fmt: skip


async def test_t11_no_spelling_of_a_uri_leads_to_another_space() -> None:
    with short_folder() as folder:
        state = folder / "state"
        async with nursery() as nurse:
            pid = await nurse.running(state)
            async with line_to(state) as agent, line_to(state, operator=True) as operator:
                a, b = [(await agent.call("space.create", name=name)).content["id"] for name in ("mine", "theirs")]
                stored = await agent.call("storage.upload", space=b, path="inputs/sales.csv", content="canary")
                rt = (await agent.call("sandbox.launch", space=b)).content["id"]
                token = (await operator.call("key.create", label="a", spaces=[a])).content["token"]
                read = await agent.ask("resources/read", uri=f"space://{b}/context")
                assert "result" in read
            async with line_to(state, key=token) as key:
                assert "result" in await key.ask("resources/read", uri=f"space://{a}/context")
                absent = await key.ask("resources/read", uri=f"space://sp_{ABSENT}/context")
                for trick in TRICKS:
                    uri = trick.format(a=a, b=b, rt=rt, run=stored.run_id, up=b.upper())
                    answer = await key.ask("resources/read", uri=uri)
                    assert answer["error"]["code"] == absent["error"]["code"], uri
                    assert answer["error"]["message"] == absent["error"]["message"], uri
                    # The same spelling of what is one's own: there is one way to write it.
                    own = trick.format(a=a, b=a, rt=rt, run=stored.run_id, up=a.upper())
                    if own != f"space://{a}/context":
                        assert "error" in await key.ask("resources/read", uri=own), own
                    subscribed = await key.ask("resources/subscribe", uri=uri)
                    assert "error" in subscribed, uri
                listed = await key.ask("resources/list")
                assert [one["uri"] for one in listed["result"]["resources"]] == [f"space://{a}/context"]
            await nurse.stop(pid)


# ------------------------------------------------------------------------------------------------------- T12


PATHS_INSIDE = {
    # Paths in a sandbox's workspace or names in storage: nothing on the host is opened by them.
    "path", "to", "cwd", "prefix", "glob", "pattern", "to_namespace", "namespace",
}  # fmt: skip
SUSPICIOUS = re.compile(
    r"path|file|url|uri|host|dir|folder|mount|bind|device|socket|address|image|source|target|^to$|cwd|glob"
)
KNOWN_BY_OTHER_RULES = {
    # One of the operator's own names, checked against a list (test_only_the_operators_images_are_launched).
    "sandbox.launch: image",
    # Names of what the operator granted: test_t08_more_than_the_ceiling_is_refused_with_the_key_that_does_not_fit.
    "space.create: mounts",
    # Where a browser goes, by the gateway and no other way: test_b10_only_web_addresses_are_gone_to, N22.
    "browser.navigate: url", "browser.open: url", "browser.login: url", "browser.wait_for: url",
    # Names: of what a space keeps sealed, of files in its storage, of handles in a program of steps.
    "browser.launch: profile", "browser.forget: profile", "browser.upload: paths",
    "browser.look_step: bind", "browser.act_step: bind", "browser.script_step: bind",
}  # fmt: skip


@pytest.mark.parametrize("operation", FOR_AGENTS, ids=lambda operation: operation.id)
def test_t12_no_argument_of_an_agent_is_a_place_on_the_host_or_in_the_network(operation: AnyOperation) -> None:
    properties = input_schema(operation)["properties"]
    inside = set(properties) & PATHS_INSIDE
    strange = {name for name in properties if SUSPICIOUS.search(name)} - inside
    assert {f"{operation.id}: {name}" for name in strange} <= KNOWN_BY_OTHER_RULES
    text = str(input_schema(operation))
    assert "'format': 'path'" not in text and "'format': 'uri'" not in text
    if inside:
        rooms = ("sandbox", "storage", "vault", "browser")
        assert operation.noun in rooms, "only these rooms have paths, and none is the host's"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../../../etc/passwd", "file:///etc/passwd", "http://169.254.169.254/"]
)
async def test_t12_a_path_of_the_host_reaches_nothing_of_it(world: World, path: str) -> None:
    at = await prepared(world, "work")
    before = {one: one.read_bytes() for one in (Path("/etc/passwd"),)}
    named: list[tuple[str, dict[str, Any]]] = [
        ("sandbox.read_file", {"path": path}),
        ("sandbox.write_file", {"path": path, "content": "x"}),
        ("storage.collect", {"path": path, "to": "taken"}),
        ("storage.stage", {"path": "inputs/sales.csv", "to": path}),
        ("storage.read", {"path": path}),
        ("storage.upload", {"path": path, "content": "x"}),
    ]
    usual = ("invalid_input", "wrong_state", "not_found", "denied", "conflict")
    for operation_id, arguments in named:
        shown: list[str] = []

        refused = await refusal(keep(shown, world.call(operation_id, space=at.space, **arguments)))
        assert refused is None or refused.code in usual, (operation_id, refused)
        assert "root:" not in str(shown), operation_id
    assert {one: one.read_bytes() for one in before} == before


# -------------------------------------------------------------------------------------------------- T14, T15


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
    for operation in FOR_OPERATORS:
        assert operation.tool not in str(agents) and operation.id not in str(agents)
    assert str(denied).replace("key_create", "sandbox_absent") == str(absent)
