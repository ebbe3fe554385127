"""What reaches Streamable HTTP from the network: each case is named after its line in docs/threat-model.md."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest

from mcp_spaces.errors import InvalidInput
from mcp_spaces.server.http import check_bind
from mcp_spaces.settings import Settings
from tests.server.doors import House, open_house
from tests.server.small_app import KEY, LINK_TOKEN, OTHER_KEY, SPACE_ID

BOTH = "application/json, text/event-stream"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
ERAS = ("2026-07-28", "2025-11-25")


class Http:
    """A client that may send anything."""

    def __init__(self, house: House, client: httpx2.AsyncClient) -> None:
        self.house = house
        self.client = client
        self.port = urlsplit(house.url).port or 0

    async def post(
        self, method: str, params: Mapping[str, Any] | None = None, *, key: str = KEY, **headers: str
    ) -> httpx2.Response:
        """One request of 2026-07-28. Header names are written with underscores."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": ENVELOPE, **(params or {})}}
        name = (params or {}).get("name") or (params or {}).get("uri")
        own = {"mcp_method": method} | ({"mcp_name": str(name)} if name else {})
        return await self.send(json.dumps(body).encode(), key=key, **{**own, **headers})

    async def send(self, content: bytes, *, key: str = KEY, **headers: str) -> httpx2.Response:
        sent = {
            "authorization": f"Bearer {key}",
            "accept": BOTH,
            "content_type": "application/json",
            "mcp_protocol_version": "2026-07-28",
            **headers,
        }
        return await self.client.post(
            self.house.url,
            content=content,
            headers={name.replace("_", "-"): value for name, value in sent.items() if value},
        )

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        return await self.client.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})


GUARD_S = 20.0
"""What a busy machine may take on top of what is promised."""


@asynccontextmanager
async def http(**settings: Any) -> AsyncIterator[Http]:
    async with open_house(**settings) as house, httpx2.AsyncClient(timeout=20) as client:
        yield Http(house, client)


# ------------------------------------------------------------------------------------- N18, N19, N20, N21


@pytest.mark.parametrize("path", ["/mcp", "/links/" + LINK_TOKEN, "/healthz", "/anything"])
@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1", "localhost.evil.test", "127.0.0.1:1", "", "[::1]"])
async def test_n18_another_host_is_refused_on_every_route(path: str, host: str) -> None:
    async with http() as client:
        answer = await client.get(path, host=host, authorization=f"Bearer {KEY}")
        assert answer.status_code in (400, 403)
        assert not client.house.app.redeemed


async def test_n18_the_servers_own_names_are_accepted() -> None:
    async with http(http_allowed_hosts="spaces.example.org") as client:
        for host in (
            f"127.0.0.1:{client.port}",
            f"localhost:{client.port}",
            f"[::1]:{client.port}",
            "spaces.example.org",
        ):
            assert (await client.get("/healthz", host=host)).status_code == 200


@pytest.mark.parametrize("bound", ["0.0.0.0", "127.0.0.1"])
async def test_n18_host_is_checked_whatever_address_is_bound(bound: str) -> None:
    async with http(http_host=bound, http_allowed_hosts=("spaces.example.org",), http_behind_tls_proxy=True) as client:
        assert (await client.get("/healthz", host="spaces.example.org")).status_code == 200
        assert (await client.get("/healthz", host="spaces.example.org.evil.test")).status_code == 403


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", ""]
)
@pytest.mark.parametrize("era", ERAS)
async def test_n19_what_a_page_can_send_without_asking_is_not_read(content_type: str, era: str) -> None:
    async with http() as client:
        answer = await client.post(
            "tools/call",
            {"name": "thing_echo", "arguments": {"text": "a"}},
            content_type=content_type,
            mcp_protocol_version=era,
        )
        assert answer.status_code == 415
        assert "set-cookie" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
        assert not client.house.app.bench.calls


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://localhost.evil",
        "http://127.0.0.1:1@evil.test",
        "https://evil.test",
        "http://127.0.0.1",
        "file://",
    ],
)
async def test_n20_another_origin_is_refused(origin: str) -> None:
    async with http() as client:
        assert (await client.post("tools/list", origin=origin)).status_code == 403
        own = f"http://localhost:{client.port}"
        assert (await client.post("tools/list", origin=own)).status_code == 200


