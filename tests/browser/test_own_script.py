"""Scripts of an agent's own run as Playwright's do, and what they answer is measured before it leaves the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import pytest
from playwright.async_api import Browser, Page

from mcp_spaces.browser.pages.own_script import RESULT_CHARACTERS_MAX, run_script
from mcp_spaces.errors import QuotaExceeded, SpacesError, WrongState
from tests.browser.chromium import Site
from tests.security.app import refusal

pytestmark = pytest.mark.anyio

PATIENCE_S = 60


@pytest.fixture
async def page(browser: Browser, site: Site) -> AsyncIterator[Page]:
    site.made["made"] = "<!doctype html><title>Shop</title><p id=p>one<p>two"
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(f"{site.origin}/made")
    yield page
    await context.close()


@dataclass
class Listening:
    """A page, and what came out of it into this process."""

    page: Page
    heard: list[Any] = field(default_factory=list)

    async def evaluate(self, expression: str, arg: object) -> object:
        self.heard.append(await self.page.evaluate(expression, arg))
        return self.heard[-1]


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("document.title", "Shop"),
        ("() => [1, 2.5, null, true, {a: 'b'}]", [1, 2.5, None, True, {"a": "b"}]),
        ("x => x", {"given": [1]}),
        ("function (x) { return x.given[0] + 1 }", 2),
        (" async function later() { return 3 } ", 3),
        ("async () => { await null; return 4 }", 4),
        ("const a = 5; a", 5),
        ("var b = 6; b += 1; new Promise(done => setTimeout(() => done(b), 1))", 7),
        ("undefined", None),
        ("() => {}", None),
        ("12345678901234567890n", "12345678901234567890"),
        ("[0 / 0, 1 / 0, -0]", ["NaN", "Infinity", 0]),
        ("new Date(0)", "1970-01-01T00:00:00.000Z"),
        ("/a+/g", "/a+/g"),
        ("({error: new TypeError('no')})", {"error": "TypeError: no"}),
        ("document.body", "ref: <Node>"),
        ("[document, window]", ["ref: <Document>", "ref: <Window>"]),
        ("'\\ud83d\\ude00'", "😀"),
    ],
)
async def test_a_script_gives_back_what_it_says_as_json(page: Page, script: str, result: object) -> None:
    assert await run_script(page, script, {"given": [1]}) == result


async def test_a_script_gets_the_element_and_its_argument(page: Page) -> None:
    found = page.locator("#p")
    assert await run_script(found, "(element, more) => element.textContent + more", "!") == "one!"
    assert await run_script(found, "element => element.id", timeout_ms=1_000) == "p"
    assert await run_script(page.main_frame, "() => document.querySelectorAll('p').length") == 2


async def test_a_page_that_forbids_scripts_from_text_does_not_forbid_the_agents(page: Page, site: Site) -> None:
    site.headers["content-security-policy"] = "default-src 'self'; script-src 'self'"
    try:
        await page.reload()
        assert await run_script(page, "() => document.title") == "Shop"
    finally:
        site.headers.clear()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("nothing.here", "ReferenceError: nothing is not defined"),
        ("() => { throw 'plain words' }", "plain words"),
        ("async () => { throw new Error('later') }", "Error: later"),
        ("() => {", "SyntaxError"),
        ("throw Object.create(null)", "something that has no words"),
    ],
)
async def test_a_script_that_throws_says_what_it_threw(page: Page, script: str, words: str) -> None:
    with pytest.raises(WrongState) as caught:
        await run_script(page, script)
    assert words in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    "script", ["const a = {}; a.a = a", "() => { let a = []; for (let i = 0; i < 3000; i++) a = [a]; return a }"]
)
async def test_what_is_no_json_is_an_error_that_says_so(page: Page, script: str) -> None:
    with pytest.raises(WrongState) as caught:
        await run_script(page, script)
    assert "cannot be told as JSON" in caught.value.message


HUGE = "'x'.repeat(3e8)"


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (HUGE, QuotaExceeded),
        (f"[{HUGE}, 1]", QuotaExceeded),
        ("Array(5e7)", QuotaExceeded),
        ("Array.from({length: 3e6}, () => ({}))", QuotaExceeded),
        ("({['k'.repeat(3e6)]: 1})", QuotaExceeded),
        # Five names for little, and a thousand million leaves when they are written out.
        ("let a = [1]; for (let i = 0; i < 30; i++) a = [a, a]; a", QuotaExceeded),
        (f"throw {HUGE}", WrongState),
        (f"throw new Error({HUGE})", WrongState),
        # The page's own scripts may answer in place of the browser's.
        (f"JSON.stringify = () => {HUGE}; 1", QuotaExceeded),
        (f"JSON.stringify = () => ({{length: 1, toString: () => {HUGE}, toJSON: () => {HUGE}}}); 1", WrongState),
        (f"JSON.stringify = () => new String({HUGE}); 1", WrongState),
        (f"JSON.stringify = () => {{ throw {HUGE} }}; 1", WrongState),
        (f"String.prototype.slice = String.prototype.toString = () => {HUGE}; throw {HUGE}", WrongState),
    ],
)
async def test_d14_a_result_without_end_stays_in_the_page(page: Page, script: str, kind: type[SpacesError]) -> None:
    listening = Listening(page)
    with anyio.fail_after(PATIENCE_S):
        error = await refusal(run_script(cast(Page, listening), script))
    if error is None:
        assert kind is WrongState and "JSON.stringify" in script
    else:
        assert isinstance(error, kind) and error.hint
        assert kind is WrongState or f"{RESULT_CHARACTERS_MAX:,} characters" in error.message
    (heard,) = listening.heard
    assert isinstance(heard, str) and len(heard) <= RESULT_CHARACTERS_MAX + 1


async def test_a_result_of_just_the_limit_is_given(page: Page) -> None:
    whole = RESULT_CHARACTERS_MAX - len('""')
    assert await run_script(page, f"'x'.repeat({whole})") == "x" * whole
    with pytest.raises(QuotaExceeded):
        await run_script(page, f"'x'.repeat({whole + 1})")
