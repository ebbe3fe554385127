"""Leases: a real Playwright client, and raw clients that are up to something, on the real browser."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from playwright.async_api import Error, async_playwright
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake

from mcp_spaces.browser.driver.container import ContainedHost
from mcp_spaces.browser.driver.devtools import DevToolsPipe
from mcp_spaces.browser.driver.host import HostedContext
from mcp_spaces.browser.lease import OURS
from mcp_spaces.browser.lease_rules import Answered, screened
from mcp_spaces.core.active import ActiveCalls
from mcp_spaces.errors import ApprovalNeeded, Denied, RuntimeUnavailable, WrongState
from mcp_spaces.runs.store import RunStore
from mcp_spaces.sandbox.port import Command, Stream
from tests.browser.room import Room, open_room
from tests.leaps import leap

pytestmark = pytest.mark.anyio

PATIENCE_S = 20
REFUSED = (ConnectionError, TimeoutError)
PAGES = {"/": "<title>Shop</title><input id=n><input type=file id=f>"}


@pytest.fixture(scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Room]:
    async with open_room(tmp_path_factory.mktemp("room"), pages=PAGES) as room:
        yield room


@pytest.fixture
async def room(opened: Room) -> AsyncIterator[Room]:
    """With a browser of its own process."""
    await opened.policy()
    opened.runtime = await opened.launched(options={"isolation": "process"})
    yield opened
    await opened.call("browser.delete")


async def leased(room: Room, **more: Any) -> str:
    url: str = (await room.call("browser.connect", **more)).url
    return url


async def until_free(room: Room) -> None:
    live = room.live(room.runtime)
    with anyio.fail_after(PATIENCE_S):
        while live.lease is not None:  # noqa: ASYNC110 - the end of a lease is told to nobody but the record
            await anyio.sleep(0.01)


async def say(client: ClientConnection, method: str, **params: Any) -> dict[str, Any]:
    await client.send(json.dumps({"id": 7, "method": method, "params": params}))
    with anyio.fail_after(PATIENCE_S):
        while True:
            told: dict[str, Any] = json.loads(await client.recv())
            if told.get("id") == 7:
                return told


async def test_a_real_playwright_client_controls_the_browser_and_gives_it_back(room: Room) -> None:
    await room.call("browser.navigate", url=room.url)
    url = await leased(room)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(url)
        (context,) = browser.contexts
        assert [page.url for page in context.pages] == [room.url], "pages of no runtime are not shown"
        await context.pages[0].fill("#n", "typed by a client")
        page = await context.new_page()
        response = await page.goto(room.url)
        assert response is not None and response.status == 200, "its pages have the runtime's own way out"
        await browser.close()
    await until_free(room)
    pages = (await room.call("browser.pages")).pages
    assert [one.url for one in pages] == [room.url, room.url]
    assert 'value="typed by a client"' in (await room.call("browser.snapshot", page="p1")).snapshot


async def test_while_it_is_leased_nobody_else_controls_it_and_disconnect_ends_that_at_once(room: Room) -> None:
    url = await leased(room)
    with pytest.raises(WrongState) as refused:
        await room.call("browser.snapshot")
    assert "lease" in refused.value.message
    with pytest.raises(WrongState):
        await room.call("browser.connect")
    async with connect(url) as client:
        await say(client, "Browser.getVersion")
        assert (await room.call("browser.disconnect")).ended
        with anyio.fail_after(PATIENCE_S):
            await client.wait_closed()
    assert not (await room.call("browser.disconnect")).ended
    assert (await room.call("browser.pages")).pages


async def test_a_lease_that_nobody_uses_ends_with_its_time(room: Room) -> None:
    url = await leased(room, ttl_s=1)
    await until_free(room)
    with pytest.raises(REFUSED):
        await connect(url)
    assert (await room.call("browser.pages")).pages


async def test_a_client_is_sent_away_when_its_time_is_over_whatever_it_left_unanswered(room: Room) -> None:
    url = await leased(room, ttl_s=PATIENCE_S)
    async with connect(url) as client:
        told = await say(client, "Target.getTargets")
        (target,) = told["result"]["targetInfos"]
        attached = await say(client, "Target.attachToTarget", targetId=target["targetId"], flatten=True)
        session = attached["result"]["sessionId"]
        never = {"expression": "new Promise(() => {})", "awaitPromise": True}
        await client.send(json.dumps({"id": 8, "method": "Runtime.evaluate", "params": never, "sessionId": session}))
        leap(PATIENCE_S)
        with anyio.fail_after(PATIENCE_S):
            await client.wait_closed()
    await until_free(room)
    # The late answer to an order of a client that left must not reach Playwright, whose driver would end at it.
    await room.call("browser.navigate", url=room.url)
    async with connect(await leased(room)) as another:
        assert "result" in await say(another, "Browser.getVersion")


async def test_stopping_the_browser_ends_its_lease(room: Room) -> None:
    async with connect(await leased(room)) as client:
        await room.call("browser.stop")
        with anyio.fail_after(PATIENCE_S):
            await client.wait_closed()
    assert not (await room.call("browser.disconnect")).ended
    await room.call("browser.launch", alias="browser")


@pytest.mark.parametrize("ending", ["revoked", "expired", "narrowed"])
async def test_t06_a_lease_ends_with_the_permission_that_it_was_given_under(room: Room, ending: str) -> None:
    lasts_s = 3.0 if ending == "expired" else 600.0
    made = (await room.govern("key.create", label="guest", expires_in_s=lasts_s)).model_dump()
    guest = await room.app.authenticate(made["token"])
    lent = await room.outcome("browser.connect", caller=guest, ttl_s=600)
    async with connect(lent.output.model_dump()["url"]) as client:
        if ending != "expired":
            assert "result" in await say(client, "Browser.getVersion")
        if ending == "revoked":
            await room.govern("key.revoke", key=made["id"])
        elif ending == "narrowed":
            await room.policy(level="interact")
        with anyio.fail_after(PATIENCE_S):
            await client.wait_closed()
    await until_free(room)
    with anyio.fail_after(PATIENCE_S):
        while room.use(ActiveCalls).any_in(room.space):  # noqa: ASYNC110 - as above
            await anyio.sleep(0.01)


async def test_the_end_of_a_lease_is_told_as_every_other_time_is(room: Room) -> None:
    outcome = await room.outcome("browser.connect", ttl_s=60)
    (leased,) = (one for one in room.use(RunStore).events(outcome.run_id, after=0, limit=50) if one.type == "leased")
    ends = datetime.fromisoformat(outcome.output.model_dump()["expires_at"])
    assert ends.timestamp() == int(json.loads(json.dumps(leased.body))["expires_at"])
    await room.call("browser.disconnect")


async def test_a_lease_is_recorded_and_its_token_is_in_no_record(room: Room) -> None:
    outcome = await room.outcome("browser.connect", ttl_s=60)
    url: str = outcome.output.model_dump()["url"]
    token = urlsplit(url).path[1:]
    assert len(token) >= 43
    await room.call("browser.disconnect")
    events = room.use(RunStore).events(outcome.run_id, after=0, limit=50)
    told = {line.type: json.dumps(line.body) for line in events}
    assert "expires_at" in told["leased"] and '"used": false' in told["leaseEnded"]
    run = await room.anywhere("run.get", run=outcome.run_id)
    assert token not in run.model_dump_json()


@pytest.mark.parametrize("moment", ["Target.attachToTarget", "Target.getTargetInfo", "Target.attachToBrowserTarget"])
async def test_a_loan_that_is_given_up_half_way_leaves_nobody_attached(
    room: Room, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    live = room.live(room.runtime).live
    assert isinstance(live, HostedContext)
    pipe, orders = live.host.pipe, list[str]()
    send = pipe._send
    with anyio.CancelScope() as caller:

        async def sent(message: bytes) -> None:
            method = json.loads(message.rstrip(b"\0"))["method"]
            orders.append(method)
            if method == moment:
                caller.cancel()
            await send(message)

        monkeypatch.setattr(pipe, "_send", sent)
        await leased(room)
    assert caller.cancelled_caught
    await until_free(room)
    assert pipe.guest is None
    begun = orders.count("Target.attachToTarget") + orders.count("Target.attachToBrowserTarget")
    assert begun == orders.count("Target.detachFromTarget") > 0
    assert (await room.call("browser.pages")).pages


async def test_b21_the_token_is_for_one_client_once_and_from_this_machine_only(room: Room) -> None:
    url = await leased(room)
    parts = urlsplit(url)
    own = f"http://127.0.0.1:{parts.port}"
    for there, origin in (
        (url.replace(parts.path, "/" + "A" * 43), None),
        (url.replace(parts.path, "/"), None),
        (url, "http://evil.test"),
        (url, own),
    ):
        with pytest.raises(InvalidHandshake):
            await connect(there, additional_headers={} if origin is None else {"Origin": origin})
    # A page that reaches 127.0.0.1 under a name of its own.
    rebound = f"ws://evil.test:{parts.port}{parts.path}"
    with pytest.raises(InvalidHandshake):
        await connect(rebound, host="127.0.0.1", port=parts.port)
    async with connect(url) as client:
        assert "result" in await say(client, "Browser.getVersion")
        with pytest.raises((OSError, InvalidHandshake)):
            await connect(url)
    await until_free(room)
    with pytest.raises((OSError, InvalidHandshake)):
        await connect(url)


async def test_b21_a_client_that_waited_at_the_door_is_refused_when_another_one_was_let_in(room: Room) -> None:
    url = await leased(room)
    address = urlsplit(url)
    asks = f"GET {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    asks += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    async with await anyio.connect_tcp("127.0.0.1", address.port or 0) as waiting, connect(url) as first:
        assert "result" in await say(first, "Browser.getVersion")
        with anyio.fail_after(PATIENCE_S):
            await waiting.send(asks.encode())
            assert (await waiting.receive()).startswith(b"HTTP/1.1 403 ")
        assert "result" in await say(first, "Browser.getVersion")


async def test_a_client_that_numbers_its_orders_as_the_lease_does_is_sent_away(room: Room) -> None:
    async with connect(await leased(room)) as client:
        await client.send(json.dumps({"id": OURS, "method": "Browser.getVersion"}))
        with anyio.fail_after(PATIENCE_S):
            await client.wait_closed()


async def test_b21_chromium_listens_nowhere_and_in_its_container_only_the_proxy_does(room: Room) -> None:
    live = room.live(room.runtime).live
    assert isinstance(live, HostedContext) and isinstance(live.host, ContainedHost)
    sandbox = live.host.sandbox
    heard: list[bytes] = []

    def take(stream: Stream, chunk: bytes) -> None:
        if stream is Stream.STDOUT:
            heard.append(chunk)

    async def listening() -> set[int]:
        heard.clear()
        command = Command(("/bin/sh", "-c", "cat /proc/net/tcp /proc/net/tcp6"))
        process = await sandbox.start(command, output=take)
        with anyio.fail_after(PATIENCE_S):
            await process.wait()
        rows = [line.split() for line in b"".join(heard).decode().splitlines()]
        return {int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 3 and row[3] == "0A"}

    before = await listening()
    assert before == {live._way.port}, "the runtime's own proxy, and nothing else"
    async with connect(await leased(room)):
        assert await listening() == before
    await until_free(room)


async def test_b21_nothing_of_a_lease_listens_before_or_after_it_and_never_beyond_loopback(room: Room) -> None:
    parts = urlsplit(await leased(room))
    assert parts.hostname == "127.0.0.1" and parts.port is not None
    with socket.socket() as beyond:
        beyond.settimeout(2)
        with pytest.raises(REFUSED):
            beyond.connect((address_of_this_machine(), parts.port))
    await room.call("browser.disconnect")
    with socket.socket() as after, pytest.raises(REFUSED):
        after.connect(("127.0.0.1", parts.port))


def address_of_this_machine() -> str:
    """One that is not loopback; nothing is sent. Where there is none, one that leads nowhere."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "192.0.2.1"
        return str(probe.getsockname()[0])