async def test_n21_headers_that_contradict_the_body_are_refused() -> None:
    async with http() as client:
        echo = {"name": "thing_echo", "arguments": {"text": "a"}}
        answer = await client.post("tools/call", echo, mcp_name="thing_refuse")
        assert answer.json()["error"]["code"] == -32020
        answer = await client.post("tools/call", echo, mcp_method="tools/list")
        assert answer.json()["error"]["code"] == -32020
        assert not client.house.app.bench.calls


# ------------------------------------------------------------------------------------------------------- N04


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "spaces.example.org"])
def test_n04_nobody_else_can_reach_the_server_without_names_and_tls(host: str) -> None:
    with pytest.raises(InvalidInput, match="no name is allowed"):
        check_bind(Settings(http_host=host, http_port=0))
    with pytest.raises(InvalidInput, match="clear text"):
        check_bind(Settings(http_host=host, http_port=0, http_allowed_hosts=("a.example",)))
    check_bind(Settings(http_host=host, http_port=0, http_allowed_hosts=("a.example",), http_behind_tls_proxy=True))
    for loopback in ("127.0.0.1", "::1", "localhost"):
        check_bind(Settings(http_host=loopback, http_port=0))


# --------------------------------------------------------------------------------------------------- T03, T07


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Basic abc", f"Bearer {KEY}x", f"Bearer {KEY} {KEY}", "Bearer \x01"]
)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_t03_without_a_valid_key_nothing_is_served(authorization: str, method: str) -> None:
    async with http() as client:
        headers = {"accept": BOTH, "content-type": "application/json", "authorization": authorization}
        answer = await client.client.request(
            method, client.house.url, content=b"{}", headers={name: value for name, value in headers.items() if value}
        )
        assert answer.status_code in (400, 401)
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_t03_a_key_in_the_address_opens_nothing_and_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with http() as client:
        for name in ("access_token", "key", "token", "authorization"):
            answer = await client.get(f"/mcp?{name}={KEY}", accept=BOTH)
            assert answer.status_code == 401
        assert (await client.post("tools/list")).status_code == 200
        await client.get(f"/links/{LINK_TOKEN}")
        assert (await client.get(f"/mcp/{KEY}", accept=BOTH)).status_code == 404
    ours = [
        record.getMessage() for record in caplog.records if record.name.startswith(("mcp_spaces", "mcp.", "uvicorn"))
    ]
    assert any("/mcp 401" in line for line in ours)
    assert any("/links/…" in line for line in ours)
    assert not any(KEY in line or LINK_TOKEN in line for line in ours)


async def test_t07_a_session_serves_only_the_key_that_opened_it() -> None:
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
    listing = json.dumps({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}).encode()
    async with http() as client:
        opened = await client.send(json.dumps(hello).encode(), mcp_protocol_version="")
        session = opened.headers["mcp-session-id"]
        own = await client.send(listing, mcp_protocol_version="2025-11-25", mcp_session_id=session)
        assert own.status_code == 200
        foreign = await client.send(listing, key=OTHER_KEY, mcp_protocol_version="2025-11-25", mcp_session_id=session)
        unknown = await client.send(listing, key=OTHER_KEY, mcp_protocol_version="2025-11-25", mcp_session_id="f" * 32)
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.json() == unknown.json()


# ------------------------------------------------------------------------------------------------------- T06


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_t06_a_revoked_key_ends_its_running_call_within_two_seconds(era: Any) -> None:
    async with (
        open_house() as house,
        house.client("http", era, key=KEY) as client,
        anyio.create_task_group() as tasks,
    ):

        async def call() -> None:
            result = await client.call_tool("thing_wait", {})
            assert (result.meta or {})["mcp-spaces/error"]["code"] == "cancelled"

        tasks.start_soon(call)
        with anyio.fail_after(10):
            await house.app.bench.waiting.wait()
        # Nothing else would end it.
        with anyio.fail_after(GUARD_S):
            await house.app.revoke(KEY)
            await house.app.bench.cancelled.wait()


