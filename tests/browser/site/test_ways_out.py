"""Every way out really leads to evil.test in a browser without walls.

Only then does "nothing reached evil.test" mean something in the other tests.
"""

from __future__ import annotations

import asyncio
import socket

import anyio
import pytest
from playwright.async_api import Page, expect

from tests.browser.site.records import Hello, Hit, Message, Packet, Record, holds
from tests.browser.site.server import Site
from tests.browser.site.visitor import (
    APP,
    EVIL,
    PATIENCE_S,
    bounded,
    is_signed_in,
    needs_chromium,
    password_field,
    type_login,
)


@needs_chromium
@pytest.mark.parametrize("when", ["input", "poll", "submit"])
async def test_the_page_sends_the_password_as_soon_as_it_is_there_and_the_login_goes_on(
    page: Page, site: Site, when: str
) -> None:
    await page.goto(f"{APP}/exfil?channel=fetch&when={when}")
    if when == "poll":
        await password_field(page).evaluate("(field, value) => { field.value = value }", site.person.password)
    else:
        await password_field(page).fill(site.person.password)
    if when == "submit":
        assert site.reached("evil.test") == []
    else:
        await bounded(site.hit("evil.test", "/collect", holding=site.person.password))
    await page.get_by_label("User name").fill(site.person.name)
    await page.get_by_role("button", name="Sign in").click()
    await is_signed_in(page, site.person)
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
