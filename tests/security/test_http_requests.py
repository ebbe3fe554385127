"""One HTTP request at a time, as the server's protocol hands it over: what a client library would not let anybody send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_spaces.errors import Unauthenticated
from mcp_spaces.server.authentication import Guard, visitor
from mcp_spaces.server.http_edge import HttpEdge
from mcp_spaces.settings import Settings
from tests.server.doors import open_house
from tests.server.small_app import KEY, LINK_TOKEN, OTHER_KEY, SmallApp, small_app

HOST = "127.0.0.1:80"
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
JSON = ("content-type", "application/json")


@dataclass
class Behind:
    """What stands where MCP is served: it reads the body and answers 200, or does as it is told."""

    bodies: list[bytes] = field(default_factory=list)
    instead: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.instead is not None:
            await self.instead(scope, receive, send)
            return
        self.bodies.append((await receive()).get("body", b""))
        headers = [(b"content-type", b"text/plain"), (b"Cache-Control", b"max-age=1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"served"})


@dataclass
class Answered:
    status: int | None
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for one, value in self.headers if one.lower() == name]


@dataclass
class Edge:
    app: SmallApp
    guard: Guard
    behind: Behind
    edge: HttpEdge

    async def ask(
        self,
        method: str = "POST",
        path: str = "/mcp",
        *headers: tuple[str, str],
        key: str | None = KEY,
        hosts: Sequence[str] = (HOST,),
        body: Sequence[bytes] = (PING,),
        leaves: bool = False,
        before_the_end: Callable[[], Awaitable[object]] | None = None,
    ) -> Answered:
        """`leaves`: the client is gone after that much of the body. `before_the_end`: of the body, what happens."""
        sent = [("host", host) for host in hosts] + ([("authorization", f"Bearer {key}")] if key else [])
        waiting = [{"type": "http.request", "body": part, "more_body": True} for part in body]
        if leaves or not waiting:
            waiting.append({"type": "http.disconnect"})
        else:
            waiting[-1]["more_body"] = False
        said: list[Message] = []

        async def receive() -> Message:
            if before_the_end is not None and len(waiting) == 1:
                await before_the_end()
            return waiting.pop(0) if waiting else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            said.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in (*sent, *headers)],
        }
        with anyio.fail_after(20):
            await self.edge(scope, receive, send)
        starts = [one for one in said if one["type"] == "http.response.start"]
        assert len(starts) <= 1
        return Answered(
            starts[0]["status"] if starts else None,
            [(name.decode(), value.decode()) for name, value in starts[0]["headers"]] if starts else [],
            b"".join(one.get("body", b"") for one in said),
        )


@asynccontextmanager
async def an_edge(folder: Path, **knobs: Any) -> AsyncIterator[Edge]:
    async with small_app(folder) as app:
        guard, behind = Guard(app, check_s=1), Behind()
        hosts, origins = frozenset({HOST}), frozenset({f"http://{HOST}"})
        yield Edge(app, guard, behind, HttpEdge(app, guard, behind, Settings(**knobs), hosts=hosts, origins=origins))


async def test_n18_two_names_are_none(tmp_path: Path) -> None:
    async with an_edge(tmp_path) as edge:
        for hosts in ((), (HOST, HOST), (HOST, "evil.test")):
            assert (await edge.ask("GET", "/healthz", hosts=hosts)).status == 403
        assert (await edge.ask("GET", "/healthz")).status == 200


async def test_n20_an_own_origin_does_not_cover_another_one_beside_it(tmp_path: Path) -> None:
    async with an_edge(tmp_path) as edge:
        own, foreign = ("origin", f"http://{HOST}"), ("origin", "https://evil.test")
        for origins in ((own, foreign), (foreign, own)):
            assert (await edge.ask("POST", "/mcp", JSON, *origins)).status == 403
        assert (await edge.ask("POST", "/mcp", JSON, own)).status == 200
        # The word of a form's own page counts on that page alone.
        formed = (("origin", "null"), ("sec-fetch-site", "same-origin"))
        assert (await edge.ask("POST", "/mcp", JSON, *formed)).status == 403


async def test_n19_the_body_is_json_by_one_header_however_that_is_written(tmp_path: Path) -> None:
    async with an_edge(tmp_path) as edge:
        for kinds in (
            [],
            [JSON, JSON],
            [JSON, ("content-type", "text/plain")],
            [("content-type", "application/jsonp")],
        ):
            assert (await edge.ask("POST", "/mcp", *kinds)).status == 415
        assert edge.behind.bodies == []
        assert (await edge.ask("POST", "/mcp", ("content-type", "Application/JSON ; charset=utf-8"))).status == 200


async def test_t03_one_key_in_one_header_and_of_a_keys_length_is_asked_for(tmp_path: Path) -> None:
    async with an_edge(tmp_path) as edge:
        edge.app.keys["k" * 513] = edge.app.keys[KEY]
        for key in ("k" * 513, f"{KEY}\n", f" {KEY} ", ""):
            assert (await edge.ask("POST", "/mcp", JSON, ("authorization", f"Bearer {key}"), key=None)).status == 401
        assert (await edge.ask("POST", "/mcp", JSON, ("authorization", f"Bearer {KEY}"))).status == 401
        assert edge.behind.bodies == []
        assert (await edge.ask("POST", "/mcp", JSON, ("authorization", f"bEaReR  {KEY}"), key=None)).status == 200


async def test_d09_a_body_may_have_exactly_so_many_bytes_and_the_rest_of_a_longer_one_is_not_read(
    tmp_path: Path,
) -> None:
    limit = 64 << 10
    async with an_edge(tmp_path, http_body_bytes_max=limit) as edge:
        largest = PING + b" " * (limit - len(PING))
        halves = (largest[:100], largest[100:])
        assert (await edge.ask("POST", "/mcp", JSON, body=halves)).status == 200
        assert edge.behind.bodies == [largest]
        refused = await edge.ask("POST", "/mcp", JSON, body=(*halves, b" "))
        assert (refused.status, refused.header("connection")) == (413, ["close"])


async def test_a_client_that_leaves_within_its_request_is_not_served(tmp_path: Path) -> None:
    async with an_edge(tmp_path) as edge:
        left = await edge.ask("POST", "/mcp", JSON, body=(PING[:10],), leaves=True)
        assert (left.status, edge.behind.bodies) == (None, [])
        assert (await edge.ask("POST", "/mcp", JSON, body=(PING,), leaves=True)).status is None
        assert edge.behind.bodies == []


async def test_what_is_served_hears_that_the_client_left(tmp_path: Path) -> None:
    heard: list[str] = []

    async def wait(_scope: Scope, receive: Receive, _send: Send) -> None:
        heard.extend([(await receive())["type"], (await receive())["type"]])

    async with an_edge(tmp_path) as edge:
        edge.behind.instead = wait
        await edge.ask("POST", "/mcp", JSON)
    assert heard == ["http.request", "http.disconnect"]


@pytest.mark.parametrize("begun", [False, True])
async def test_what_goes_wrong_inside_is_a_500_without_its_cause_unless_an_answer_has_begun(
    tmp_path: Path, begun: bool
) -> None:
    async def fail(_scope: Scope, _receive: Receive, send: Send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("the database password is hunter2")

    async with an_edge(tmp_path) as edge:
        edge.behind.instead = fail
        answer = await edge.ask("POST", "/mcp", JSON)
    assert answer.status == (200 if begun else 500)
    assert (answer.body == b"") is begun
    assert b"hunter2" not in answer.body


async def test_d11_a_key_has_one_lane_for_as_long_as_something_runs_and_another_key_its_own(tmp_path: Path) -> None:
    lanes: dict[str, list[object]] = {KEY: [], OTHER_KEY: []}

    async with an_edge(tmp_path) as edge:

        async def look(scope: Scope, _receive: Receive, _send: Send) -> None:
            key = dict(scope["headers"])[b"authorization"].decode().removeprefix("Bearer ")
            lane = visitor().lane
            lanes[key].append(lane)
            if lane.is_idle:
                with lane.call():
                    await edge.ask("POST", "/mcp", JSON, key=KEY)
                    await edge.ask("POST", "/mcp", JSON, key=OTHER_KEY)

        edge.behind.instead = look
        await edge.ask("POST", "/mcp", JSON)
    assert len(lanes[KEY]) > 1
    assert len(set(lanes[KEY])) == len(set(lanes[OTHER_KEY])) == 1
    assert set(lanes[KEY]).isdisjoint(lanes[OTHER_KEY])


async def test_t06_a_stream_of_the_handshake_era_ends_with_its_key(tmp_path: Path) -> None:
    opened, ended = anyio.Event(), anyio.Event()

    async def stream(_scope: Scope, _receive: Receive, _send: Send) -> None:
        opened.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with an_edge(tmp_path) as edge, anyio.create_task_group() as tasks:
        edge.behind.instead = stream
        tasks.start_soon(edge.guard.run)
        tasks.start_soon(edge.ask, "GET")
        with anyio.fail_after(20):
            await opened.wait()
            await edge.app.revoke(KEY)
            edge.guard.look_now()
            await ended.wait()
        tasks.cancel_scope.cancel()


async def test_t06_a_key_that_ends_before_its_request_is_whole_opens_nothing(tmp_path: Path) -> None:
    async with an_edge(tmp_path) as edge:

        async def revoke() -> None:
            await edge.app.revoke(KEY)

        refused = await edge.ask("POST", "/mcp", JSON, body=(PING[:9], PING[9:]), before_the_end=revoke)
        other = await edge.ask("POST", "/mcp", JSON, key=OTHER_KEY)
    assert (refused.status, other.status) == (401, 200)
    assert edge.behind.bodies == [PING]


async def test_t06_a_key_that_ends_on_the_way_of_its_request_is_nobodys(tmp_path: Path) -> None:
    found: list[str] = []

    async def look(_scope: Scope, _receive: Receive, _send: Send) -> None:
        found.append(visitor().caller.name)
        await edge.app.revoke(KEY)
        with pytest.raises(Unauthenticated):
            found.append(visitor().caller.name)

    async with an_edge(tmp_path) as edge:
        edge.behind.instead = look
        await edge.ask("POST", "/mcp", JSON)
    assert found == ["key"]


async def test_every_answer_says_once_that_nobody_may_keep_it(tmp_path: Path) -> None:
    async with an_edge(tmp_path) as edge:
        served = await edge.ask("POST", "/mcp", JSON)
        unknown = await edge.ask("GET", "/unknown")
    assert served.header("cache-control") == ["max-age=1"]
    assert unknown.header("cache-control") == ["no-store"]
    for answer in (served, unknown):
        assert answer.header("x-content-type-options") == ["nosniff"]
        assert answer.header("referrer-policy") == ["no-referrer"]
        assert len(answer.header("date")) == 1


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("image/png", "image/png"),
        ("text/html\r\nset-cookie: a=b", "application/octet-stream"),
        ("text/hé", "application/octet-stream"),
        ("", "application/octet-stream"),
        ("a" * 128, "application/octet-stream"),
    ],
)
async def test_s18_a_files_type_becomes_a_header_only_where_it_can_be_one(
    tmp_path: Path, said: str, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with an_edge(tmp_path) as edge:
        redeem = edge.app.redeem_link

        async def redeemed(token: str) -> Any:
            return replace(await redeem(token), content_type=said)

        monkeypatch.setattr(edge.app, "redeem_link", redeemed)
        answer = await edge.ask("GET", f"/links/{LINK_TOKEN}", key=None)
    assert answer.header("content-type") == [sent]
    assert answer.header("content-length") == [str(len(answer.body))]
    assert answer.header("cross-origin-resource-policy") == ["same-origin"]
    assert answer.header("set-cookie") == []


@pytest.mark.parametrize("token", ["x" * 15, "x" * 129, "x" * 20 + "/", "x" * 20 + "%", ""])
async def test_what_cannot_be_a_token_is_not_looked_up(tmp_path: Path, token: str) -> None:
    async with an_edge(tmp_path) as edge:
        for kind in ("links", "entries"):
            answer = await edge.ask("GET", f"/{kind}/{token}", key=None)
            assert (answer.status, json.loads(answer.body)["message"]) == (404, "MCP is served at /mcp.")


async def test_on_another_loopback_address_the_server_answers_to_its_own_url() -> None:
    async with open_house(http_host="127.0.0.2") as house:
        parts = urlsplit(house.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        with anyio.fail_after(20):
            assert b"200 OK" in await reader.readline()
        writer.close()