# ------------------------------------------------------------------------------------------------------- T13

CALL = '{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"thing_echo","arguments":{}}}}}'
AMBIGUOUS = [
    CALL.format('{"text":"a","text":"b"}'),
    CALL.format('{"text":NaN}'),
    CALL.format('{"text":-Infinity}'),
    CALL.format('{"text":1e400}'),
    CALL.format('{"text":"\\ud800"}'),
    CALL.format('{"text":' + "9" * 5_000 + "}"),
    CALL.format('{"text":' + "[" * 100_000 + "]" * 100_000 + "}"),
    '{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
    "{",
    "",
]


@pytest.mark.parametrize("body", AMBIGUOUS, ids=range(len(AMBIGUOUS)))
@pytest.mark.parametrize("era", ERAS)
async def test_t13_json_that_two_parsers_could_read_differently_is_refused(body: str, era: str) -> None:
    async with http() as client:
        answer = await client.send(body.encode(), mcp_protocol_version=era)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == -32700
        assert answer.json()["id"] in (7, None)
        assert not client.house.app.bench.calls


# ------------------------------------------------------------------------------------------- D09, D10, D11


async def test_the_largest_write_that_operations_take_arrives() -> None:
    async with http() as client:
        # 10 MiB as base64; this operation takes less text, and says so.
        answer = await client.post("tools/call", {"name": "thing_echo", "arguments": {"text": "x" * (14 << 20)}})
        assert answer.status_code == 200
        assert "at most 100000 characters" in answer.text


@pytest.mark.parametrize("era", ERAS)
async def test_d09_a_huge_body_is_refused(era: str) -> None:
    async with http(http_body_bytes_max=4 << 20) as client:
        answer = await client.send(b'{"text":"' + b"x" * (5 << 20) + b'"}', mcp_protocol_version=era)
        assert answer.status_code == 413
        assert (await client.post("tools/list")).status_code == 200


@pytest.mark.parametrize(("header_s", "count"), [(60, 500), (1, 50)])
async def test_d10_connections_that_send_nothing_are_closed_and_hold_up_nobody(header_s: int, count: int) -> None:
    async with http(http_header_s=header_s, http_connections_max=1_024) as client, AsyncExitStack() as connections:
        half_open = []
        for number in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
            connections.callback(writer.close)
            if number % 2:
                writer.write(b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
            half_open.append(reader)
        if header_s > GUARD_S:
            # Long before any of them is closed.
            with anyio.fail_after(GUARD_S):
                for _ in range(20):
                    assert (await client.post("tools/list")).status_code == 200
        else:
            with anyio.fail_after(GUARD_S):
                for reader in half_open:
                    await _until_closed(reader)


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        while await reader.read(1024):
            pass


async def test_d10_a_body_that_never_comes_closes_the_connection() -> None:
    async with http(http_body_s=0.3) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        head = (
            f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nAuthorization: Bearer {KEY}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        writer.write(head.encode())
        with anyio.fail_after(GUARD_S):
            await _until_closed(reader)
        writer.close()


async def test_d10_a_slow_second_request_on_a_kept_connection_is_closed_too() -> None:
    async with http(http_header_s=2) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n\r\n".encode())
        with anyio.fail_after(GUARD_S):
            assert b"200 OK" in await reader.readline()
            writer.write(b"GET /healthz HTTP/1.1\r\n")
            await _until_closed(reader)
        writer.close()


async def test_d10_an_answer_may_take_longer_than_a_request() -> None:
    async with (
        open_house(http_header_s=2, http_body_s=2) as house,
        house.client("http") as client,
        anyio.create_task_group() as tasks,
    ):

        async def call() -> None:
            assert not (await client.call_tool("thing_wait", {})).is_error

        tasks.start_soon(call)
        with anyio.fail_after(10):
            await house.app.bench.waiting.wait()
            # The deadlines themselves are what has to pass.
            await _clock_passes(2.5)
        house.app.bench.go_on.set()


async def _clock_passes(seconds: float) -> None:
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, passed.set)
    await passed.wait()


async def test_d11_connections_above_the_limit_are_told_so() -> None:
    async with http(http_connections_max=8) as client:
        idle = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(8)]
        try:
            with anyio.fail_after(GUARD_S):
                while (await client.get("/healthz")).status_code != 503:
                    await anyio.wait_all_tasks_blocked()
        finally:
            for one in idle:
                one.close()
        with anyio.fail_after(GUARD_S):
            while (await client.get("/healthz")).status_code != 200:
                await anyio.wait_all_tasks_blocked()


