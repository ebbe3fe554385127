"""Pages on which people enter secrets: what they show, who may send them, how often, and what an agent learns."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client import ClientRequestContext

from mcp_spaces.core.ids import Clock
from mcp_spaces.core.redaction import encodings
from mcp_spaces.errors import Conflict, Denied, NotFound, QuotaExceeded
from mcp_spaces.server.authentication import Visitor, visited_by
from mcp_spaces.server.daemon import listening
from mcp_spaces.server.endpoint import open_server
from mcp_spaces.server.limits import Lane
from mcp_spaces.vault.entry_requests import ATTEMPTS_MAX, LIFETIME_S, OPEN_MAX, EntryRequests, EntryState
from mcp_spaces.vault.service import Vault
from tests.security.app import World, open_world, short_folder
from tests.security.daemons import nursery
from tests.security.lines import line_to
from tests.security.vaults import everything_stored
from tests.vault.rig import SEED_80_BITS, Time

CANARY = "kanarie-7f3Q+zz/9 é"
NASTY = "</p><script>alert(1)</script>\"'<img src=x> \u202eevil\x1b[2J"
ORIGIN = "https://api.example.com"


@dataclass
class Place:
    world: World
    space: str

    async def request(self, path: str = "prod/api", **more: Any) -> Any:
        return await self.world.call(
            "vault.request_entry", space=self.space, **{"path": path, "origins": [ORIGIN], **more}
        )

    async def state(self, request: str, *, timeout_s: float = 0) -> Any:
        return await self.world.call("vault.wait_entry", space=self.space, request=request, timeout_s=timeout_s)


@asynccontextmanager
async def a_place(*, clock: Clock | None = None, served: bool = True, http: bool = False) -> AsyncIterator[Place]:
    with short_folder() as folder:
        async with open_world(folder, clock=clock, http_port=0 if http else None) as world:
            vault = {"allow": ["prod"], "deny": ["prod/admin"]}
            await world.govern("principal.grant", principal="local-agent", scope={"vault": {**vault, "deny": []}})
            space = await world.space("work", mounts={"vault": vault})
            if not served:
                yield Place(world, space)
                return
            async with listening(world.app, world.app.settings):
                yield Place(world, space)


@dataclass
class Page:
    """A browser without scripts, as far as this page needs one."""

    url: str
    http: httpx2.AsyncClient
    text: str = ""

    async def open(self, **headers: str) -> httpx2.Response:
        response = await self.http.get(self.url, headers=headers)
        self.text = response.text
        return response

    @property
    def number(self) -> str:
        found = re.search(r'name="form" value="([^"]+)"', self.text)
        assert found is not None, self.text
        return found[1]

    async def send(self, headers: dict[str, str] | None = None, **fields: str) -> httpx2.Response:
        scheme, host, *_ = urlsplit(self.url)
        usual = {"origin": f"{scheme}://{host}", "sec-fetch-site": "same-origin"}
        sent = {"form": self.number, "answer": "store", **fields}
        return await self.http.post(self.url, data=sent, headers=usual if headers is None else headers)


@asynccontextmanager
async def page_at(url: str) -> AsyncIterator[Page]:
    async with httpx2.AsyncClient(timeout=20) as http:
        yield Page(url, http)


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


async def test_whoever_waits_is_told_at_once_and_the_run_has_an_event() -> None:
    async with a_place() as place:
        asked = await place.request(kind="value")
        told: list[Any] = []

        async def wait() -> None:
            told.append(await place.state(asked.request, timeout_s=60))

        async with anyio.create_task_group() as tasks, page_at(asked.url) as page:
            tasks.start_soon(wait)
            await page.open()
            with anyio.fail_after(20):
                await page.send(value="line one\r\nline two\r\n")
        assert told[0].state == "entered"
        assert (await place.world.govern("vault.get", path="prod/api")).value == "line one\nline two\n"
        events = [
            row["body"] for row in place.world.database.read("SELECT body FROM events WHERE type = 'secret.entry'")
        ]
        assert len(events) == 1 and '"state":"entered"' in events[0]


async def test_an_answer_that_is_being_stored_when_the_time_is_over_still_counts() -> None:
    time = Time()
    async with a_place(clock=time.clock, served=False) as place:
        asked = await place.request(kind="value")
        entries = place.world.use(EntryRequests)
        vault_is_held = place.world.use(Vault).keeping._unlocking.held(create=True)
        told: list[EntryState] = []

        async def wait() -> None:
            told.append((await entries.outcome(asked.request, space_id=place.space, timeout_s=60)).state)

        async with anyio.create_task_group() as storing, vault_is_held:
            storing.start_soon(entries.enter, asked.url.rpartition("/")[2], {"value": CANARY})
            await anyio.wait_all_tasks_blocked()
            time.now += LIFETIME_S
            assert (await place.state(asked.request)).state == "open"
            storing.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert told == []
        assert told == [EntryState.ENTERED]


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


async def test_v08_a_path_outside_of_the_mount_is_refused_whether_it_is_there_or_not() -> None:
    async with a_place(served=False) as place:
        await place.world.govern("vault.set", path="admin/root", kind="value", value=CANARY)
        told = set()
        for path in ("admin/root", "admin/none", "prod/admin"):
            with pytest.raises(Denied) as refused:
                await place.request(path=path)
            told.add((refused.value.message, refused.value.hint, refused.value.rule))
        assert len(told) == 1


async def test_what_is_there_is_replaced_only_with_the_same_kind_and_bindings() -> None:
    async with a_place() as place:
        await place.world.govern("vault.set", path="prod/api", kind="value", value="old value", origins=[ORIGIN])
        others: list[dict[str, Any]] = [
            {"origins": ["https://evil.example"]},
            {"origins": []},
            {"kind": "api_key"},
            {"headers": ["x-key"]},
        ]
        for other in others:
            with pytest.raises(Conflict):
                await place.request(**other)
        asked = await place.request()
        async with page_at(asked.url) as page:
            assert "version 1 already" in (await page.open()).text
            # It was bound elsewhere while the page was open.
            await place.world.govern("vault.update", path="prod/api", origins=["https://other.example"])
            assert (await page.send(value=CANARY)).status_code == 409
            await place.world.govern("vault.update", path="prod/api", origins=[ORIGIN])
            assert (await page.send(value=CANARY)).status_code == 200
        assert (await place.world.govern("vault.get", path="prod/api")).value == CANARY


async def test_what_a_person_leaves_empty_stays_as_it_is() -> None:
    async with a_place() as place:
        await place.world.govern(
            "vault.set", path="prod/api", kind="login", username="ann", password="old password", totp=SEED_80_BITS,
            notes="call the desk", label="Site", origins=[ORIGIN],
        )  # fmt: skip
        asked = await place.request(kind="login")
        async with page_at(asked.url) as page:
            shown = (await page.open()).text
            assert "what you leave empty stays as it is" in shown
            assert "required" not in shown
            nothing = await page.send(username="", password="", totp="")
            assert (nothing.status_code, "Nothing was entered" in nothing.text) == (422, True)
            assert (await page.send(username="", password=CANARY, totp="")).status_code == 200
        view = await place.world.govern("vault.describe", path="prod/api")
        assert (view.fields, view.label) == (["username", "password", "totp", "notes"], "Site")
        assert (view.version, view.origins) == (2, [ORIGIN])
        assert (await place.world.govern("vault.get", path="prod/api")).value == CANARY
        assert (await place.world.govern("vault.get", path="prod/api", field="notes")).value == "call the desk"


async def test_t19_a_space_cannot_wear_people_out_with_pages() -> None:
    async with a_place(served=False) as place:
        for number in range(OPEN_MAX):
            await place.request(path=f"prod/s{number}")
        with pytest.raises(QuotaExceeded):
            await place.request(path="prod/more")


async def test_t01_another_space_learns_nothing_of_a_request() -> None:
    async with a_place(served=False) as place:
        asked = await place.request()
        other = await place.world.space("other", mounts={"vault": {"allow": ["prod"]}})
        with pytest.raises(NotFound):
            await place.world.call("vault.wait_entry", space=other, request=asked.request, timeout_s=0)


@pytest.mark.parametrize("era", ["auto", "legacy"])
@pytest.mark.parametrize("through", ["vault_request_entry", "operation_call"])
async def test_a_client_that_opens_pages_is_sent_there_and_the_model_gets_no_address(
    era: Literal["auto", "legacy"], through: str
) -> None:
    opened: list[str] = []

    async def open_page(context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert isinstance(params, types.ElicitRequestURLParams)
        opened.append(params.url)
        async with page_at(params.url) as page:
            await page.open()
            assert (await page.send(value=CANARY)).status_code == 200
        return types.ElicitResult(action="accept")

    async with a_place() as place, open_server(place.world.app, place.world.app.settings) as server:
        wanted: dict[str, Any] = {"space": place.space, "path": "prod/api", "origins": [ORIGIN]}
        who = place.world.operator if through == "vault_request_entry" else place.world.agent
        if through == "operation_call":
            wanted = {"operation": "vault.request_entry", "input": wanted}
        with visited_by(Visitor(who, Lane(8, 8))):
            async with Client(server, mode=era, elicitation_callback=open_page, read_timeout_seconds=20) as client:
                answer = await client.call_tool(through, wanted)
                assert not answer.is_error, answer
                assert len(opened) == 1
                assert "/entries/" not in answer.model_dump_json()
                content = answer.structured_content or {}
                assert content["state"] == ("entered" if era == "auto" else "open")
                if era == "legacy":
                    assert (await place.state(content["request"])).state == "entered"
            async with Client(server, mode=era, read_timeout_seconds=20) as client:
                answer = await client.call_tool(through, wanted)
                assert "/entries/" in (answer.structured_content or {})["url"]


async def test_a_daemon_without_http_opens_a_page_when_one_is_asked_for_and_its_log_holds_nothing_of_it() -> None:
    with short_folder() as folder:
        state = folder / "state"
        async with nursery() as nurse:
            pid = await nurse.running(state)
            async with line_to(state, operator=True) as operator, line_to(state) as agent:
                mounts = {"vault": {"allow": ["prod"]}}
                await operator.call("principal.grant", principal="local-agent", scope=mounts)
                space = (await agent.call("space.create", name="work", mounts=mounts)).content["id"]
                asked = await agent.call("vault.request_entry", space=space, path="prod/api", origins=[ORIGIN])
                async with page_at(asked.content["url"]) as page:
                    await page.open()
                    assert (await page.send(value=CANARY)).status_code == 200
                waited = await agent.call("vault.wait_entry", space=space, request=asked.content["request"])
                assert waited.content["state"] == "entered"
                assert (await operator.call("vault.get", path="prod/api")).content["value"] == CANARY
            assert await nurse.stop(pid) == 0
        log = (state / "daemon.log").read_text("utf-8")
        assert "listening on" in log and "/entries/" not in log
        token = asked.content["url"].rpartition("/")[2]
        assert [one for one in (*encodings(CANARY), token) if one in log] == []
