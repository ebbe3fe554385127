"""How long a browser stays, which one whoever launches gets, and what is left at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.port import SandboxLimits
from tests.browser.bare_hosts import Bare, Step, bare, host_of
from tests.browser.rigs import LIMITS, PATIENCE_S, eventually
from tests.browser.test_hosts import wanted
from tests.turns import some_turns

pytestmark = pytest.mark.anyio

SMALLER = replace(LIMITS, pids=LIMITS.pids - 1)

# How long it stays


async def test_a_browser_goes_with_its_last_context_and_not_before(tmp_path: Path) -> None:
    async with bare(tmp_path) as driver:
        first, second = await driver.open(wanted("rt_one")), await driver.open(wanted("rt_two"))
        (host,) = driver.made
        await first.close()
        await some_turns()
        assert not host.gone.done()
        await second.close()
        assert await host.gone == "nobody used it"
        await eventually(lambda: not driver._hosts)


OPENS: Callable[[Bare], Step] = lambda host: host.opening_one  # noqa: E731
RESIZES: Callable[[Bare], Step] = lambda host: host.resizing  # noqa: E731


@pytest.mark.parametrize(("step_of", "limits"), [(OPENS, LIMITS), (RESIZES, SMALLER)])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_browser_stays_for_whoever_is_about_to_have_a_context_and_goes_where_nothing_comes_of_it(
    tmp_path: Path, step_of: Callable[[Bare], Step], limits: SandboxLimits, fails: bool
) -> None:
    async with bare(tmp_path) as driver:
        first = await driver.open(wanted("rt_one"))
        (host,) = driver.made
        step = step_of(host)
        step.hold()
        opening = asyncio.ensure_future(driver.open(replace(wanted("rt_two"), limits=limits)))
        await eventually(lambda: step.waiting == 1)
        await first.close()
        await some_turns()
        # As the timer of an earlier close would.
        driver._give_up(host)
        assert not host.gone.done()
        step.go_on(and_fail=fails)
        if fails:
            with pytest.raises(RuntimeUnavailable, match="It fails"):
                await opening
            assert await host.gone == "nobody used it"
        else:
            assert (await opening) in host.contexts and not host.gone.done()


async def test_the_time_that_a_browser_stays_begins_anew_with_each_context(tmp_path: Path) -> None:
    async with bare(tmp_path) as driver:
        driver._linger_s = PATIENCE_S
        timers = []
        for _ in range(2):
            await (await driver.open(wanted())).close()
            timers.append(driver.made[0].lingering)
        first, second = timers
        assert first is not None and second is not None
        assert (first.cancelled(), second.cancelled()) == (True, False)


async def test_a_browser_that_has_ended_in_this_very_moment_is_given_to_nobody(tmp_path: Path) -> None:
    async with bare(tmp_path) as driver:
        await driver.open(wanted("rt_one"))
        driver.made[0].end("a test ended it")
        assert driver.made[0].pipe.broken.is_set()
        again = await driver.open(wanted("rt_two"))
        assert host_of(again) is driver.made[1]


# The pool


async def test_who_takes_a_browser_that_was_ready_has_the_next_one_made(tmp_path: Path) -> None:
    async with bare(tmp_path, pool_size=1) as driver:
        driver.starting.hold()
        both = [asyncio.ensure_future(driver.warm()) for _ in range(2)]
        await some_turns()
        driver.starting.go_on()
        await asyncio.gather(*both)
        assert driver.ready() == driver.made == driver.made[:1]
        await driver.open(wanted())
        await eventually(lambda: driver.ready() == driver.made[1:] != [])


async def test_one_that_was_ready_and_ended_is_made_again(tmp_path: Path) -> None:
    async with bare(tmp_path, pool_size=1) as driver:
        await driver.warm()
        driver.made[0].end("a test ended it")
        await eventually(lambda: driver.made[0].is_freed)
        await driver.warm()
        assert driver.ready() == driver.made[1:] != []


async def test_the_reason_why_none_can_be_ready_is_told_to_who_wants_it_and_else_to_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bare(tmp_path, pool_size=1) as driver:
        driver.starting.go_on(and_fail=True)
        with pytest.raises(RuntimeUnavailable, match="It fails"):
            await driver.warm()
        assert "no browser could be kept warm: It fails." in caplog.text
        assert driver.ready() == [] and [one.is_freed for one in driver.made] == [True, True]


async def test_one_whose_disk_is_larger_than_wanted_is_not_given(tmp_path: Path) -> None:
    async with bare(tmp_path, pool_size=1) as driver:
        await driver.warm()
        less = replace(LIMITS, disk_bytes=LIMITS.disk_bytes - 1)
        live = await driver.open(replace(wanted(), limits=less))
        assert host_of(live) is driver.made[1]
        assert driver.ready() == driver.made[:1]


@pytest.mark.parametrize("and_fail", [True, False])
async def test_one_that_cannot_be_resized_or_ends_meanwhile_goes_and_another_is_taken(
    tmp_path: Path, and_fail: bool
) -> None:
    async with bare(tmp_path, pool_size=2) as driver:
        await driver.warm()
        first, second = driver.made
        first.resizing.hold()
        smaller = asyncio.ensure_future(driver.open(replace(wanted("rt_one"), limits=SMALLER)))
        await eventually(lambda: first.resizing.waiting == 1)
        # Somebody else takes the other one meanwhile.
        other = await driver.open(replace(wanted("rt_two"), space_id="sp_two"))
        assert host_of(other) is second
        if not and_fail:
            first.end("a test ended it")
        first.resizing.go_on(and_fail=and_fail)
        assert host_of(await smaller) not in (first, second)
        await eventually(lambda: first.is_freed)


async def test_one_that_is_taken_for_somebody_who_leaves_goes(tmp_path: Path) -> None:
    async with bare(tmp_path, pool_size=1) as driver:
        await driver.warm()
        (host,) = driver.made
        host.resizing.hold()
        async with anyio.create_task_group() as group:
            group.start_soon(driver.open, replace(wanted(), limits=SMALLER))
            await eventually(lambda: host.resizing.waiting == 1)
            group.cancel_scope.cancel()
        assert await host.gone == "nobody waits for it"


async def test_one_gets_another_size_only_where_that_is_asked_for_and_never_another_disk(tmp_path: Path) -> None:
    async with bare(tmp_path, pool_size=1) as driver:
        await driver.warm()
        more = replace(LIMITS, disk_bytes=LIMITS.disk_bytes + 1)
        live = await driver.open(replace(wanted(), limits=more, own_process=True))
        host = host_of(live)
        assert host is driver.made[0]
        assert (host.limits, driver.made[0].resizing.times) == (LIMITS, 0)


# The end


async def test_nothing_is_left_at_the_end_and_nothing_begins_after_it(tmp_path: Path) -> None:
    async with bare(tmp_path, pool_size=1) as driver:
        await driver.warm()
        await driver.open(wanted())
        await eventually(lambda: len(driver.ready()) == 1)
        await driver.aclose()
        assert [one.is_freed for one in driver.made] == [True, True] and driver.playwright.is_closed
        with pytest.raises(RuntimeUnavailable, match="closed"):
            await driver.open(wanted())
        assert len(driver.made) == 2


@pytest.mark.parametrize("pool_size", [0, 1])
async def test_one_that_comes_up_during_the_end_goes_again(tmp_path: Path, pool_size: int) -> None:
    async with bare(tmp_path, pool_size=pool_size) as driver:
        driver.starting.hold()
        begun = asyncio.ensure_future(driver.warm() if pool_size else driver.open(wanted()))
        await eventually(lambda: driver.starting.waiting == 1)
        closing = asyncio.ensure_future(driver.aclose())
        await some_turns()
        assert closing.done() == (not pool_size)
        driver.starting.go_on()
        with pytest.raises(RuntimeUnavailable, match="closed"):
            await begun
        await closing
        assert [one.is_freed for one in driver.made] == [True]


async def test_one_that_cannot_be_freed_is_said_and_holds_up_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bare(tmp_path) as driver:
        await driver.open(wanted())
        driver.made[0].freeing.go_on(and_fail=True)
        await driver.aclose()
        assert "a browser could not be freed: It fails." in caplog.text