async def test_d11_one_keys_calls_are_counted_over_all_its_connections() -> None:
    async with http(agent_calls_max=2) as client, anyio.create_task_group() as tasks:
        wait = {"name": "thing_wait", "arguments": {}}
        echo = {"name": "thing_echo", "arguments": {"text": "a"}}
        for _ in range(2):
            tasks.start_soon(client.post, "tools/call", wait)
        with anyio.fail_after(10):
            while len(client.house.app.pipeline.active._by_run) < 2:
                await anyio.wait_all_tasks_blocked()
        refused = (await client.post("tools/call", echo)).json()["result"]
        assert refused["_meta"]["mcp-spaces/error"]["code"] == "quota"
        other = (await client.post("tools/call", echo, key=OTHER_KEY)).json()["result"]
        assert "isError" not in other or not other["isError"]
        client.house.app.bench.go_on.set()


HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


async def hello(client: Http, *, key: str = KEY) -> httpx2.Response:
    """What opens a session of the handshake era."""
    return await client.send(json.dumps(HELLO).encode(), key=key, mcp_protocol_version="")


async def test_d11_sessions_above_the_limit_are_refused() -> None:
    async with http(http_sessions_max=2) as client:
        assert [(await hello(client)).status_code for _ in range(3)] == [200, 200, 503]


async def test_d11_one_key_opens_so_many_sessions_and_leaves_room_for_others() -> None:
    async with http(http_sessions_per_key_max=2) as client:
        opened = [await hello(client) for _ in range(3)]
        assert [one.status_code for one in opened] == [200, 200, 503]
        assert (await hello(client, key=OTHER_KEY)).status_code == 200
        session = opened[0].headers["mcp-session-id"]
        headers = {"authorization": f"Bearer {KEY}", "mcp-session-id": session, "mcp-protocol-version": "2025-11-25"}
        await client.client.delete(client.house.url, headers=headers)
        assert (await hello(client)).status_code == 200


async def test_t06_a_session_ends_with_its_key_and_makes_room() -> None:
    async with http(http_sessions_max=2) as client:
        app = client.house.app
        assert [(await hello(client)).status_code, (await hello(client, key=OTHER_KEY)).status_code] == [200, 200]
        assert (await hello(client, key=OTHER_KEY)).status_code == 503
        await app.revoke(KEY)
        with anyio.fail_after(10):
            while (await hello(client, key=OTHER_KEY)).status_code != 200:
                pass


async def test_t06_whoever_comes_later_does_not_put_off_the_end_of_an_expired_key() -> None:
    async with open_house(key_check_s=0.3) as house:
        guard, first = house.server.guard, house.app.keys[KEY]
        with anyio.fail_after(10), guard.following(first) as scope:
            del house.app.keys[KEY]
            while True:
                with guard.following(house.app.keys[OTHER_KEY]):
                    await anyio.sleep(0.05)
        assert scope.cancelled_caught


async def test_a_request_leaves_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with http() as client:
        caplog.clear()
        assert (await client.post("tools/list")).status_code == 200
        said = [one for one in caplog.records if not one.name.startswith(("httpx", "httpcore", "asyncio"))]
        assert [one.getMessage() for one in said] == []


# ---------------------------------------------------------------------------------------------- S18, L24, T11


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


# ------------------------------------------------------------------------------------------------------- T23


@pytest.mark.parametrize("path", ["/sse", "/messages", "/messages/", "/", "/mcp/", "/MCP", "/docs"])
async def test_t23_there_is_no_older_transport(path: str) -> None:
    async with http() as client:
        assert (await client.get(path, authorization=f"Bearer {KEY}")).status_code == 404
