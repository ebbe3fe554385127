"""The deadlines of threat D10 for what arrives bit by bit, or before the last request is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import anyio
import pytest

from tests.server.doors import House, open_house
from tests.server.small_app import KEY

GUARD_S = 20.0
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def health(house: House) -> bytes:
    return f"GET /healthz HTTP/1.1\r\nHost: {urlsplit(house.url).netloc}\r\n\r\n".encode()


def posted(house: House) -> bytes:
    """A request whose body is still to come."""
    return (
        f"POST /mcp HTTP/1.1\r\nHost: {urlsplit(house.url).netloc}\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    ).encode()


@pytest.mark.parametrize("requests", [[health, posted], [health, health, posted]], ids=["second", "third"])
async def test_d10_a_pipelined_request_whose_body_never_comes_closes_the_connection(
    requests: list[Callable[[House], bytes]],
) -> None:
    async with open_house(http_header_s=60, http_body_s=0.3) as house:
        parts = urlsplit(house.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"".join(request(house) for request in requests))
        answered = b""
        with anyio.fail_after(GUARD_S), suppress(ConnectionError):
            while chunk := await reader.read(1024):
                answered += chunk
        writer.close()
    assert answered.count(b"200 OK") == len(requests) - 1


async def test_pipelined_requests_are_answered_in_their_order_and_the_connection_is_kept() -> None:
    async with open_house() as house:
        parts = urlsplit(house.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        unknown = health(house).replace(b"/healthz", b"/elsewhere")
        for _ in range(2):
            writer.write(health(house) + unknown + health(house))
            with anyio.fail_after(GUARD_S):
                found = [(await reader.readuntil(b"}"))[:15] for _ in range(3)]
            assert found == [b"HTTP/1.1 200 OK", b"HTTP/1.1 404 No", b"HTTP/1.1 200 OK"]
        writer.close()


@pytest.mark.parametrize("begin", [b"", b"GET /healthz HTTP/1.1\r\nX-Slow: "])
async def test_d10_headers_that_come_byte_by_byte_have_no_longer_than_others(begin: bytes) -> None:
    async with open_house(http_header_s=0.5) as house:
        parts = urlsplit(house.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(begin)
        with anyio.fail_after(GUARD_S), suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"x")
                with anyio.move_on_after(0.1):
                    await reader.read(1024)
        writer.close()


async def test_d10_what_is_sent_during_a_long_answer_does_not_cut_it_short() -> None:
    async with open_house(http_header_s=0.3, http_body_s=0.3) as house:
        call = {"name": "thing_wait", "arguments": {}, "_meta": ENVELOPE}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}).encode()
        head = (
            f"POST /mcp HTTP/1.1\r\nHost: {urlsplit(house.url).netloc}\r\nAuthorization: Bearer {KEY}\r\n"
            "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n"
            "Mcp-Method: tools/call\r\nMcp-Name: thing_wait\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        parts = urlsplit(house.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(head.encode() + body)
        with anyio.fail_after(GUARD_S):
            await house.app.bench.waiting.wait()
            writer.write(health(house))
            # The deadlines themselves are what has to pass.
            passed = asyncio.Event()
            asyncio.get_running_loop().call_later(0.7, passed.set)
            await passed.wait()
            assert not house.app.bench.cancelled.is_set()
            house.app.bench.go_on.set()
            answered = b""
            while b'"status"' not in answered:
                answered += await reader.read(4096) or b'"status"'
        writer.close()
    assert b"waited" in answered and answered.count(b"200 OK") == 2
