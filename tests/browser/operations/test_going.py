"""Where a browser goes, what it answers on the way, and where it does not go."""

from __future__ import annotations

import re

import anyio
import pytest

from mcp_spaces.browser.paging import NAVIGATION_S
from mcp_spaces.errors import Denied, InvalidInput, NotFound, RuntimeUnavailable
from tests.browser.operations.tabs import HOST, SHOP, Tab


async def test_a_page_is_answered_with_its_outline(tab: Tab) -> None:
    tab.site.made["shop"] = SHOP
    opened = await tab.call("navigate", url=f"{HOST}/shop")
    assert (opened.status, opened.title, opened.settled) == (200, "Shop", True)
    assert 'button "Order" e' in opened.changes and 'textbox "Name" e' in opened.changes


async def test_a_host_outside_of_the_mount_answers_with_the_rule(tab: Tab) -> None:
    opened = await tab.call("navigate", url="http://elsewhere.test/")
    assert opened.status == 403 and "network.allow" in opened.changes


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "chrome://version", "javascript:alert(1)", "data:text/html,x", "view-source:http://page.test/",
     "blob:http://page.test/1", "ftp://page.test/", "http://ann:secret@page.test/", "http://page.test\\@evil.test/", "http://page.test\\.evil.test/",
     "http://page.test/a b", "http://page.test/\r\n", "page.test"],
)  # fmt: skip
async def test_b10_only_web_addresses_are_gone_to(tab: Tab, url: str) -> None:
    await tab.refused("navigate", InvalidInput, url=url)


async def test_history_and_pages(tab: Tab) -> None:
    await tab.shop()
    await tab.call("navigate", url=f"{HOST}/thanks")
    assert (await tab.call("back")).url == f"{HOST}/shop"
    assert (await tab.call("forward")).url == f"{HOST}/thanks"
    assert (await tab.call("reload")).status == 200
    opened = await tab.call("open", url=f"{HOST}/shop")
    assert [one.page for one in (await tab.call("pages")).pages] == ["p1", opened.page]
    await tab.call("activate", page="p1")
    assert (await tab.call("snapshot")).title == "Thanks"
    assert (await tab.call("close", page="p1")).active == opened.page
    await tab.refused("snapshot", NotFound, page="p1")


async def test_a_window_that_opens_is_named(tab: Tab) -> None:
    refs = await tab.shop()
    assert (await tab.call("click", ref=refs["Elsewhere"])).opened == ["p2"]


async def test_a_click_that_leads_nowhere_says_where_and_why(tab: Tab) -> None:
    tab.site.made["nowhere"] = "<a href=https://page.test/>Out</a>"
    (ref,) = re.findall(r" (e\d+)", (await tab.call("navigate", url=f"{HOST}/nowhere")).changes)
    gone = await tab.call("click", ref=ref)
    assert gone.url == "https://page.test/" and "did not load: page.test has no address" in gone.changes


async def test_a_page_that_breaks_off_in_the_middle_is_told_at_once(tab: Tab) -> None:
    tab.site.made["half"] = "<p>The first half"
    tab.site.headers["content-length"] = "5000"
    try:
        with anyio.fail_after(NAVIGATION_S / 2):
            error = await tab.refused("navigate", RuntimeUnavailable, url=f"{HOST}/half")
    finally:
        del tab.site.headers["content-length"]
    assert "broke off in the middle" in error.message
    assert "The first half" in (await tab.call("snapshot")).snapshot
    assert (await tab.call("navigate", url=f"{HOST}/half")).status == 200


async def test_an_answer_without_content_is_told_as_that_and_the_page_stays(tab: Tab) -> None:
    await tab.shop()
    tab.site.statuses["nothing"] = 204
    assert "without content" in (await tab.refused("navigate", RuntimeUnavailable, url=f"{HOST}/nothing")).message
    assert (await tab.call("snapshot")).title == "Shop"


async def test_what_the_gateway_refuses_is_told_in_its_words(tab: Tab) -> None:
    error = await tab.refused("navigate", Denied, url="https://elsewhere.test/")
    assert "elsewhere.test:443 is not in the space's list" in error.message
    assert error.details() == {"rule": "network.allow"} and not error.retryable
    step = (
        (await tab.call("execute", steps=[{"call": "page.goto", "args": ["https://elsewhere.test/"]}]))
        .events[0]
        .model_dump()
    )
    assert step["error"]["code"] == "denied" and "not in the space's list" in step["error"]["message"]


async def test_what_a_site_redirects_to_is_named_where_the_gateway_refuses_it(tab: Tab) -> None:
    tab.site.statuses["away"], tab.site.headers["location"] = 302, "https://elsewhere.test:8443/login"
    try:
        error = await tab.refused("navigate", Denied, url=f"{HOST}/away")
    finally:
        del tab.site.statuses["away"], tab.site.headers["location"]
    assert "elsewhere.test:8443 is not in the space's list" in error.message


async def test_a_site_that_may_be_reached_and_is_not_there_is_told_as_that(tab: Tab) -> None:
    error = await tab.refused("navigate", RuntimeUnavailable, url="https://page.test/")
    assert "page.test has no address" in error.message and error.retryable


async def test_after_a_site_that_could_not_be_reached_the_next_one_can(tab: Tab) -> None:
    tab.site.made["there"] = "<p>There"
    for _ in range(5):
        await tab.refused("navigate", Denied, url="https://elsewhere.test/")
        assert (await tab.call("navigate", url=f"{HOST}/there")).status == 200
