"""Warm sandboxes: each handed out once or freed, whatever happens while it is being made."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import cast

import anyio
import pytest

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.docker.pool import MAX_PROFILES, Pool, Profile, Warm
from mcp_spaces.sandbox.port import SandboxLimits
from mcp_spaces.sandbox.stream.attached import AttachedSandbox

pytestmark = pytest.mark.anyio
LOG = logging.getLogger("tests.sandbox.pool")
PATIENCE_S = 10


class Waiting:
    """As much of a sandbox as a pool looks at."""

    def __init__(self, number: int) -> None:
        self.container_id = f"container-{number}"
        self.alive = True
        self.stops = 0
        self.leaves = anyio.Event()
        self.leaves.set()

    async def stop(self) -> None:
        self.alive = False
        self.stops += 1
        await self.leaves.wait()


class Maker:
    """Makes them; `gate` holds it up."""

    def __init__(self) -> None:
        self.made: list[Waiting] = []
        self.gate = anyio.Event()
        self.gate.set()
        self.error: RuntimeUnavailable | None = None

    async def __call__(self, profile: Profile) -> Warm:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.made.append(Waiting(len(self.made)))
        return Warm(f"pool-{len(self.made)}", cast(AttachedSandbox, self.made[-1]))


def profile(number: int = 0) -> Profile:
    return Profile(f"sha256:{number}", SandboxLimits())


def pool_of(make: Callable[[Profile], Awaitable[Warm]], *, size: int = 1) -> Pool:
    return Pool(size=size, make=make, log=LOG)


async def filled(pool: Pool, *wanted: Profile) -> None:
    for one in wanted:
        pool.want(one)
    with anyio.fail_after(PATIENCE_S):
        await pool.filled()


async def closed(pool: Pool) -> None:
    with anyio.fail_after(PATIENCE_S):
        await pool.aclose()


async def test_each_is_handed_out_once_and_to_its_own_profile() -> None:
    pool = pool_of(Maker(), size=2)
    await filled(pool, profile())
    assert pool.held == {"pool-1", "pool-2"}
    assert pool.containers == {"container-0", "container-1"}
    assert pool.take(profile(1)) is None
    first, second = pool.take(profile()), pool.take(profile())
    assert first is not None and second is not None and first.pool_id != second.pool_id
    assert pool.take(profile()) is None
    assert (pool.held, pool.containers) == (set(), set())
    await closed(pool)


async def test_no_more_are_made_than_there_is_room_for() -> None:
    make = Maker()
    pool = pool_of(make)
    await filled(pool, profile(), profile(), profile())
    await filled(pool, profile())
    assert len(make.made) == 1
    nothing = pool_of(make, size=0)
    await filled(nothing, profile())
    assert len(make.made) == 1
    await closed(pool)


async def test_one_that_died_is_freed_and_the_next_is_handed_out() -> None:
    make = Maker()
    pool = pool_of(make, size=2)
    await filled(pool, profile())
    make.made[0].alive = False
    warm = pool.take(profile())
    assert warm is not None and warm.sandbox is cast(AttachedSandbox, make.made[1])
    await closed(pool)
    assert [one.stops for one in make.made] == [1, 0]


async def test_a_pool_is_busy_until_what_it_frees_is_gone() -> None:
    make = Maker()
    pool = pool_of(make)
    await filled(pool, profile())
    make.made[0].alive, make.made[0].leaves = False, anyio.Event()
    assert not pool.busy
    assert pool.take(profile()) is None
    assert pool.busy
    make.made[0].leaves.set()
    await closed(pool)
    assert not pool.busy


async def test_a_pool_that_is_closed_or_has_no_room_begins_nothing_and_holds_nothing() -> None:
    pool, nothing = pool_of(Maker()), pool_of(Maker(), size=0)
    await filled(pool, profile())
    await closed(pool)
    assert pool.held == set()
    for each in (pool, nothing):
        each.want(profile())
        assert not each.busy


async def test_of_many_profiles_those_used_last_are_kept() -> None:
    make = Maker()
    pool = pool_of(make)
    await filled(pool, *map(profile, range(MAX_PROFILES)))
    await filled(pool, profile(0))
    await filled(pool, profile(MAX_PROFILES))
    assert pool.take(profile(1)) is None
    assert pool.take(profile(0)) is not None
    await closed(pool)
    assert sum(one.stops for one in make.made) == MAX_PROFILES


async def test_what_is_made_for_a_profile_that_nobody_wants_any_more_is_freed() -> None:
    make = Maker()
    pool = pool_of(make)
    make.gate = anyio.Event()
    pool.want(profile())
    await anyio.wait_all_tasks_blocked()
    for number in range(MAX_PROFILES):
        pool.want(profile(number + 1))
    make.gate.set()
    with anyio.fail_after(PATIENCE_S):
        await pool.filled()
    assert len(pool.held) == MAX_PROFILES
    await closed(pool)
    assert [one.stops for one in make.made] == [1] * (MAX_PROFILES + 1)


async def test_closing_frees_what_waits_and_what_is_being_made_and_begins_nothing() -> None:
    make = Maker()
    pool = pool_of(make)
    await filled(pool, profile())
    make.gate = anyio.Event()
    pool.want(profile(1))
    await anyio.wait_all_tasks_blocked()
    assert pool.busy
    async with anyio.create_task_group() as group:
        group.start_soon(closed, pool)
        await anyio.wait_all_tasks_blocked()
        make.gate.set()
    assert [one.stops for one in make.made] == [1, 1]
    assert not pool.busy
    await filled(pool, profile(2))
    assert len(make.made) == 2


async def test_after_a_failure_it_is_tried_again_when_somebody_asks() -> None:
    make = Maker()
    pool = pool_of(make)
    make.error = RuntimeUnavailable("The engine is gone.", hint="Start it.")
    await filled(pool, profile())
    assert pool.take(profile()) is None
    make.error = None
    await filled(pool, profile())
    assert pool.take(profile()) is not None
    await closed(pool)
