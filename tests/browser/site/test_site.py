"""The site itself: what it serves, to whom, and what it records."""

from __future__ import annotations

import asyncio
import re
import ssl

import pytest
from playwright.async_api import Page

from mcp_spaces.network.model import PrivateHosts, Target
from tests.browser.site.pages import purposes, sources
from tests.browser.site.records import Hello, Hit, holds
from tests.browser.site.server import NAMES, Site
from tests.browser.site.visitor import (
    APP,
    bounded,
    needs_chromium,
)


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
