"""The near misses are judged by Chromium as they are written down."""

from __future__ import annotations

from contextlib import suppress

from playwright.async_api import Error, Page

from tests.browser.site.near_misses import BOUND, NEAR_MISSES
from tests.browser.site.visitor import (
    APP,
    EVIL,
    needs_chromium,
)


@needs_chromium
async def test_chromium_gives_every_near_miss_the_origin_that_is_written_down(page: Page) -> None:
    assert len([near for near in NEAR_MISSES if not near.fills]) >= 20
    found = {}
    for near in NEAR_MISSES:
        fresh = await page.context.new_page()
        with suppress(Error):
            await fresh.goto(near.url)
        session = await page.context.new_cdp_session(fresh)
        frame = (await session.send("Page.getFrameTree"))["frameTree"]["frame"]
        found[near.url] = frame["securityOrigin"].removeprefix("://")
        await fresh.close()
    assert found == {near.url: near.origin for near in NEAR_MISSES}


def test_only_the_bound_origin_fills_and_only_on_a_web_page() -> None:
    for near in NEAR_MISSES:
        assert near.fills == (near.origin == BOUND and near.is_web), near.url


@needs_chromium
async def test_look_alikes_are_pages_of_the_site(page: Page) -> None:
    await page.goto(f"{APP}/idn")
    origins = []
    for at in range(5):
        await page.goto(f"{APP}/idn")
        await page.get_by_role("link").nth(at).click()
        await page.wait_for_url("**/plain")
        origins.append(await page.evaluate("origin"))
    homograph = "https://xn--pp-6kc.test"
    assert origins == [homograph, homograph, "https://app.test.", EVIL, APP]
