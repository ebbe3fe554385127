"""Pages on which people enter secrets: what they show, who may send them, how often, and for how long."""

from __future__ import annotations

import html
import logging
from urllib.parse import urlsplit

import anyio
import pytest

from mcp_spaces.core.redaction import encodings
from mcp_spaces.vault.entry_requests import ATTEMPTS_MAX, LIFETIME_S
from tests.security.entry_pages import CANARY, ORIGIN, a_place, page_at
from tests.security.vaults import everything_stored
from tests.vault.rig import SEED_80_BITS, Time

NASTY = "</p><script>alert(1)</script>\"'<img src=x> \u202eevil\x1b[2J"


@pytest.mark.parametrize("http", [False, True], ids=["loopback only", "over HTTP"])
async def test_a_person_enters_a_secret_and_the_agent_learns_only_that_it_is_there(
    http: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with a_place(http=http) as place:
        asked = await place.request(kind="login", reason="to file the report")
        assert asked.state == "open"
        assert urlsplit(asked.url).hostname == "127.0.0.1"
        async with page_at(asked.url) as page:
            shown = await page.open()
            for told in ("local-agent", "work", "prod/api", ORIGIN, "to file the report"):
                assert told in shown.text
            refused = await page.send(username="ann", password=CANARY, totp="no seed!")
            assert refused.status_code == 422
            assert CANARY not in refused.text and "no seed!" not in refused.text
            page.text = refused.text
            stored = await page.send(username="ann", password=CANARY, totp=SEED_80_BITS)
            assert stored.status_code == 200 and CANARY not in stored.text
        view = await place.state(asked.request, timeout_s=20)
        assert (view.state, view.version, view.url) == ("entered", 1, None)
        described = await place.world.call("vault.describe", space=place.space, path="prod/api")
        assert (described.fields, described.origins) == (["username", "password", "totp"], [ORIGIN])
        assert (await place.world.govern("vault.get", path="prod/api")).value == CANARY
        token = asked.url.rpartition("/")[2]
        stored_text = everything_stored(place.world.database)
        ours = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))
        assert [form for form in (*encodings(CANARY), token) if form in stored_text + ours] == []


async def test_t18_nothing_that_the_agent_wrote_is_markup_on_the_page() -> None:
    async with a_place() as place:
        asked = await place.request(reason=NASTY)
        async with page_at(asked.url) as page:
            text = (await page.open()).text
        assert "<script" not in text and "<img" not in text
        assert "\u202e" not in text and "\x1b" not in text
        assert html.escape("</p><script>alert(1)</script>\"'<img src=x> ") in text


async def test_a_page_cannot_run_be_framed_kept_or_passed_on() -> None:
    async with a_place() as place:
        asked = await place.request()
        async with page_at(asked.url) as page:
            headers = (await page.open()).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "script-src" not in policy
        assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        assert "set-cookie" not in headers


FOREIGN: list[dict[str, str]] = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "null", "sec-fetch-site": "cross-site"},
    {"origin": "null", "sec-fetch-site": "none"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"host": "evil.example"},
    {"host": "127.0.0.1"},
    {"content-type": "text/plain"},
    {"content-type": "multipart/form-data; boundary=x"},
]


@pytest.mark.parametrize("http", [False, True], ids=["loopback only", "over HTTP"])
@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_n19_n20_a_form_that_another_page_sends_stores_nothing(headers: dict[str, str], http: bool) -> None:
    async with a_place(http=http) as place:
        asked = await place.request()
        async with page_at(asked.url) as page:
            await page.open()
            assert (await page.send(headers=headers, value=CANARY)).status_code == 403
            assert (await place.state(asked.request)).state == "open"
            # As a browser sends the form of a page that has no referrer.
            own = {"origin": "null", "sec-fetch-site": "same-origin"}
            assert (await page.send(headers=own, value=CANARY)).status_code == 200


async def test_a_form_that_was_never_shown_stores_nothing() -> None:
    async with a_place() as place:
        asked, other = await place.request(), await place.request(path="prod/other")
        async with page_at(asked.url) as page, page_at(other.url) as second:
            page.text = '<input name="form" value="guess">'
            assert (await page.send(value=CANARY)).status_code == 403
            await second.open()
            page.text = second.text
            assert (await page.send(value=CANARY)).status_code == 403
            assert (await page.http.put(asked.url)).status_code == 405


async def test_a_page_works_once() -> None:
    async with a_place() as place:
        asked, still = await place.request(), await place.request(path="prod/other")
        async with page_at(asked.url) as page:
            await page.open()
            codes: list[int] = []

            async def send(number: int) -> None:
                codes.append((await page.send(value=f"{CANARY}{number}")).status_code)

            async with anyio.create_task_group() as tasks:
                for number in range(8):
                    tasks.start_soon(send, number)
            assert sorted(codes) == [200, *[404] * 7]
            assert (await page.open()).status_code == 404
            unknown = await page.http.get(still.url[:-4] + "AAAA")
            assert (unknown.status_code, unknown.text) == (404, page.text)
        assert (await place.world.govern("vault.describe", path="prod/api")).version == 1


async def test_a_page_is_over_after_ten_minutes_and_after_many_tries() -> None:
    time = Time()
    async with a_place(clock=time.clock) as place:
        asked = await place.request(kind="login")
        async with page_at(asked.url) as page:
            await page.open()
            for _ in range(ATTEMPTS_MAX):
                assert (await page.send(password="x" * 9, totp="no seed")).status_code == 422
            assert (await page.send(password="x" * 9)).status_code == 404
        assert (await place.state(asked.request)).state == "refused"
        late = await place.request()
        async with page_at(late.url) as page:
            await page.open()
            time.now += LIFETIME_S
            assert (await page.send(value=CANARY)).status_code == 404
        assert (await place.state(late.request)).state == "over"
        assert (await place.world.govern("vault.list")).total == 0


async def test_a_person_may_say_no() -> None:
    async with a_place() as place:
        asked = await place.request()
        async with page_at(asked.url) as page:
            await page.open()
            assert "Nothing was stored" in (await page.send(answer="refuse")).text
        assert (await place.state(asked.request)).state == "refused"


async def test_nothing_listens_but_while_a_page_is_open() -> None:
    async with a_place() as place:
        assert place.world.app.entries.address is not None
        asked, second = await place.request(), await place.request(path="prod/b")
        port = urlsplit(asked.url).port
        assert port == urlsplit(second.url).port
        async with page_at(asked.url) as page:
            assert (await page.http.get(f"http://127.0.0.1:{port}/mcp")).status_code == 404
            for one in (asked, second):
                page.url = one.url
                await page.open()
                assert (await page.send(value=CANARY)).status_code == 200

        async def closed() -> bool:
            try:
                stream = await anyio.connect_tcp("127.0.0.1", port or 0)
            except OSError:
                return True
            await stream.aclose()
            return False

        with anyio.fail_after(20):
            while not await closed():
                await anyio.lowlevel.checkpoint()
        again = await place.request(path="prod/c")
        async with page_at(again.url) as page:
            assert (await page.open()).status_code == 200
