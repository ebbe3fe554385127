"""Logins log in whom they should, and nobody else."""

from __future__ import annotations

import re

import pyotp
import pytest
from playwright.async_api import Page, expect

from tests.browser.site.accounts import FAILURES_MAX, Person, Verdict
from tests.browser.site.server import Site
from tests.browser.site.visitor import (
    APP,
    Clock,
    bounded,
    code_now,
    is_signed_in,
    needs_chromium,
    password_field,
    type_code,
    type_login,
    type_two_step,
)

SIMPLE = ["plain", "remember", "shadow", "toggle", "attr", "mirror", "console", "throws", "exfil?when=none"]
WITH_CODE = ["two-step", "totp", "boxes", "one-page", "spa"]


@needs_chromium
@pytest.mark.parametrize("shape", SIMPLE)
async def test_who_types_name_and_password_is_signed_in(page: Page, site: Site, shape: str) -> None:
    await page.goto(f"{APP}/{shape}")
    await type_login(page, site.person.name, site.person.password)
    await is_signed_in(page, site.person)
    assert site.reached("evil.test") == []


@needs_chromium
@pytest.mark.parametrize("shape", SIMPLE)
async def test_a_wrong_password_is_told_and_counted(page: Page, site: Site, shape: str) -> None:
    await page.goto(f"{APP}/{shape}")
    await type_login(page, site.person.name, "wrong-password")
    await expect(page.get_by_role("alert")).to_have_text(Verdict.WRONG)
    assert site.accounts.failures[site.person.name] == 1
    assert site.accounts.sessions == {}


async def log_in_with_code(page: Page, shape: str, person: Person, code: str) -> None:
    await page.goto(f"{APP}/{shape}")
    if shape == "one-page":
        await page.get_by_label("One-time code").press_sequentially(code)
    if shape == "two-step":
        await type_two_step(page, person.name, person.password)
    else:
        await type_login(page, person.name, person.password)
    if shape == "boxes":
        await page.wait_for_url("**/boxes/code")
        await page.keyboard.type(code)
    elif shape != "one-page":
        await type_code(page, code)


@needs_chromium
@pytest.mark.parametrize("shape", WITH_CODE)
async def test_who_types_the_code_too_is_signed_in(page: Page, site: Site, clock: Clock, shape: str) -> None:
    await log_in_with_code(page, shape, site.person, code_now(site.person, clock))
    await is_signed_in(page, site.person)


@needs_chromium
@pytest.mark.parametrize("shape", WITH_CODE)
async def test_a_wrong_code_is_told(page: Page, site: Site, clock: Clock, shape: str) -> None:
    wrong = "000000" if code_now(site.person, clock) != "000000" else "111111"
    await log_in_with_code(page, shape, site.person, wrong)
    await expect(page.get_by_role("alert")).to_have_text(Verdict.WRONG_CODE)
    assert site.accounts.sessions == {}


@needs_chromium
async def test_the_single_page_stays_one_and_tells_of_a_wrong_password(page: Page, site: Site, clock: Clock) -> None:
    await page.goto(f"{APP}/spa")
    await type_login(page, site.person.name, "wrong-password")
    await expect(page.get_by_role("alert")).to_have_text(Verdict.WRONG)
    await password_field(page).fill(site.person.password)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/spa/code")
    await type_code(page, code_now(site.person, clock))
    await is_signed_in(page, site.person)
    assert [hit.path for hit in site.hits("app.test") if "text/html" in hit.fields.get("accept", "")] == ["/spa"]


@needs_chromium
async def test_two_steps_do_not_tell_which_names_there_are(page: Page, site: Site) -> None:
    await page.goto(f"{APP}/two-step")
    await type_two_step(page, "nobody", "wrong-password")
    await expect(page.get_by_role("alert")).to_have_text(Verdict.WRONG)
    await page.goto(f"{APP}/two-step/code")
    await type_code(page, "000000")
    await page.wait_for_url("**/two-step")


@needs_chromium
async def test_the_boxes_take_a_pasted_code(page: Page, site: Site, clock: Clock) -> None:
    await page.goto(f"{APP}/boxes")
    await type_login(page, site.person.name, site.person.password)
    await page.wait_for_url("**/boxes/code")
    await page.get_by_label("Digit 1").evaluate(
        """(box, code) => {
            const clipboardData = new DataTransfer();
            clipboardData.setData("text", code);
            box.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
        }""",
        code_now(site.person, clock),
    )
    await is_signed_in(page, site.person)


@needs_chromium
@pytest.mark.parametrize("shape", ["totp-retry", "totp-never"])
async def test_a_right_code_may_be_refused_and_the_next_one_not(
    page: Page, site: Site, clock: Clock, shape: str
) -> None:
    await log_in_with_code(page, shape, site.person, code_now(site.person, clock))
    await expect(page.get_by_role("alert")).to_have_text(Verdict.USED_CODE)
    await type_code(page, code_now(site.person, clock))
    await expect(page.get_by_role("alert")).to_have_text(Verdict.USED_CODE)
    clock.now += site.person.period_s
    await type_code(page, code_now(site.person, clock))
    if shape == "totp-retry":
        await is_signed_in(page, site.person)
    else:
        await expect(page.get_by_role("alert")).to_have_text(Verdict.USED_CODE)


@needs_chromium
async def test_after_five_failures_the_right_password_is_refused_too(page: Page, site: Site) -> None:
    await page.goto(f"{APP}/plain")
    for _ in range(FAILURES_MAX):
        await type_login(page, site.person.name, "wrong-password")
        await expect(page.get_by_role("alert")).to_have_text(re.compile(f"{Verdict.WRONG}|{Verdict.LOCKED}"))
        await page.goto(f"{APP}/plain")
    await type_login(page, site.person.name, site.person.password)
    await expect(page.get_by_role("alert")).to_have_text(Verdict.LOCKED)
    assert site.accounts.failures[site.person.name] == FAILURES_MAX


@needs_chromium
async def test_the_session_is_a_cookie_that_scripts_cannot_read_and_ends_with_logout(page: Page, site: Site) -> None:
    await page.goto(f"{APP}/remember")
    await page.get_by_label("Keep me signed in").check()
    await type_login(page, site.person.name, site.person.password)
    await is_signed_in(page, site.person)
    cookies = {cookie["name"]: cookie for cookie in await page.context.cookies()}
    assert cookies["session"]["value"] in site.accounts.sessions
    assert cookies["session"]["httpOnly"] and cookies["session"]["expires"] > 0
    assert await page.evaluate("document.cookie") == ""
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url("**/plain")
    await page.goto(f"{APP}/home")
    assert page.url == f"{APP}/plain"


def test_codes_are_those_of_another_implementation() -> None:
    person = Person.new()
    assert [person.code(step) for step in range(50)] == [pyotp.TOTP(person.seed).at(30 * step) for step in range(50)]
    assert pyotp.parse_uri(person.address).secret == person.seed


@needs_chromium
async def test_a_form_in_a_frame_of_the_same_origin_signs_the_page_in(page: Page, site: Site) -> None:
    await page.goto(f"{APP}/frame-same")
    await type_login(page.frames[1], site.person.name, site.person.password)
    await is_signed_in(page, site.person)


@needs_chromium
async def test_a_form_in_a_frame_of_evil_gives_it_the_password(page: Page, site: Site) -> None:
    await page.goto(f"{APP}/frame-cross")
    await type_login(page.frames[1], site.person.name, site.person.password)
    await bounded(site.hit("evil.test", "/plain", holding=site.person.password))
    await page.goto(f"{APP}/frame-sandbox")
    assert await page.frames[1].evaluate("origin") == "null"
