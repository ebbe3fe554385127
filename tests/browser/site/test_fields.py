"""Hostile fields do what their pages say."""

from __future__ import annotations

import pytest
from playwright.async_api import Error, Locator, Page, expect

from tests.browser.site.server import Site
from tests.browser.site.visitor import (
    APP,
    needs_chromium,
    password_field,
)


@needs_chromium
async def test_the_toggle_shows_the_password(page: Page) -> None:
    await page.goto(f"{APP}/toggle")
    await page.get_by_role("button", name="Show password").click()
    await expect(password_field(page)).to_have_attribute("type", "text")


@needs_chromium
async def test_the_page_mirrors_the_password_where_it_can_be_read(page: Page, site: Site) -> None:
    secret = site.person.password
    await page.goto(f"{APP}/attr")
    await password_field(page).fill(secret)
    assert secret in await page.content()
    await page.goto(f"{APP}/mirror")
    await password_field(page).fill(secret)
    assert await page.title() == secret
    await expect(page.locator("#strength")).to_contain_text(secret)


@needs_chromium
async def test_the_console_gets_the_password(page: Page, site: Site) -> None:
    await page.goto(f"{APP}/console")
    async with page.expect_console_message() as said:
        await password_field(page).fill(site.person.password)
    assert site.person.password in (await said.value).text


@needs_chromium
async def test_errors_of_the_page_hold_the_password(page: Page, site: Site) -> None:
    await page.goto(f"{APP}/throws")
    async with page.expect_event("pageerror") as thrown:
        await password_field(page).press_sequentially("x")
    assert "cannot take x" in str(await thrown.value)
    with pytest.raises(Error, match=site.person.password):
        await password_field(page).evaluate("(field, value) => { field.value = value }", site.person.password)


@needs_chromium
@pytest.mark.parametrize("path", ["readonly", "disabled"])
async def test_the_field_cannot_be_edited(page: Page, path: str) -> None:
    await page.goto(f"{APP}/{path}")
    await expect(password_field(page)).not_to_be_editable()


@needs_chromium
async def test_the_field_changes_when_it_has_the_focus(page: Page) -> None:
    async def focused(path: str) -> Locator:
        await page.goto(f"{APP}/{path}")
        await password_field(page).focus()
        return password_field(page)

    await expect(await focused("detached")).to_have_count(0)
    await expect(await focused("hidden")).to_be_hidden()
    await expect(await focused("type-switch")).to_have_attribute("type", "text")
    await expect(await focused("moves-field")).to_be_hidden()
    assert await page.evaluate("document.activeElement.name") == "decoy"
    await focused("navigates")
    await page.wait_for_url("**/links100")


@needs_chromium
async def test_any_attribute_that_is_set_switches_the_type(page: Page) -> None:
    await page.goto(f"{APP}/type-switch")
    await password_field(page).evaluate("(field) => field.setAttribute('data-marked', '')")
    await expect(password_field(page)).to_have_attribute("type", "text")


DECOY = """(field) => {
    const box = field.getBoundingClientRect(), style = getComputedStyle(field);
    const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return {
        hidden: style.display === "none",
        invisible: style.visibility === "hidden",
        transparent: style.opacity === "0",
        zero: box.width === 0 && style.display !== "none",
        offscreen: box.right < 0 && box.bottom < 0,
        clipped: style.clipPath !== "none",
        overlay: top?.id === "over",
    };
}"""


@needs_chromium
@pytest.mark.parametrize("kind", "hidden invisible transparent zero offscreen clipped overlay".split())
async def test_a_decoy_is_no_field_that_a_person_could_see(page: Page, kind: str) -> None:
    await page.goto(f"{APP}/decoy-{kind}")
    true = [name for name, holds_there in (await page.locator("#decoy").evaluate(DECOY)).items() if holds_there]
    assert true == [kind]
    assert await page.locator("[type=password]:visible:enabled:not(#decoy)").count() == 0
    await page.goto(f"{APP}/decoy-{kind}?real=1")
    await expect(page.get_by_label("Password").locator("visible=true").first).to_be_editable()


@needs_chromium
async def test_two_passwords_are_both_visible(page: Page) -> None:
    await page.goto(f"{APP}/two-passwords")
    assert await page.locator("[type=password]:visible").count() == 2
