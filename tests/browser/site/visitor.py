"""A person at the site's pages: types letter by letter, presses buttons, waits with a bound."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable
from dataclasses import dataclass

import anyio
import pytest
from playwright.async_api import Frame, Locator, Page, expect

from tests.browser.site.accounts import Person
from tests.browser.site.records import Record

PATIENCE_S = 20
CHROMIUM = os.environ.get("MCP_SPACES_CHROMIUM") or shutil.which("chromium-headless-shell") or shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium-headless-shell")
APP, EVIL = "https://app.test", "https://evil.test"


@dataclass
class Clock:
    now: float = 1_800_000_000

    def __call__(self) -> float:
        return self.now


def password_field(page: Page | Frame) -> Locator:
    return page.locator("[name=password]")


async def type_login(page: Page | Frame, name: str, password: str) -> None:
    """As a person does: letter by letter, then the button."""
    await page.get_by_label("User name").press_sequentially(name)
    await password_field(page).press_sequentially(password)
    await page.get_by_role("button", name="Sign in").click()


async def type_two_step(page: Page, name: str, password: str) -> None:
    await page.get_by_label("User name").press_sequentially(name)
    await page.get_by_role("button", name="Next").click()
    await page.get_by_label("Password").press_sequentially(password)
    await page.get_by_role("button", name="Next").click()


async def type_code(page: Page, code: str) -> None:
    await page.get_by_label("One-time code").press_sequentially(code)
    await page.get_by_role("button", name="Verify").click()


def code_now(person: Person, clock: Clock) -> str:
    return person.code(int(clock.now // person.period_s))


async def is_signed_in(page: Page, person: Person) -> None:
    await expect(page.locator("#who")).to_have_text(f"signed in as {person.name}", timeout=PATIENCE_S * 1000)


async def bounded(waiting: Awaitable[Record]) -> Record:
    with anyio.fail_after(PATIENCE_S):
        return await waiting
