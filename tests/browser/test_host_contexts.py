"""Contexts that a browser does not make, does not close, or closes by itself."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import anyio
import pytest

from mcp_spaces.browser.driver.host import HostedContext, WayOut
from mcp_spaces.errors import RuntimeUnavailable
from tests.browser.bare_hosts import Driven, Made, Stubborn
from tests.browser.rigs import PATIENCE_S, eventually
from tests.browser.test_hosts import wanted
from tests.turns import some_turns

pytestmark = pytest.mark.anyio


async def test_a_browser_that_makes_no_context_in_time_is_given_up() -> None:
    host = Driven(Stubborn())
    with pytest.raises(RuntimeUnavailable, match="gave no context: it does not answer"):
        await host.context(wanted())
    assert host.gone.done() and host.gone.result() == "it made no context in time"
    assert host.ways == set()


async def test_a_browser_that_closes_no_context_in_time_is_given_up() -> None:
    host = Driven(Stubborn())
    host.contexts.add(host.live)
    await host.live.close()
    assert host.gone.done() and host.gone.result() == "it did not close a context in time"
    assert host.contexts == set()


async def test_a_browser_that_refuses_a_context_goes_on_and_its_first_words_are_told() -> None:
    chromium = Stubborn()
    chromium.hangs = False
    host = Driven(chromium)
    with pytest.raises(RuntimeUnavailable) as refused:
        await host.context(wanted())
    assert refused.value.message == "The browser gave no context: Protocol error"
    assert (host.gone.done(), host.ways) == (False, set())
    # One that cannot be closed any more is no reason either to leave what it had.
    host.ways.add(1)
    await host.live.close()
    assert (host.gone.done(), host.ways) == (False, set())


async def test_further_contexts_have_nothing_of_the_profile_and_go_with_the_first() -> None:
    chromium = Made({})
    host = Driven(chromium)
    for _ in range(2):
        await host.live.another()
    first, second = chromium.made
    assert first.options == second.options == {"locale": "de-DE"}
    gone: list[Made] = []
    for one in (chromium, *chromium.made):
        one.listeners.append(gone.append)
    await first.close()
    for _ in range(2):
        await host.live.close()
    assert gone == [first, second, chromium]


async def test_closing_goes_on_where_nobody_waits_for_it_any_more() -> None:
    host = Driven(Made({}))
    host.context_s = PATIENCE_S
    host.contexts.add(host.live)
    may_close = asyncio.Event()
    host.live.context.close = may_close.wait  # type: ignore[method-assign,assignment]
    closing = asyncio.ensure_future(host.live.close())
    await some_turns()
    closing.cancel()
    await some_turns()
    assert host.contexts
    may_close.set()
    await eventually(lambda: not host.contexts)


async def test_a_browser_keeps_nothing_of_a_context_that_is_closed() -> None:
    host, made = Driven(Made({})), Made({})
    anything: Any = made
    live = HostedContext(host, anything, runtime_id="rt_two", way=WayOut(2), options={})
    await live.close()
    kept = weakref.ref(live)
    del live, made, anything
    await some_turns()
    gc.collect()
    assert kept() is None


async def test_a_context_that_chromium_closed_by_itself_is_told() -> None:
    chromium = Made({})
    host = Driven(chromium)
    await chromium.close()
    with anyio.fail_after(PATIENCE_S):
        assert await host.live.closed() == "its context was closed"
