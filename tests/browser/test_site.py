"""The test site is what it says: logins log in, hostile pages are hostile, and every way out really leads out.

Only then does "nothing reached evil.test" mean something in the other tests. The browser here is a bare Chromium,
without any of the product's walls.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import anyio
import pyotp
import pytest
from playwright.async_api import Browser, Dialog, Error, Frame, Locator, Page, async_playwright, expect

from mcp_spaces.network.model import PrivateHosts, Target
from tests.browser.site import (
    BOUND,
    FAILURES_MAX,
    NAMES,
    NEAR_MISSES,
    Hello,
    Hit,
    Message,
    Packet,
    Person,
    Record,
    Site,
    Verdict,
)
from tests.browser.site.pages import purposes, sources
from tests.browser.site.records import holds

PATIENCE_S = 20
CHROMIUM = os.environ.get("MCP_SPACES_CHROMIUM") or shutil.which("chromium-headless-shell") or shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium-headless-shell")
APP, EVIL = "https://app.test", "https://evil.test"
SIMPLE = ["plain", "remember", "shadow", "toggle", "attr", "mirror", "console", "throws", "exfil?when=none"]
WITH_CODE = ["two-step", "totp", "boxes", "one-page", "spa"]


@dataclass
class Clock:
    now: float = 1_800_000_000

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


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


# ------------------------------------------------------------------------------------------------------- logins


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


# ---------------------------------------------------------------------------------------------------- ways out


@needs_chromium
@pytest.mark.parametrize("when", ["input", "poll", "submit"])
async def test_the_page_reads_the_password_as_soon_as_it_is_there(page: Page, site: Site, when: str) -> None:
    await page.goto(f"{APP}/exfil?channel=fetch&when={when}")
    if when == "poll":
        await password_field(page).evaluate("(field, value) => { field.value = value }", site.person.password)
    else:
        await password_field(page).fill(site.person.password)
    if when == "submit":
        assert site.reached("evil.test") == []
        await page.get_by_role("button", name="Sign in").click()
    await bounded(site.hit("evil.test", "/collect", holding=site.person.password))


@needs_chromium
@pytest.mark.parametrize(
    "channel",
    "fetch image beacon form redirect302 post307 websocket popup worker prefetch stun dns"
    " navigate frame style xhr eventsource ping keepalive".split(),
)
async def test_every_way_out_leads_to_evil_in_a_browser_without_walls(page: Page, site: Site, channel: str) -> None:
    await page.goto(f"{APP}/exfil?channel={channel}")
    await password_field(page).fill(site.person.password)
    if channel == "keepalive":
        await page.goto(f"{APP}/plain")
    kinds: dict[str, type[Record]] = {"websocket": Message, "stun": Packet, "dns": Hello}
    kind = kinds.get(channel, Hit)
    await bounded(
        site.record(
            lambda one: (
                isinstance(one, kind)
                and (one.host.endswith("evil.test") or isinstance(one, Packet))
                and holds(one.content, site.person.password)
            )
        )
    )
    assert any(isinstance(one, kind) for one in site.holding(site.person.password))


@needs_chromium
async def test_stun_tells_a_page_the_browsers_address(page: Page, site: Site) -> None:
    await page.goto(f"{APP}/stun")
    await expect(page.locator("#candidates")).to_contain_text("srflx")
    assert len(site.packets("stun")) >= 1


async def test_a_dns_question_is_counted_and_its_name_kept(site: Site) -> None:
    question = b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\x06canary\x04evil\x04test\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendto(client, question, ("127.0.0.1", site.dns_port))
        with anyio.fail_after(PATIENCE_S):
            answer = await loop.sock_recv(client, 512)
    assert answer[:4] == b"\x12\x34\x81\x83"
    assert [packet.host for packet in site.packets("dns")] == ["canary.evil.test"]
    assert len(site.reached("evil.test")) == 1


@needs_chromium
@pytest.mark.parametrize(
    "path", ["post307", "post308", "action-evil", "formaction-evil", "action-switch", "moves-form"]
)
async def test_the_form_takes_the_password_to_evil(page: Page, site: Site, path: str) -> None:
    await page.goto(f"{APP}/{path}")
    await page.get_by_label("User name").fill(site.person.name)
    # In one piece: letter by letter the field is gone after the first.
    await password_field(page).fill(site.person.password)
    await page.get_by_role("button", name="Sign in").click()
    await bounded(site.hit("evil.test", "/collect", holding=site.person.password))


@needs_chromium
@pytest.mark.parametrize("path", ["redir", "late-redirect?ms=10"])
async def test_the_page_ends_at_a_look_alike_on_evil(page: Page, path: str) -> None:
    await page.goto(f"{APP}/{path}")
    await page.wait_for_url(f"{EVIL}/plain")
    await expect(password_field(page)).to_be_visible()


@needs_chromium
async def test_a_get_form_puts_the_password_into_the_address(page: Page, site: Site) -> None:
    await page.goto(f"{APP}/get-form")
    await type_login(page, site.person.name, site.person.password)
    await page.wait_for_url(f"**/api/echo?**{site.person.password}")


@needs_chromium
async def test_a_comment_on_the_bound_origin_is_there_for_everybody(page: Page, site: Site) -> None:
    await page.goto(f"{APP}/comment")
    await page.get_by_label("Comment").fill(site.person.password)
    await page.get_by_role("button", name="Post").click()
    await expect(page.locator("#comments")).to_have_text(site.person.password)
    await page.get_by_label("Search").fill("thing")
    await page.get_by_role("button", name="Search").click()
    await expect(page.get_by_role("alert")).to_have_text("Nothing found for thing")


# -------------------------------------------------------------------------------------------------- the field


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


# ------------------------------------------------------------------------------------------- windows and bombs


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
async def test_a_busy_page_answers_nobody(page: Page) -> None:
    await page.goto(f"{APP}/busy")
    with pytest.raises(Error, match="Timeout"):
        await page.locator("p").click(timeout=500)


@needs_chromium
async def test_a_page_may_not_follow_links_to_the_browsers_own_pages(page: Page) -> None:
    await page.goto(f"{APP}/crash")
    for link in await page.get_by_role("link").all():
        async with page.expect_console_message(lambda said: "Not allowed to load" in said.text):
            await link.click()
        assert page.url == f"{APP}/crash"


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


# --------------------------------------------------------------------------------------------- ordinary things


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
    with pytest.raises(Error, match="ERR_TOO_MANY_REDIRECTS"):
        await page.goto(f"{APP}/redirect-loop")
    refused = await page.goto(f"{APP}/basic-auth")
    assert refused is not None and refused.status == 401


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


# ------------------------------------------------------------------------------------------------- near misses


@needs_chromium
async def test_chromium_gives_every_near_miss_the_origin_that_is_written_down(page: Page) -> None:
    assert len([near for near in NEAR_MISSES if not near.fills]) >= 20
    found = {}
    for near in NEAR_MISSES:
        fresh = await page.context.new_page()
        try:
            await fresh.goto(near.url)
        except Error:
            pass
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


# ---------------------------------------------------------------------------------------------- the site itself


def test_every_page_says_what_it_is_for() -> None:
    assert [
        path for path, why in purposes().items() if not re.match(r"Login: |After a login: |A |([A-Z]\d\d(, )?)+: ", why)
    ] == []
    assert [path for path, source in sources().items() if len(source) > 6000] == []


@needs_chromium
async def test_the_index_lists_every_page_and_each_is_there(page: Page, site: Site) -> None:
    await page.goto(f"{APP}/")
    paths = [await link.get_attribute("href") for link in await page.get_by_role("link").all()]
    assert set(paths) == set(purposes())
    statuses = {
        path: await page.evaluate("(path) => fetch(path).then((answer) => answer.status)", path) for path in paths
    }
    assert {path for path, status in statuses.items() if status != 200} == set()


async def test_the_settings_entries_lead_to_the_site_whose_certificate_holds(site: Site) -> None:
    opened = PrivateHosts.parse(site.private_hosts)
    trust = ssl.create_default_context(cadata=site.ca_pem.decode())
    for name in NAMES:
        there = opened.of(Target(name, 443))
        assert there == ("127.0.0.1", site.https_port)
        reader, writer = await asyncio.open_connection(*there, ssl=trust, server_hostname=name)
        writer.write(f"GET /plain HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        await writer.wait_closed()
        assert opened.of(Target(name, 80)) == ("127.0.0.1", site.http_port)
    assert {hit.host for hit in site.hits()} == set(NAMES)


async def test_a_bare_connection_and_a_bare_greeting_are_recorded(site: Site) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", site.http_port)
    trust = ssl.create_default_context(cadata=site.ca_pem.decode())
    _, secure = await asyncio.open_connection("127.0.0.1", site.https_port, ssl=trust, server_hostname="x.evil.test")
    assert [connect.port for connect in site.connects()] == [site.http_port, site.https_port]
    assert site.hits() == []
    assert site.reached("evil.test") == [Hello("x.evil.test")]
    for one in (writer, secure):
        one.close()
        await one.wait_closed()


@pytest.mark.parametrize(
    "written",
    [
        b"{}", b"MjIyY2FuYXJ5LTAxMmFiYy1+", b"Y2FuYXJ5LTAxMmFiYy1+IQ", b"eGNhbmFyeS0wMTJhYmMtfg", b"eHhjYW5hcnktMDEyYWJjLX4",
        b"63616e6172792d3031326162632d7e", b"63616E6172792D30.31326162632D7E.evil.test", b"canary%2D012abc%2D%7E",
        b"x=CANARY-012abc-~&y",
    ],
)  # fmt: skip
def test_a_value_is_found_in_every_usual_writing(written: bytes) -> None:
    assert holds(b"before " + written + b" after", "canary-012abc-~") == (written != b"{}")


async def test_who_waits_for_a_hit_gets_the_one_that_is_meant(site: Site) -> None:
    async def post(path: str, body: str) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", site.http_port)
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: Evil.test:80\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    waiting = asyncio.ensure_future(site.hit("evil.test", "/collect", holding="meant"))
    await post("/elsewhere", "meant")
    await post("/collect", "other")
    await post("/collect", "this is meant")
    hit = await bounded(waiting)
    assert isinstance(hit, Hit) and hit.body == b"this is meant"
    assert await bounded(site.hit("evil.test")) is site.hits("evil.test")[0]
    site.forget()
    assert site.hits() == []


async def test_afterwards_nobody_listens() -> None:
    async with Site() as site:
        _, writer = await asyncio.open_connection("127.0.0.1", site.http_port)
    for port in (site.http_port, site.https_port):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()
