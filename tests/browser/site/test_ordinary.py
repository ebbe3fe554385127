"""Downloads, uploads, storage, odd answers and a small application."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from playwright.async_api import Browser, Error, Page, expect

from tests.browser.site.server import Site
from tests.browser.site.visitor import (
    APP,
    needs_chromium,
)


@needs_chromium
async def test_files_come_and_go(page: Page, site: Site, tmp_path: Path) -> None:
    await page.goto(f"{APP}/downloads")
    async with page.expect_download() as begun:
        await page.get_by_role("link", name="Climbing out").click()
    await (await begun.value).save_as(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"downloaded\n"
    answer = await page.request.get(
        f"https://127.0.0.1:{site.https_port}/download?name=../../x", ignore_https_errors=True
    )
    assert 'filename="../../x"' in answer.headers["content-disposition"]
    sent = tmp_path / "sent.bin"
    sent.write_bytes(os.urandom(100_000))
    await page.goto(f"{APP}/upload")
    await page.get_by_label("File").set_input_files(sent)
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_role("status")).to_have_text(f"sent.bin {hashlib.sha256(sent.read_bytes()).hexdigest()}")


@needs_chromium
async def test_a_large_download_flows(page: Page) -> None:
    await page.goto(f"{APP}/downloads")
    async with page.expect_download() as begun:
        await page.goto(f"{APP}/plain")
        await page.evaluate("location.assign('/download-big?bytes=20000000')")
    path = await (await begun.value).path()
    assert path.stat().st_size == 20_000_000


@needs_chromium
async def test_what_is_kept_is_there_the_next_time(page: Page) -> None:
    for _ in range(2):
        await page.goto(f"{APP}/storage")
        await expect(page.locator("#state")).to_have_text("kept")
    await expect(page.locator("#before")).to_have_text("cookies: script-side=kept\nlocal: kept\nsession: kept")
    assert {cookie["name"] for cookie in await page.context.cookies()} == {"script-side", "server-side"}


@needs_chromium
async def test_odd_answers_are_as_asked_for(page: Page) -> None:
    missing = await page.goto(f"{APP}/status?code=503")
    assert missing is not None and missing.status == 503
    slow = await page.goto(f"{APP}/slow?ms=150")
    assert slow is not None and slow.request.timing["responseStart"] >= 150
    refused = await page.goto(f"{APP}/basic-auth")
    assert refused is not None and refused.status == 401
    with pytest.raises(Error, match="ERR_TOO_MANY_REDIRECTS"):
        await page.goto(f"{APP}/redirect-loop")


@needs_chromium
async def test_basic_authentication_takes_name_and_password(browser: Browser, site: Site) -> None:
    context = await browser.new_context(http_credentials={"username": "ada", "password": "basic"})
    page = await context.new_page()
    answer = await page.goto(f"{APP}/basic-auth")
    assert answer is not None and answer.status == 200
    await context.close()


@needs_chromium
async def test_a_noisy_console_is_noisy(page: Page) -> None:
    lines: list[str] = []
    errors: list[str] = []
    page.on("console", lambda said: lines.append(said.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(f"{APP}/console-noise")
    await page.evaluate("console.log('last')")
    assert len(lines) >= 5000 and max(map(len, lines)) >= 1 << 20
    assert any("thrown on purpose" in error for error in errors)


@needs_chromium
async def test_the_small_application_works(page: Page) -> None:
    await page.goto(f"{APP}/spa-todo")
    items = page.get_by_role("listitem")
    await page.get_by_label("What is to be done?").fill("Sleep")
    await page.get_by_role("button", name="Add").click()
    texts = page.locator("#items span")
    await expect(texts).to_have_text(["Buy paint", "Wash brushes", "Paint the door", "Sleep"])
    await page.get_by_label("Done: Sleep").check()
    await expect(page.locator("#count")).to_have_text("2 open")
    await page.get_by_text("Paint the door").dblclick()
    await page.get_by_label("New text").fill("Paint the wall")
    await page.get_by_label("New text").press("Enter")
    await items.nth(2).drag_to(items.nth(0))
    await expect(texts.first).to_have_text("Paint the wall")
    await page.locator("nav").hover()
    await page.get_by_role("button", name="Remove done ones").click()
    await page.get_by_label("Show").select_option("done")
    await expect(items).to_have_count(0)
    await page.get_by_role("button", name="Details").click()
    await page.get_by_label("Notes").fill("two coats")
    await page.get_by_role("button", name="Close").click()
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await page.get_by_label("Attach").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"12345"})
    await expect(page.locator("#attached")).to_have_text("a.txt, 5 bytes")
