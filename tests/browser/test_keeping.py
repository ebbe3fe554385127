"""A profile that is put away while its browser goes on: the browser is a fake of what is asked of it, which is little."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from mcp_spaces.browser.keeping import Profiles
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.store import BrowserStore
from mcp_spaces.errors import Conflict, WrongState
from tests.browser.rigs import PATIENCE_S, eventually
from tests.turns import some_turns

pytestmark = pytest.mark.anyio


@dataclass
class Remembering:
    """A browser, its context, and where profiles are kept, in one."""

    cookies_now: list[str] = field(default_factory=list)
    origins_now: list[str] = field(default_factory=list)
    kept: list[Mapping[str, Any]] = field(default_factory=list)
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    read_on: asyncio.Event = field(default_factory=asyncio.Event)
    reads: int = 0
    held: asyncio.Event | None = None
    """The next time that it is stored takes until then."""
    hangs: bool = False
    fails: Exception | None = None
    secret_inside = False

    @property
    def live(self) -> Remembering:
        return self

    context = live

    async def cookies(self) -> list[str]:
        if self.hangs:
            await asyncio.Event().wait()
        return list(self.cookies_now)

    async def storage_state(self, *, indexed_db: bool) -> dict[str, Any]:
        self.reads += 1
        if self.fails is not None:
            raise self.fails
        state = {"cookies": list(self.cookies_now)}
        if self.origins_now:
            state["origins"] = list(self.origins_now)
        self.reading.set()
        await self.read_on.wait()
        return state

    async def profile(self, space_id: str, name: str) -> None:
        if self.fails is not None:
            raise self.fails

    async def keep_profile(self, space_id: str, name: str, state: Mapping[str, Any]) -> None:
        held, self.held = self.held, None
        if held is not None:
            await held.wait()
        self.kept.append(state)


async def test_what_an_operation_changes_while_the_profile_is_being_read_is_kept_too() -> None:
    browser = Remembering()
    live = cast(LiveBrowser, browser)
    profiles = Profiles(cast(BrowserStore, browser), alias_of=str, later_s=0)
    await profiles.claim("sp_one", "work", runtime_id="rt_one")
    browser.cookies_now.append("first")
    profiles.stirred("rt_one", live)
    await eventually(browser.reading.is_set)
    browser.cookies_now.append("second")
    profiles.stirred("rt_one", live)
    browser.read_on.set()
    await eventually(lambda: browser.kept == [{"cookies": ["first"]}, {"cookies": ["first", "second"]}])
    profiles.release("rt_one")


async def test_what_changes_beside_the_cookies_is_kept_in_its_time_without_another_operation() -> None:
    browser = Remembering(["a cookie"])
    browser.read_on.set()
    live = cast(LiveBrowser, browser)
    profiles = Profiles(cast(BrowserStore, browser), alias_of=str, later_s=0, whole_s=0.5)
    await profiles.claim("sp_one", "work", runtime_id="rt_one")
    await profiles.keep("rt_one", live)
    browser.origins_now.append("a token")
    profiles.stirred("rt_one", live)
    await eventually(lambda: len(browser.kept) == 2)
    assert browser.kept[1] == {"cookies": ["a cookie"], "origins": ["a token"]}
    profiles.release("rt_one")


async def test_a_profile_that_cannot_be_opened_is_free_again() -> None:
    browser = Remembering(fails=WrongState("The vault is locked.", hint="Unlock it."))
    profiles = Profiles(cast(BrowserStore, browser), alias_of=str)
    with pytest.raises(WrongState, match="locked"):
        await profiles.claim("sp_one", "work", runtime_id="rt_one")
    browser.fails = None
    await profiles.claim("sp_one", "work", runtime_id="rt_two")
    with pytest.raises(Conflict, match="rt_two"):
        await profiles.claim("sp_one", "work", runtime_id="rt_three")


async def test_what_has_not_changed_is_neither_read_nor_stored_again() -> None:
    browser = Remembering(["a cookie"])
    browser.read_on.set()
    live = cast(LiveBrowser, browser)
    profiles = Profiles(cast(BrowserStore, browser), alias_of=str, later_s=0, whole_s=PATIENCE_S)
    await profiles.claim("sp_one", "work", runtime_id="rt_one")
    for _ in range(2):
        await profiles.keep("rt_one", live)
    assert (browser.reads, len(browser.kept)) == (2, 1)
    for _ in range(2):
        profiles.stirred("rt_one", live)
        await some_turns()
    assert browser.reads == 2
    browser.cookies_now.append("another")
    await eventually(lambda: len(browser.kept) == 2)
    assert (browser.reads, browser.kept[1]) == (3, {"cookies": ["a cookie", "another"]})
    profiles.release("rt_one")


async def test_a_profile_that_was_released_is_left_alone() -> None:
    browser = Remembering(["a cookie"])
    live = cast(LiveBrowser, browser)
    profiles = Profiles(cast(BrowserStore, browser), alias_of=str, later_s=0)
    await profiles.claim("sp_one", "work", runtime_id="rt_one")
    for _ in range(2):
        profiles.stirred("rt_one", live)
    profiles.release("rt_one")
    profiles.stirred("rt_one", live)
    await some_turns()
    assert browser.reads == 0


async def test_what_was_read_later_is_stored_later() -> None:
    browser = Remembering(["first"], held=(held := asyncio.Event()))
    browser.read_on.set()
    live = cast(LiveBrowser, browser)
    profiles = Profiles(cast(BrowserStore, browser), alias_of=str, later_s=0)
    await profiles.claim("sp_one", "work", runtime_id="rt_one")
    profiles.stirred("rt_one", live)
    await eventually(lambda: browser.held is None)
    browser.cookies_now.append("second")
    keeping = asyncio.ensure_future(profiles.keep("rt_one", live))
    await some_turns()
    held.set()
    await keeping
    assert browser.kept == [{"cookies": ["first"]}, {"cookies": ["first", "second"]}]
    profiles.release("rt_one")


async def test_a_browser_that_does_not_tell_its_cookies_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    browser = Remembering(hangs=True)
    profiles = Profiles(cast(BrowserStore, browser), alias_of=str, later_s=0)
    await profiles.claim("sp_one", "work", runtime_id="rt_one")
    profiles.stirred("rt_one", cast(LiveBrowser, browser))
    await eventually(lambda: "is kept later: TimeoutError" in caplog.text)
    profiles.release("rt_one")


async def test_l01_nothing_is_read_while_a_secret_is_in_a_page() -> None:
    browser = Remembering(["a cookie"])
    browser.read_on.set()
    browser.secret_inside = True
    profiles = Profiles(cast(BrowserStore, browser), alias_of=str, later_s=0)
    await profiles.claim("sp_one", "work", runtime_id="rt_one")
    profiles.stirred("rt_one", cast(LiveBrowser, browser))
    await some_turns()
    assert browser.reads == 0
    profiles.release("rt_one")


async def test_a_browser_that_cannot_be_read_now_is_read_after_the_next_operation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    browser = Remembering(["a cookie"])
    browser.read_on.set()
    live = cast(LiveBrowser, browser)
    profiles = Profiles(cast(BrowserStore, browser), alias_of=str, later_s=0)
    await profiles.claim("sp_one", "work", runtime_id="rt_one")
    browser.fails = RuntimeError("closed")
    profiles.stirred("rt_one", live)
    await eventually(lambda: "profile work of sp_one is kept later: RuntimeError" in caplog.text)
    browser.fails = None
    profiles.stirred("rt_one", live)
    await eventually(lambda: browser.kept == [{"cookies": ["a cookie"]}])
    profiles.release("rt_one")
