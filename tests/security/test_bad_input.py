"""Bad input and bad circumstances over every operation: a clear error with a hint each, nothing lost, never `internal`.

The engine that is down is in test_engine_failures, the disk that is full in test_disk_failures.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.json_schema import input_schema
from mcp_spaces.core.operation import AnyOperation, Audience
from mcp_spaces.errors import SpacesError
from mcp_spaces.runs.audit import Audit
from mcp_spaces.sandbox.port import LiveSandboxes
from tests.security.app import World, eventually, open_world, refusal
from tests.security.prepared import NOWHERE, Prepared, prepared, valid_inputs

pytestmark = pytest.mark.anyio

REFUSED = {
    "invalid_input", "not_found", "ambiguous", "denied", "exceeds_ceiling", "approval_needed", "pin_needed",
    "conflict",
    "wrong_state", "quota", "runtime_unavailable", "disk_full", "timeout", "cancelled", "oom",
}  # fmt: skip
LONG, DEEP = "x" * 200_000, 2_000


def deep() -> Any:
    nested: Any = "bottom"
    for _ in range(DEEP):
        nested = {"a": [nested]}
    return nested


BAD_VALUES: dict[str, Any] = {
    "null": None, "number": 7, "negative": -1, "huge number": 10**400, "infinity": float("inf"), "not a number": float("nan"),
    "true": True, "empty": "", "blank": " ", "list": ["x"], "object": {"x": "y"}, "too long": LONG, "too deep": deep(),
    "NUL": "a\0b", "lone surrogate": "a\udcffb", "control": "a\x1b[2Jb", "newline": "a\nb", "reordering": "a\u202eb",
    "many": ["x"] * 20_000, "object with a NUL": {"a\0": "b\udcff"}, "dots": "../../..", "SQL": "'; DROP TABLE spaces; --",
    "format": "{0.__class__}%s%n", "bytes-like": "\xff\xfe",
}  # fmt: skip


@pytest.fixture(scope="module")
async def still(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[World, Prepared]]:
    """One world for all the calls that are refused before they change anything, which is asserted of each."""
    async with open_world(tmp_path_factory.mktemp("still")) as opened:
        yield opened, await prepared(opened, "work", runtime=False)


def by_whom(world: World, operation: AnyOperation) -> Caller:
    return world.operator if operation.audience is Audience.OPERATOR else world.agent


def usual(operation: AnyOperation, at: Prepared) -> dict[str, Any]:
    return dict(valid_inputs(at).get(operation.id, operation.example))


async def refused(world: World, operation: AnyOperation, arguments: dict[str, Any]) -> SpacesError | None:
    """What a caller is told, held to what every refusal has to be; None when it worked."""
    error = await refusal(world.app.pipeline.call(by_whom(world, operation), operation.id, arguments))
    if error is None:
        return None
    assert error.code in REFUSED, (operation.id, error.code, error.message)
    assert error.message.strip() and error.hint.strip(), (operation.id, error.message, error.hint)
    assert len(error.message) < 2_000 and len(error.hint) < 3_000
    told = error.message + error.hint
    assert "Traceback" not in told and "pydantic" not in told, told
    # Where things lie on the host is for the operator alone.
    assert operation.audience is Audience.OPERATOR or str(world.folder) not in told, told
    record = world.row("SELECT ended_at, error_code FROM runs ORDER BY seq DESC LIMIT 1")
    assert record is not None and record["ended_at"] is not None and record["error_code"] == error.code
    return error


def what_there_is(world: World) -> list[tuple[object, ...]]:
    tables = ("spaces", "runtimes", "files", "keys", "principals")
    return [tuple(row) for table in tables for row in world.database.read(f"SELECT * FROM {table} ORDER BY rowid")]


async def whole_and_usable(world: World) -> None:
    assert (await world.use(Audit).verify()).intact
    at = await prepared(world, "afterwards")
    assert (await world.call("sandbox.shell", space=at.space, command="echo fine")).stdout == "fine\n"


@pytest.mark.parametrize("operation", CATALOGUE, ids=lambda operation: operation.id)
async def test_an_unknown_argument_is_named_and_nothing_happens(
    still: tuple[World, Prepared], operation: AnyOperation
) -> None:
    world, at = still
    before = what_there_is(world)
    error = await refused(world, operation, {**usual(operation, at), "nonsense": 1})
    assert error is not None and error.code == "invalid_input"
    assert "nonsense is unknown" in error.message and "Arguments:" in error.hint
    assert what_there_is(world) == before


def numbers(operation: AnyOperation) -> list[str]:
    def kinds(schema: dict[str, Any]) -> set[str]:
        return {schema.get("type", ""), *(one.get("type", "") for one in schema.get("anyOf", ()))}

    properties = input_schema(operation)["properties"]
    return [name for name, schema in properties.items() if kinds(schema) & {"integer", "number"}]


@pytest.mark.parametrize("operation", [one for one in CATALOGUE if numbers(one)], ids=lambda operation: operation.id)
async def test_t13_true_is_no_number(still: tuple[World, Prepared], operation: AnyOperation) -> None:
    world, at = still
    before = what_there_is(world)
    for name in numbers(operation):
        error = await refused(world, operation, {**usual(operation, at), name: True})
        assert error is not None and error.code == "invalid_input" and name in error.message
    assert what_there_is(world) == before


async def test_t13_true_is_no_number_further_inside_either(still: tuple[World, Prepared]) -> None:
    world, at = still
    launch = next(one for one in CATALOGUE if one.id == "sandbox.launch")
    error = await refused(world, launch, {"space": at.space, "scope": {"limits": {"cpu_cores": True}}})
    assert (
        error is not None and error.message == "sandbox.launch: scope.limits.cpu_cores is a number, not true or false."
    )


def mutations(operation: AnyOperation, at: Prepared) -> Iterator[tuple[str, dict[str, Any]]]:
    good = usual(operation, at)
    for name in input_schema(operation)["properties"]:
        for kind, value in BAD_VALUES.items():
            yield f"{name}: {kind}", {**good, name: value}
    for name in good:
        yield f"{name}: missing", {key: value for key, value in good.items() if key != name}
    yield "nothing", {}
    for kind, value in BAD_VALUES.items():
        if isinstance(value, str) and value:
            yield f"name: {kind}", {**good, value: 1}


@pytest.mark.parametrize("operation", CATALOGUE, ids=lambda operation: operation.id)
async def test_every_argument_survives_every_bad_value(world: World, operation: AnyOperation) -> None:
    """Wrong types, too long, too deep, NUL, lone surrogates: refused in words, or harmless."""
    at = await prepared(world, "work")
    if operation.id in ("job.read", "job.wait"):
        # Nobody has to wait for what has ended.
        await world.call("job.stop", space=at.space, job=at.job)
    if operation.id == "network.forward":
        # It lasts as long as its sandbox; what is wrong with an argument is told all the same.
        await world.call("sandbox.stop", space=at.space, runtime=at.runtime)
    count = 0
    for kind, arguments in mutations(operation, at):
        if operation.id == "state.backup" and isinstance(arguments.get("path"), str):
            # What the operator names is written to; the tests keep to their own folder.
            arguments = {**arguments, "path": arguments["path"].replace("/var/backups", str(world.folder / "out"))}
        before = what_there_is(world)
        error = await refused(world, operation, arguments)
        count += error is not None
        if error is not None and error.code == "invalid_input":
            assert what_there_is(world) == before, kind
        if error is None and spaces_of(world) != {at.space}:
            at = await remade(world)
    assert count >= 8
    assert (await world.use(Audit).verify()).intact


def spaces_of(world: World) -> set[str]:
    return {row["id"] for row in world.database.read("SELECT id FROM spaces")}


async def remade(world: World) -> Prepared:
    for space in spaces_of(world):
        await world.govern("space.delete", space=space, force=True)
    return await prepared(world, "work")


@pytest.mark.parametrize(
    "operation",
    [one for one in CATALOGUE if one.id not in ("space.create", "space.list", "browser.methods", "pin.set")],
    ids=lambda one: one.id,
)
async def test_unknown_ids_are_absent_and_the_hint_says_where_to_look(
    still: tuple[World, Prepared], operation: AnyOperation
) -> None:
    world, _ = still
    if operation.audience is Audience.OPERATOR and not operation.example:
        return
    absent = {
        "key.create": {"label": "x", "principal": "nobody"},
        "principal.add": {"name": "operator"},
        "principal.grant": {"principal": "nobody"},
        "state.backup": {"path": "/nowhere/at/all.db"},
        "operation.call": {"operation": "thing.nonsense"},
    }
    before = what_there_is(world)
    error = await refused(world, operation, absent.get(operation.id, usual(operation, NOWHERE)))
    if operation.id == "audit.list":
        assert error is None
        return
    assert error is not None and error.code in ("not_found", "conflict", "wrong_state", "invalid_input")
    assert what_there_is(world) == before


async def test_a_stopped_space_says_so_to_every_operation_on_its_browser(world: World) -> None:
    at = await prepared(world, "work", browser=True, running=False)
    for operation in (one for one in CATALOGUE if one.noun == "browser" and one.in_space and one.needs_running_space):
        error = await refused(world, operation, usual(operation, at))
        denied = operation.refused_by(world.agent.scope) is not None
        assert error is not None and error.code == ("denied" if denied else "wrong_state"), operation.id
        assert denied or f"space_up space={at.space}" in error.hint, operation.id


@pytest.mark.parametrize(
    "operation", [one for one in CATALOGUE if one.in_space and one.noun != "browser"], ids=lambda one: one.id
)
async def test_a_stopped_space_says_how_to_start_it(world: World, operation: AnyOperation) -> None:
    at = await prepared(world, "work", running=False)
    error = await refused(world, operation, usual(operation, at))
    if operation.needs_running_space:
        assert error is not None and error.code == "wrong_state" and f"space_up space={at.space}" in error.hint
    elif operation.noun == "vault":
        assert error is not None and error.code == "denied", "nothing is mounted, running or not"
    else:
        assert error is None
    if operation.id != "space.delete":
        await world.call("space.up", space=at.space)
        await world.launched(at.space, alias="main")
        if operation.id != "sandbox.delete":
            assert (await world.call("sandbox.read_file", space=at.space, path="src/old.py")).content == "print(1)\n"


def end_with_all_inside(pid: int) -> None:
    """As the kernel ends a container; the fake's processes are the machine's own."""
    agent = psutil.Process(pid)
    for one in [agent, *agent.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            one.kill()


@pytest.mark.parametrize(
    "operation",
    # Browsers that die are in tests/browser/test_endings.py.
    [one for one in CATALOGUE if one.in_runtime and one.audience is Audience.EVERYONE and one.noun != "browser"],
    ids=lambda one: one.id,
)
async def test_a_dead_container_says_so_and_its_files_are_kept(world: World, operation: AnyOperation) -> None:
    at = await prepared(world, "work")
    live = world.use(LiveSandboxes).live(at.runtime)
    end_with_all_inside(int(live.container_id.removeprefix("fake-")))
    # Told at once, whether or not the death was noticed yet.
    error = await refused(world, operation, usual(operation, at))
    # A batch tells what went wrong in its events.
    fails = operation.needs_running_space and operation.id != "sandbox.run_operations"
    if fails:
        assert error is not None and error.code in ("wrong_state", "runtime_unavailable")
    if operation.id == "sandbox.delete":
        return
    state = "SELECT state FROM runtimes WHERE state IN ('failed', 'stopped')"
    await eventually(lambda: world.row(state) is not None)
    error = await refused(world, operation, usual(operation, at))
    if fails:
        assert error is not None and "sandbox_launch" in error.hint
    await world.launched(at.space, alias="main")
    assert (await world.call("sandbox.read_file", space=at.space, path="src/main.py")).content == "print(1)\n"


async def test_after_all_of_it_the_world_is_whole_and_usable(world: World) -> None:
    at = await prepared(world, "work")
    for operation in CATALOGUE:
        if operation.id not in ("state.backup", "space.delete", "principal.grant"):
            for arguments in (
                {**usual(operation, at), "nonsense": deep()},
                usual(operation, NOWHERE),
                {"space": "\udcff"},
            ):
                await refused(world, operation, arguments)
    await whole_and_usable(world)
