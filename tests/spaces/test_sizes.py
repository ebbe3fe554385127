"""What runtimes take of a space's limits: processors and memory while they run, disk as long as they are there."""

from __future__ import annotations

import pytest

from mcp_spaces.core.limits import GIB, Limits
from mcp_spaces.core.scope import EVERYTHING, Scope
from mcp_spaces.errors import ExceedsCeiling
from mcp_spaces.spaces.model import SIZES, Runtime, RuntimeKind, RuntimeState, free_alias, sized
from mcp_spaces.spaces.quotas import used_by

SIZE = Limits(cpu_cores=0.5, memory_bytes=GIB, disk_bytes=2 * GIB, pids=64)


def runtime(state: RuntimeState) -> Runtime:
    scope = EVERYTHING.model_copy(update={"limits": SIZE})
    return Runtime(
        id="rt_1",
        space_id="sp_1",
        kind=RuntimeKind.SANDBOX,
        alias="main",
        state=state,
        ceiling=scope,
        created_at=0,
    )


@pytest.mark.parametrize("state", RuntimeState)
def test_what_is_not_at_rest_takes_all_and_what_is_only_its_disk(state: RuntimeState) -> None:
    at_rest = state in {RuntimeState.STOPPED, RuntimeState.FAILED}
    disk = Limits(disk_bytes=4 * GIB)
    running = Limits(disk_bytes=4 * GIB, cpu_cores=1.0, memory_bytes=2 * GIB, runtimes=2)
    assert used_by([runtime(state), runtime(state)]) == (disk if at_rest else running)


@pytest.mark.parametrize("size", SIZES)
def test_a_runtime_is_larger_than_limits_where_any_of_its_sizes_is(size: str) -> None:
    assert not runtime(RuntimeState.ACTIVE).exceeds(SIZE)
    lowered = SIZE.model_copy(update={size: getattr(SIZE, size) / 2})
    assert runtime(RuntimeState.ACTIVE).exceeds(lowered)


@pytest.mark.parametrize("size", SIZES)
def test_who_asks_for_nothing_gets_what_there_is_of_each_size(size: str) -> None:
    little = EVERYTHING.model_copy(update={"limits": EVERYTHING.limits.model_copy(update={size: 1})})
    found = sized(little, SIZE, kind=RuntimeKind.SANDBOX)
    assert found == little.model_copy(
        update={
            "limits": little.limits.model_copy(
                update={**{one: getattr(SIZE, one) for one in SIZES}, size: min(1, getattr(SIZE, size))}
            )
        }
    )
    none = Scope(limits=SIZE.model_copy(update={size: 0}))
    with pytest.raises(ExceedsCeiling) as refused:
        sized(none, SIZE, kind=RuntimeKind.SANDBOX)
    assert refused.value.key == f"limits.{size}"


def test_an_alias_that_is_free_is_taken_and_else_the_next_number() -> None:
    assert free_alias([], "main") == "main"
    assert free_alias(["main"], "main") == "main-2"
    assert free_alias({"main", "main-2", "main-4"}, "main") == "main-3"
