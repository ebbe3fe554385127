"""Nothing that is asked for goes beyond the ceiling, in whatever order (T08)."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.core.scope import Scope, covers, narrow
from mcp_spaces.errors import ExceedsCeiling
from mcp_spaces.identity.model import AGENT_SCOPE
from mcp_spaces.spaces.model import Runtime, Space
from mcp_spaces.spaces.port import Runtimes, Spaces
from tests.security.app import LITTLE, World, refusal


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
            await _check_scopes(world, before, space, granted_before=granted, kind=kind)
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


async def _check_scopes(world: World, before: Space, space_id: str, *, granted_before: Any, kind: str) -> None:
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
    runtimes = world.use(Runtimes).of_space(space_id)
    # The one that has seen most changes, and the one that was made under the latest.
    for runtime in {one.id: one for one in (*runtimes[:1], *runtimes[-1:])}.values():
        effective = await _effective(world, runtime)
        assert covers(space.ceiling, effective)
        assert covers(world.agent.scope, effective)
        assert covers(runtime.ceiling, effective)


def _gain_is_granted(before: Space, after: Space, granted: Any) -> bool:
    """Each part that was not there before is the principal's own."""
    from mcp_spaces.core.scope import excess

    return not set(excess(before.ceiling, after.ceiling)) & set(excess(granted, after.ceiling))


class Nothing(BaseModel):
    pass


SEEN: list[Scope] = []


async def _see(context: Context, _: InRuntime) -> Nothing:
    SEEN.append(context.scope)
    return Nothing()


PROBE = Operation(
    id="sandbox.see", summary="What a call may reach.", input=InRuntime, output=Nothing, effect=Effect.OBSERVES, handler=_see
)  # fmt: skip


async def _effective(world: World, runtime: Runtime) -> Scope:
    """What a call in there is handed, by the pipeline itself."""
    operations = cast(dict[str, AnyOperation], world.app.pipeline.operations)
    operations[PROBE.id] = PROBE
    await world.call(PROBE.id, space=runtime.space_id, runtime=runtime.id)
    return SEEN.pop()


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
