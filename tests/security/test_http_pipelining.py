"""Requests that are sent before the last one is answered: the deadlines of threat D10 hold for them, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import anyio
import pytest

from tests.server.doors import House, open_house
from tests.server.small_app import KEY

GUARD_S = 20.0


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
