"""The HTTP server when it ends: idle connections, requests under way, and those that never end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from mcp_spaces.errors import WrongState
from mcp_spaces.server.http_protocol import Deadlines, bound, serving

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


class Bell:
    """An application that answers when it is rung."""

    def __init__(self) -> None:
        self.waiting, self.rung, self.cancelled = anyio.Event(), anyio.Event(), anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.waiting.set()
        try:
            await self.rung.wait()
        except BaseException:
            self.cancelled.set()
            raise
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def connected(bell: Bell) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Somebody who asked, while the server is there; it is gone when the body ends."""
    with bound("127.0.0.1", 0) as listener:
        async with serving(bell, listener, deadlines=Deadlines(60, 60), connections_max=8):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            with anyio.fail_after(20):
                writer.write(REQUEST)
                await bell.waiting.wait()
                yield reader, writer


async def test_a_connection_that_waits_for_its_next_request_is_closed_at_the_end() -> None:
    bell = Bell()
    bell.rung.set()
    async with connected(bell) as (reader, writer):
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK")
    # Long before the protocol itself would close one that is idle.
    with anyio.fail_after(4):
        assert await reader.read() == b""
    writer.close()


async def test_a_request_under_way_may_still_be_answered_and_its_connection_ends_then() -> None:
    bell = Bell()
    async with connected(bell) as (reader, writer):
        asyncio.get_running_loop().call_later(0.1, bell.rung.set)
    with anyio.fail_after(20):
        answered = await reader.read()
    writer.close()
    assert answered.startswith(b"HTTP/1.1 200 OK") and answered.endswith(b"ok")
    assert not bell.cancelled.is_set()


async def test_a_request_that_does_not_end_by_itself_is_cancelled() -> None:
    bell = Bell()
    with anyio.fail_after(20):
        async with connected(bell) as (_, writer):
            pass
        await bell.cancelled.wait()
    writer.close()


def test_an_address_that_cannot_be_had_is_said() -> None:
    with bound("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        for host, said in (("127.0.0.1", "in use"), ("192.0.2.1", "assign")):
            with pytest.raises(WrongState, match=f"{host} port {port}: .*{said}"):
                bound(host, port)