FORBIDDEN: list[tuple[str, dict[str, Any]]] = [
    ("Browser.close", {}),
    ("Browser.crash", {}),
    ("Target.createBrowserContext", {}),
    ("Target.disposeBrowserContext", {"browserContextId": "x"}),
    ("Target.exposeDevToolsProtocol", {"targetId": "x"}),
    ("Target.attachToBrowserTarget", {}),
    ("DOM.setFileInputFiles", {"files": ["/etc/passwd"], "objectId": "x"}),
    ("Input.dispatchDragEvent", {"type": "drop", "x": 1, "y": 1, "data": {"items": [], "files": ["/etc/passwd"]}}),
    ("Page.navigate", {"url": "file:///etc/passwd"}),
    ("Page.navigate", {"url": "chrome://version"}),
    ("Target.createTarget", {"url": "file:///etc/passwd"}),
    ("SystemInfo.getInfo", {}),
    ("Tracing.start", {}),
    ("Security.setIgnoreCertificateErrors", {"ignore": True}),
    ("Extensions.loadUnpacked", {"path": "/tmp"}),
    ("NoSuchDomain.method", {}),
]


@pytest.mark.parametrize(("method", "params"), FORBIDDEN, ids=lambda one: str(one)[:60])
def test_what_leads_out_of_the_context_is_refused(method: str, params: dict[str, Any]) -> None:
    verdict = screened(json.dumps({"id": 1, "method": method, "params": params}), context_id="own")
    assert isinstance(verdict, Answered) and "error" in verdict.answer


