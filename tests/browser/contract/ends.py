"""Whatever dies under a browser of any driver: it is said, and the next one starts."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

import anyio
import pytest
from playwright.async_api import Error

from tests.browser.rigs import (
    PATIENCE_S,
    Opener,
    alive,
    below,
    chromium_of,
    end_place,
    eventually,
    is_playwrights,
    reason_of,
    root_of,
)


class Ends:
    async def test_a_page_that_crashes_leaves_its_context_usable(self, opener: Opener) -> None:
        live = await opener.open()
        page = await opener.page(live)
        crashed = asyncio.Event()
        page.on("crash", lambda _: crashed.set())
        session = await live.context.new_cdp_session(page)
        asking = asyncio.ensure_future(session.send("Page.crash"))
        with anyio.fail_after(PATIENCE_S):
            await crashed.wait()
        asking.cancel()
        assert (await (await opener.page(live)).title()) == ""

    async def test_a_renderer_that_is_killed_crashes_its_page_alone(self, opener: Opener) -> None:
        live = await opener.open("sp_killed")
        page = await opener.page(live)
        crashed = asyncio.Event()
        page.on("crash", lambda _: crashed.set())
        for pid in chromium_of(live, "renderer"):
            os.kill(pid, signal.SIGKILL)
        with anyio.fail_after(PATIENCE_S):
            await crashed.wait()
        await opener.page(live)

    async def test_a_browser_that_is_killed_says_so_and_another_starts(self, opener: Opener) -> None:
        live = await opener.open("sp_killed")
        beside = await opener.open("sp_killed")
        page = await opener.page(live)
        (pid,) = chromium_of(live)
        os.kill(pid, signal.SIGKILL)
        assert "crashed" in await reason_of(live)
        assert "crashed" in await reason_of(beside)
        await eventually(page.is_closed)
        # Playwright may answer what is under way with nothing at all; it fails from then on.
        with suppress(Error), anyio.fail_after(PATIENCE_S):
            await page.title()
        with pytest.raises(Error), anyio.fail_after(PATIENCE_S):
            await page.title()
        with anyio.fail_after(PATIENCE_S):
            await live.close()
        await opener.page(await opener.open("sp_killed"))

    async def test_whatever_it_runs_in_may_go_as_well(self, opener: Opener) -> None:
        live = await opener.open("sp_gone")
        await opener.page(live)
        pids = below(root_of(live))
        end_place(live)
        assert await reason_of(live)
        await eventually(lambda: not any(alive(pid) for pid in pids))
        await opener.page(await opener.open("sp_gone"))

    async def test_playwrights_own_driver_may_go_as_well(self, opener: Opener) -> None:
        live = await opener.open("sp_driver")
        page = await opener.page(live)
        for pid in below(os.getpid()):
            if is_playwrights(pid):
                os.kill(pid, signal.SIGKILL)
        assert "Playwright" in await reason_of(live)
        with pytest.raises(Exception, match="closed"), anyio.fail_after(PATIENCE_S):
            await page.title()
        with anyio.fail_after(PATIENCE_S):
            await live.close()
        await opener.page(await opener.open("sp_driver"))
