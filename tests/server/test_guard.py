"""Keys that end, and how much one key may do at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any, cast

import anyio
import pytest

from mcp_spaces.core.caller import Caller
from mcp_spaces.errors import QuotaExceeded, WrongState
from mcp_spaces.server.authentication import Guard, Visitor, visited_by, visitor
from mcp_spaces.server.limits import Lane, Lanes
from mcp_spaces.server.port import Application
from tests.server.small_app import caller

KEYED, OTHER = caller("keyed", key_id="key_1"), caller("other", key_id="key_2")


class Keys:
    """The part of the app that knows which keys are valid."""

    def __init__(self) -> None:
        self.ended: set[str | None] = set()
        self.damaged: set[str | None] = set()
        self.asked: list[str | None] = []

    async def still_valid(self, who: Caller) -> bool:
        self.asked.append(who.key_id)
        if who.key_id in self.damaged:
            raise WrongState("The row is damaged.", hint="")
        return who.key_id not in self.ended


@asynccontextmanager
async def guarded() -> AsyncIterator[tuple[Guard, Keys]]:
    keys = Keys()
    guard = Guard(cast(Application, keys), check_s=60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(guard.run)
        yield guard, keys
        tasks.cancel_scope.cancel()


async def looked(guard: Guard) -> None:
    guard.look_now()
    await anyio.wait_all_tasks_blocked()


async def test_t06_a_key_that_cannot_be_read_opens_nothing_and_others_go_on() -> None:
    ended: list[str] = []
    async with guarded() as (guard, keys):
        keys.damaged = {"key_1"}
        for who, name in ((KEYED, "damaged"), (OTHER, "other")):
            guard.follow(who, lambda name=name: ended.append(name))  # type: ignore[misc]
        await looked(guard)
        assert ended == ["damaged"]
        keys.ended = {"key_2"}
        await looked(guard)
        assert ended[-1] == "other"


async def test_t06_only_what_an_ended_key_opened_ends_and_each_key_is_asked_for_once() -> None:
    ended: list[str] = []
    async with guarded() as (guard, keys):
        keys.ended = {None, "key_1"}
        for who, name in ((KEYED, "first"), (OTHER, "kept"), (KEYED, "second"), (caller("local"), "local")):
            guard.follow(who, lambda name=name: ended.append(name))  # type: ignore[misc]
        with guard.following(caller("local")) as local:
            await looked(guard)
        assert (ended, local.cancel_called) == (["first", "second"], False)
        assert sorted(map(str, keys.asked)) == ["key_1", "key_2"]


async def test_what_is_no_longer_followed_is_left_alone() -> None:
    ended: list[str] = []
    async with guarded() as (guard, keys):
        stop = guard.follow(KEYED, lambda: ended.append("stopped"))
        with guard.following(KEYED) as scope:
            pass
        stop()
        stop()
        keys.ended = {"key_1"}
        await looked(guard)
        assert (ended, keys.asked, scope.cancel_called) == ([], [], False)


async def test_a_look_is_taken_only_when_it_is_time_or_asked_for() -> None:
    async with guarded() as (guard, keys):
        guard.follow(KEYED, lambda: None)
        await anyio.wait_all_tasks_blocked()
        assert keys.asked == []
        await looked(guard)
        assert keys.asked == ["key_1"]
        guard.follow(OTHER, lambda: None)
        await anyio.wait_all_tasks_blocked()
        assert keys.asked == ["key_1"]


async def test_nothing_is_served_without_a_caller_and_a_visit_ends_where_it_began() -> None:
    with pytest.raises(LookupError):
        visitor()
    outer, inner = Visitor(KEYED, Lane(1, 1)), Visitor(OTHER, Lane(1, 1))
    with visited_by(outer):
        with visited_by(inner):
            assert visitor() is inner
        assert visitor() is outer


@pytest.mark.parametrize("kind", ["call", "stream"])
def test_d11_a_lane_has_room_for_so_many_and_again_once_one_ended(kind: Any) -> None:
    lane = Lanes(calls_max=2, streams_max=2).new()
    with ExitStack() as running:
        for _ in range(2):
            running.enter_context(getattr(lane, kind)())
        assert not lane.is_idle
        with pytest.raises(QuotaExceeded), getattr(lane, kind)():
            pass
    assert lane.is_idle
    with getattr(lane, kind)():
        assert not lane.is_idle


@pytest.mark.parametrize("kind", ["call", "stream"])
def test_lanes_that_are_not_used_any_more_are_forgotten_and_busy_ones_never(kind: Any) -> None:
    lanes = Lanes(calls_max=1, streams_max=1)
    busy, idle = lanes.of("busy"), lanes.of("idle")
    with getattr(busy, kind)():
        for number in range(1_000):
            lanes.of(f"key_{number}")
        assert lanes.of("busy") is busy
        assert lanes.of("idle") is not idle
