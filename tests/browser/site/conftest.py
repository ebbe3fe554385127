"""A bare Chromium, without any of the product's walls, and the site that it visits."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.browser.site.server import Site
from tests.browser.site.visitor import (
    CHROMIUM,
    PATIENCE_S,
    Clock,
)


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
async def open_site(clock: Clock) -> AsyncIterator[Site]:
    async with Site(clock=clock) as site:
        yield site


@pytest.fixture
def site(open_site: Site, clock: Clock) -> Site:
    clock.now += 300
    open_site.forget()
    return open_site


@pytest.fixture(scope="module")
async def browser(open_site: Site) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=open_site.chromium_arguments)
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser, site: Site) -> AsyncIterator[Page]:
    context = await browser.new_context(accept_downloads=True)
    context.set_default_timeout(PATIENCE_S * 1000)
    yield await context.new_page()
    await context.close()
