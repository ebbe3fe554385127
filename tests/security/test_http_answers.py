"""What HTTP answers leave behind: downloads by link (S18), caches (L24), and lines in the log."""

from __future__ import annotations

import logging

import pytest

from tests.security.http_edge import http
from tests.server.small_app import LINK_TOKEN, SPACE_ID


async def test_a_request_leaves_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with http() as client:
        caplog.clear()
        assert (await client.post("tools/list")).status_code == 200
        said = [one for one in caplog.records if not one.name.startswith(("httpx", "httpcore", "asyncio"))]
        assert [one.getMessage() for one in said] == []


async def test_s18_a_linked_file_is_a_download_that_no_browser_runs_and_works_once() -> None:
    async with http() as client:
        answer = await client.get(f"/links/{LINK_TOKEN}")
        assert answer.status_code == 200
        assert answer.content == b"<script>alert(1)</script>"
        assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''r%22%C3%A9.html"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["cache-control"] == "no-store"
        again, wrong = await client.get(f"/links/{LINK_TOKEN}"), await client.get("/links/" + "x" * 20)
        assert again.status_code == wrong.status_code == 404
        assert again.json() == wrong.json()


async def test_s18_a_link_is_read_by_get_alone_so_that_previews_do_not_use_it_up() -> None:
    async with http() as client:
        url = f"http://127.0.0.1:{client.port}/links/{LINK_TOKEN}"
        for method in ("HEAD", "POST", "OPTIONS"):
            assert (await client.client.request(method, url)).status_code == 405
        assert not client.house.app.redeemed


async def test_l24_no_cache_may_keep_what_one_caller_saw() -> None:
    async with http() as client:
        for answer in (
            await client.post("tools/list"),
            await client.post("resources/list"),
            await client.post("resources/read", {"uri": f"space://{SPACE_ID}/context"}),
        ):
            assert answer.headers["cache-control"] == "no-store"
            assert (answer.json()["result"]["ttlMs"], answer.json()["result"]["cacheScope"]) == (0, "private")
