"""What every browser driver keeps apart and together: spaces, contexts, windows, downloads."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import anyio
import pytest
from playwright.async_api import Error

from mcp_spaces.browser.driver.host import HostedContext
from mcp_spaces.browser.model import Viewport
from mcp_spaces.browser.pages.reading import read
from mcp_spaces.browser.pages.worlds import OutOfReachError, worlds
from mcp_spaces.errors import NotFound, RuntimeUnavailable, WrongState
from tests.browser.rigs import PATIENCE_S, Opener, chromium_of, held_in, listening_in, reason_of
from tests.browser.small_net import SmallNet

COUNT = (
    "() => [document.cookie, localStorage.length, (() => { try { return indexedDB ? 1 : 0 } catch { return 0 } })()]"
)


class Contexts:
    async def test_contexts_of_one_space_share_a_browser_and_nothing_else(self, opener: Opener) -> None:
        one, two = await opener.open(), await opener.open()
        assert one.browser is two.browser
        page = await opener.page(one)
        await page.evaluate("() => { document.cookie = 'who=one; max-age=999'; localStorage.setItem('who', 'one') }")
        assert (await (await opener.page(two)).evaluate(COUNT))[:2] == ["", 0]
        assert (await (await opener.page(one)).evaluate(COUNT))[:2] == ["who=one", 1]

    async def test_contexts_of_two_spaces_are_in_two_browsers(self, opener: Opener) -> None:
        one, two = await opener.open("sp_one"), await opener.open("sp_two")
        assert one.browser is not two.browser
        assert set(chromium_of(one)).isdisjoint(chromium_of(two))

    async def test_a_context_with_a_process_of_its_own_is_alone_in_it(self, opener: Opener) -> None:
        shared, alone = await opener.open(), await opener.open(own_process=True)
        assert set(chromium_of(shared)).isdisjoint(chromium_of(alone))
        assert (await opener.open()).browser is not alone.browser

    async def test_locale_time_zone_and_size_are_as_asked_for(self, opener: Opener) -> None:
        live = await opener.open(locale="de-DE", timezone="Asia/Tokyo", viewport=Viewport(width=640, height=480))
        found = await (await opener.page(live)).evaluate(
            "() => [navigator.language, Intl.DateTimeFormat().resolvedOptions().timeZone, innerWidth, innerHeight]"
        )
        assert found == ["de-DE", "Asia/Tokyo", 640, 480]

    async def test_what_a_context_remembers_can_be_given_to_another(self, opener: Opener) -> None:
        live = await opener.open()
        page = await opener.page(live)
        await page.evaluate(
            """async () => {
                document.cookie = 'who=one; max-age=999'
                localStorage.setItem('place', 'here')
                await new Promise(done => {
                    const asked = indexedDB.open('box', 1)
                    asked.onupgradeneeded = () => asked.result.createObjectStore('shelf').put('kept', 'thing')
                    asked.onsuccess = done
                })
            }"""
        )
        state = await live.context.storage_state(indexed_db=True)
        await live.close()
        later = await opener.page(await opener.open(storage=json.loads(json.dumps(state))))
        assert await later.evaluate("() => [document.cookie, localStorage.getItem('place')]") == ["who=one", "here"]
        assert (
            await later.evaluate(
                """() => new Promise(done => {
                indexedDB.open('box').onsuccess = event => {
                    event.target.result.transaction('shelf').objectStore('shelf').get('thing').onsuccess =
                        found => done(found.target.result)
                }
            })"""
            )
            == "kept"
        )

    async def test_a_further_context_that_nobody_waits_for_goes_again(self, opener: Opener) -> None:
        live = await opener.open()
        before = await held_in(live.browser)
        making = asyncio.ensure_future(live.another())
        # It is under way by then, and takes longer.
        await asyncio.wait({making}, timeout=0.001)
        making.cancel()
        with suppress(asyncio.CancelledError):
            await making
        kept = await live.another()
        await kept.close()
        with anyio.fail_after(PATIENCE_S):
            while (now := await held_in(live.browser)) != before:
                pass
        assert now == before

    async def test_a_further_context_that_comes_too_late_goes_again(self, opener: Opener) -> None:
        beside, live = await opener.open(), await opener.open()
        before = await held_in(beside.browser)
        making = asyncio.ensure_future(live.another())
        await asyncio.sleep(0)
        await live.close()
        with pytest.raises((RuntimeUnavailable, Error)), anyio.fail_after(PATIENCE_S):
            await making
        with anyio.fail_after(PATIENCE_S):
            while (now := await held_in(beside.browser))[0] >= before[0]:
                pass
        assert now[0] == before[0] - 1

    async def test_what_a_context_leaves_goes_also_where_chromium_closed_it_by_itself(self, opener: Opener) -> None:
        beside, live = await opener.open(), await opener.open()
        assert isinstance(live, HostedContext)
        (browser,) = chromium_of(beside)
        further = await live.another()
        pages = [await one.new_page() for one in (live.context, further)]
        commands = await beside.browser.new_browser_cdp_session()
        for page in pages:
            session = await page.context.new_cdp_session(page)
            told = await session.send("Target.getTargetInfo")
            await commands.send(
                "Target.disposeBrowserContext", {"browserContextId": told["targetInfo"]["browserContextId"]}
            )
        assert live._way.port in listening_in(browser)
        with anyio.fail_after(PATIENCE_S):
            await live.close()
        assert live._way.port not in listening_in(browser)
        await opener.page(beside)

    async def test_b04_what_is_asked_of_a_document_is_never_asked_of_another_sites(self, opener: Opener) -> None:
        """Each process numbers its documents alike, and a page gets another process whenever it likes."""
        live, left = await opener.open(), []
        page = await opener.page(live)
        async with worlds(live.context, page) as found:
            for host in ("two", "one", "two"):
                world = await found.world(str((await read(page.main_frame, "holds"))["document"]))
                assert world is not None and await found.call(world, "places", ["hunter2"], []) == []
                left.append(world)
                await page.goto(f"http://{host}.test/")
                assert await read(page.main_frame, "holds")
                for one in left:
                    with pytest.raises(OutOfReachError):
                        await found.call(one, "places", ["hunter2"], [])

    async def test_a_window_that_a_page_opens_is_a_page_of_its_context(self, opener: Opener) -> None:
        live = await opener.open()
        page = await opener.page(live)
        with anyio.fail_after(PATIENCE_S):
            async with live.context.expect_page() as opened:
                await page.evaluate("() => { open('http://two.test/') }")
            assert await opened.value in live.context.pages

    async def test_a_download_is_read_by_the_browsers_own_name_for_it_and_removed(
        self, opener: Opener, net: SmallNet
    ) -> None:
        net.pages["/download"] = "x" * 300_000
        live = await opener.open()
        page = await live.context.new_page()
        session = await live.context.new_cdp_session(page)
        target = await session.send("Target.getTargetInfo")
        commands, guid = await live.browser.new_browser_cdp_session(), asyncio.get_running_loop().create_future()

        def progress(told: dict[str, str]) -> None:
            if told["state"] == "completed" and not guid.done():
                guid.set_result(told["guid"])

        commands.on("Browser.downloadProgress", progress)
        where = {"browserContextId": target["targetInfo"]["browserContextId"], "downloadPath": live.downloads_folder}
        await commands.send("Browser.setDownloadBehavior", {"behavior": "allowAndName", "eventsEnabled": True, **where})
        with anyio.fail_after(PATIENCE_S):
            with pytest.raises(Error):
                await page.goto("http://one.test/download")
            name = await guid
            content = b"".join([piece async for piece in live.read_file(name)])
        assert content == b"x" * 300_000
        for _ in range(2):
            await live.remove_file(name)
        for wrong in (name, "../profile/Local State", "/etc/passwd", ""):
            with pytest.raises((NotFound, WrongState)):
                _ = [piece async for piece in live.read_file(wrong)]

    async def test_closing_is_idempotent_and_says_so(self, opener: Opener) -> None:
        live = await opener.open()
        await opener.page(live)
        await asyncio.gather(live.close(), live.close())
        await live.close()
        assert await reason_of(live) == "it was stopped"
