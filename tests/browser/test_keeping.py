"""A profile that is put away while its browser goes on: the browser is a fake of what is asked of it, which is little."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from mcp_spaces.browser.keeping import Profiles
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.store import BrowserStore
from tests.browser.rigs import eventually

pytestmark = pytest.mark.anyio


@dataclass
class Remembering:
    """A browser, its context, and where profiles are kept, in one."""

    cookies_now: list[str] = field(default_factory=list)
    origins_now: list[str] = field(default_factory=list)
    kept: list[Mapping[str, Any]] = field(default_factory=list)
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    read_on: asyncio.Event = field(default_factory=asyncio.Event)
    secret_inside = False

    @property
    def live(self) -> Remembering:
        return self

    context = live

    async def cookies(self) -> list[str]:
        return list(self.cookies_now)

    async def storage_state(self, *, indexed_db: bool) -> dict[str, Any]:
        state = {"cookies": list(self.cookies_now)}
        if self.origins_now:
            state["origins"] = list(self.origins_now)
        self.reading.set()
        await self.read_on.wait()
        return state

    async def profile(self, space_id: str, name: str) -> None:
        return None

    async def keep_profile(self, space_id: str, name: str, state: Mapping[str, Any]) -> None:
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