@pytest.mark.parametrize("nonsense", ["", "[]", "{}", '{"id": true, "method": "Page.enable"}', "[" * 100_000, "\x00"])
def test_what_is_no_message_has_no_answer(nonsense: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        screened(nonsense, context_id="own")


async def test_a_client_cannot_leave_its_context_nor_end_the_browser(room: Room) -> None:
    async with connect(await leased(room)) as client:
        for method, params in FORBIDDEN:
            assert "error" in await say(client, method, **params), method
        opened = await say(client, "Target.createTarget", url=room.url, browserContextId="another")
        infos = (await say(client, "Target.getTargets"))["result"]["targetInfos"]
        assert opened["result"]["targetId"] in {one["targetId"] for one in infos}
        assert len({one["browserContextId"] for one in infos if "browserContextId" in one}) == 1
        await client.send(json.dumps({"id": 9, "method": "Page.enable", "sessionId": "somebody-elses"}))
        with anyio.fail_after(PATIENCE_S):
            await client.wait_closed()
    await until_free(room)
    with anyio.fail_after(PATIENCE_S):
        while len(room.live(room.runtime).pages) != 2:  # noqa: ASYNC110 - Playwright finds the new page by itself
            await anyio.sleep(0.01)
    assert (await room.call("browser.navigate", page="p2", url=room.url)).status == 200


async def test_l20_no_lease_where_a_session_could_be_copied(room: Room, opened: Room) -> None:
    live = room.live(room.runtime)
    live.secret_inside = True
    with pytest.raises(WrongState):
        await room.call("browser.connect")
    live.secret_inside = False
    live.used({"a-secret-value": "prod/crm"})
    with pytest.raises(WrongState) as tainted:
        await room.call("browser.connect")
    assert tainted.value.hint
    await room.call("browser.launch", alias="kept", profile="work", options={"isolation": "process"})
    with pytest.raises(WrongState) as kept:
        await room.call("browser.connect", runtime="kept")
    assert "profile" in kept.value.message
    await room.call("browser.delete", runtime="kept")


async def test_a_browser_that_others_share_is_not_lent(opened: Room) -> None:
    await opened.policy()
    await opened.call("browser.launch", alias="shared")
    with pytest.raises(WrongState) as refused:
        await opened.call("browser.connect", runtime="shared")
    assert "isolation=process" in refused.value.hint
    await opened.call("browser.delete", runtime="shared")


async def test_policy_lends_a_browser_only_where_browsers_may_do_everything(room: Room) -> None:
    await room.policy(level="interact", evaluate="allow")
    with pytest.raises(Denied) as refused:
        await room.call("browser.connect")
    assert refused.value.rule == "browser.level"
    await room.policy(level="all", evaluate="ask")
    with pytest.raises(ApprovalNeeded):
        await room.call("browser.connect")


async def test_a_second_playwright_client_is_refused(room: Room) -> None:
    url = await leased(room)
    async with async_playwright() as playwright:
        first = await playwright.chromium.connect_over_cdp(url)
        with pytest.raises(Error):
            await playwright.chromium.connect_over_cdp(url, timeout=3_000)
        assert first.is_connected()
    await until_free(room)


async def test_a_message_deeper_than_can_be_read_sends_the_client_away_and_stops_nobody() -> None:
    """Chromium ends at a depth of 300; one that was taken over may send anything."""
    sent: list[dict[str, Any]] = []

    async def send(content: bytes) -> None:
        order = json.loads(content.rstrip(b"\0"))
        sent.append(order)
        if order["method"] == "Target.attachToBrowserTarget":
            pipe.feed(json.dumps({"id": order["id"], "result": {"sessionId": "S1"}}).encode() + b"\0")

    pipe, deep = DevToolsPipe(send), b"[" * 100_000 + b"]" * 100_000
    for around in (b'{"id":%d,"result":{"a":%b},"sessionId":"S1"}', b'{"id":%d,"result":{"a":%b}}'):
        guest = await pipe.invite()
        await guest.send('{"id": 1, "method": "Browser.getVersion"}')
        pipe.feed(around % (sent[-1]["id"], deep) + b"\0")
        with pytest.raises(RuntimeUnavailable), anyio.fail_after(PATIENCE_S):
            await guest.receive()
        assert pipe.guest is None and not pipe.broken.is_set()
    guest = await pipe.invite()
    pipe.feed(b'{"method":"DOM.said","params":{"a":%b},"sessionId":"S1"}\0' % deep)
    assert pipe.guest is None
    guest = await pipe.invite()
    pipe.feed(b'{"id":7,"result":{"a":%b},"sessionId":"P1"}\0' % deep)
    assert pipe.guest is guest, "that one is Playwright's"
    await pipe.aclose()


async def test_a_browser_that_ends_before_it_lets_somebody_in_is_gone_at_once() -> None:
    asked = asyncio.Event()

    async def send(content: bytes) -> None:
        asked.set()

    pipe = DevToolsPipe(send)
    inviting = asyncio.ensure_future(pipe.invite())
    with anyio.fail_after(PATIENCE_S):
        await asked.wait()
        pipe.end()
        with pytest.raises(RuntimeUnavailable, match="is gone"):
            await inviting
    assert pipe.guest is None
