"""Windows, workers, knocks and loads: what a page does to the browser around it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import quote

import anyio
import pytest
from playwright.async_api import Dialog, Error, Page, expect

from tests.browser.site.records import Hit
from tests.browser.site.server import Site
from tests.browser.site.visitor import (
    APP,
    PATIENCE_S,
    bounded,
    is_signed_in,
    needs_chromium,
    password_field,
    type_login,
)


@needs_chromium
@pytest.mark.parametrize("on", ["load", "focus", "input", "click"])
async def test_a_window_of_evil_opens(page: Page, site: Site, on: str) -> None:
    await page.goto(f"{APP}/opener?on={on}")
    if on != "load":
        await password_field(page).click()
        await password_field(page).fill("typed-here")
    await bounded(site.hit("evil.test", "/collect"))
    async with page.expect_popup() as opened:
        await page.get_by_role("link", name="Help").click()
    assert await (await opened.value).evaluate("opener !== null")


@needs_chromium
async def test_a_service_worker_sends_a_later_login_to_evil(page: Page, site: Site) -> None:
    await page.goto(f"{APP}/serviceworker")
    await expect(page.locator("#state")).to_have_text("ready")
    await page.goto(f"{APP}/plain")
    await type_login(page, site.person.name, site.person.password)
    await bounded(site.hit("evil.test", "/collect", holding=site.person.password))
    await is_signed_in(page, site.person)


@needs_chromium
async def test_alerts_do_not_end(page: Page) -> None:
    alerts: list[Dialog] = []
    enough = asyncio.Event()

    async def dismiss(dialog: Dialog) -> None:
        alerts.append(dialog)
        if len(alerts) < 5:
            await dialog.dismiss()
        else:
            enough.set()

    page.on("dialog", dismiss)
    await page.goto(f"{APP}/alerts", wait_until="commit")
    with anyio.fail_after(PATIENCE_S):
        await enough.wait()
    await page.close()


@needs_chromium
async def test_tabs_open_without_end(page: Page) -> None:
    five = asyncio.Event()
    page.context.on("page", lambda _: five.set() if len(page.context.pages) > 5 else None)
    await page.goto(f"{APP}/tabs-bomb")
    with anyio.fail_after(PATIENCE_S):
        await five.wait()


@needs_chromium
async def test_memory_is_taken_up_to_where_it_is_asked(page: Page) -> None:
    await page.goto(f"{APP}/memory-bomb?most_mb=128")
    await expect(page.locator("#held")).to_have_text("128", timeout=PATIENCE_S * 1000)


@needs_chromium
async def test_large_pages_are_large(page: Page) -> None:
    await page.goto(f"{APP}/huge")
    assert await page.evaluate("document.querySelectorAll('*').length") > 100_000
    await page.goto(f"{APP}/tall")
    assert await page.evaluate("document.documentElement.scrollHeight") > 200_000
    await page.goto(f"{APP}/links100")
    assert await page.get_by_role("link").count() == 100


@needs_chromium
async def test_a_busy_page_answers_nobody(page: Page, site: Site) -> None:
    with pytest.raises(Error, match="Timeout"):
        await page.goto(f"{APP}/busy", timeout=1_500)
    await bounded(site.hit("app.test", "/busy"))


@needs_chromium
async def test_a_page_may_not_follow_links_to_the_browsers_own_pages(page: Page) -> None:
    await page.goto(f"{APP}/crash")
    for name in ("Crash", "Kill", "Hang", "Version", "A file"):
        async with page.expect_console_message(lambda said: "Not allowed to load" in said.text):
            await page.get_by_role("link", name=name, exact=True).click()
        assert page.url == f"{APP}/crash"
    await page.get_by_role("link", name="About crash").click()
    await page.wait_for_url("about:blank#blocked")


@needs_chromium
async def test_the_same_address_typed_in_kills_the_renderer(page: Page) -> None:
    await page.goto(f"{APP}/plain")
    async with page.expect_event("crash"):
        with suppress(Error):
            await page.goto("chrome://crash")


@needs_chromium
async def test_leaving_is_asked_about(page: Page) -> None:
    await page.goto(f"{APP}/beforeunload")
    await page.get_by_role("button").click()
    async with page.expect_event("dialog") as asked:
        closing = asyncio.ensure_future(page.close(run_before_unload=True))
    assert (await asked.value).type == "beforeunload"
    await (await asked.value).accept()
    await closing


@needs_chromium
@pytest.mark.parametrize("path", ["approval-look-alike", "knock"])
async def test_the_page_knocks_at_addresses_of_the_machine(page: Page, site: Site, path: str) -> None:
    at = f"http://127.0.0.1:{site.http_port} http://127.0.0.1:1"
    await page.goto(f"http://app.test/{path}?at={quote(at)}")
    await bounded(site.record(lambda one: isinstance(one, Hit) and one.host == "127.0.0.1"))
    await expect(page.locator("#tried")).to_contain_text("http://127.0.0.1:1 refused")
