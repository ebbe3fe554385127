"""A local browser's ways out: who goes through, with what, and what becomes of everybody else."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio
import pytest

from mcp_spaces.browser.driver.doors import ASK, HEAD_BYTES_MAX, Door
from mcp_spaces.browser.driver.host import WayOut
from mcp_spaces.network.dialing import Upstream
from mcp_spaces.sandbox.port import Connection
from tests.browser.rigs import PATIENCE_S
from tests.turns import cancelled_at, cancelled_everywhere

pytestmark = pytest.mark.anyio

FIRST = b"GET http://one.test/ HTTP/1.1\r\nHost: one.test\r\n"


class Noted(Upstream):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self.closed = asyncio.Event()

    def close(self) -> None:
        super().close()
        self.closed.set()


@dataclass
class Street:
    way: WayOut
    door: Door
    through: asyncio.Queue[Connection]
    refused: Noted | None = None

    def line(self, password: str = "", *, name: str = "Proxy-Authorization", kind: str = "Basic") -> bytes:
        words = base64.b64encode(f"{self.way.user}:{password or self.way.password}".encode()).decode()
        return f"{name}: {kind} {words}\r\n".encode()

    async def said(self, content: bytes, *, ends: bool = False) -> bytes:
        """All that is answered to who does not get through, who is let go of then."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.way.port)
        writer.write(content)
        if ends:
            writer.write_eof()
        answer = b""
        with anyio.fail_after(PATIENCE_S):
            # Sent away in the middle of a head without end, they may find the connection broken.
            with suppress(ConnectionResetError):
                answer = await reader.read()
            writer.close()
            assert self.refused is not None
            await self.refused.closed.wait()
        return answer


@asynccontextmanager
async def street(*, locked: bool) -> AsyncIterator[Street]:
    through: asyncio.Queue[Connection] = asyncio.Queue()

    def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Connection:
        one.refused = Noted(reader, writer)
        return one.refused

    door = Door(through.put_nowait, connect, locked=locked)
    one = Street(await door.open(socket.create_server(("127.0.0.1", 0))), door, through)
    try:
        yield one
    finally:
        one.door.close()


@pytest.mark.parametrize(("name", "kind"), [("Proxy-Authorization", "Basic"), ("proxy-authorization", "basic")])
async def test_who_knows_the_password_goes_through_and_leaves_it_at_the_door(name: str, kind: str) -> None:
    async with street(locked=True) as one:
        _, writer = await asyncio.open_connection("127.0.0.1", one.way.port)
        writer.write(FIRST + one.line(name=name, kind=kind) + b"Accept: */*\r\n\r\nbody")
        with anyio.fail_after(PATIENCE_S):
            connection, received = await one.through.get(), b""
            while not received.endswith(b"body"):
                received += await connection.receive()
        assert received == FIRST + b"Accept: */*\r\n\r\nbody"
        connection.close()
        writer.close()


async def test_n22_nobody_goes_through_with_anything_else() -> None:
    async with street(locked=True) as one:
        right = one.line()
        for lines in (b"", one.line("guessed"), right + right, right + one.line("guessed"), one.line(kind="Bearer")):
            assert await one.said(FIRST + lines + b"\r\n") == ASK
        assert one.through.empty()


async def test_who_is_refused_is_told_so_whatever_they_still_send() -> None:
    async with street(locked=True) as one:
        assert await one.said(FIRST + b"\r\n" + b"x" * (4 << 20), ends=True) == ASK


@pytest.mark.parametrize("head", [b"", FIRST, b"GET " + b"x" * 2 * HEAD_BYTES_MAX])
async def test_who_says_nothing_that_has_an_end_is_sent_away(head: bytes) -> None:
    async with street(locked=True) as one:
        assert await one.said(head, ends=len(head) < HEAD_BYTES_MAX) == b""
        assert one.through.empty()


async def test_without_a_lock_everybody_goes_through_as_they_are() -> None:
    async with street(locked=False) as one:
        assert (one.way.user, one.way.password) == ("", "")
        _, writer = await asyncio.open_connection("127.0.0.1", one.way.port)
        writer.write(b"anything")
        with anyio.fail_after(PATIENCE_S):
            connection = await one.through.get()
            assert await connection.receive() == b"anything"
        connection.close()
        writer.close()


async def test_a_door_that_is_closed_is_no_way_out() -> None:
    async with street(locked=False) as one:
        for _ in range(2):
            one.door.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", one.way.port)


async def test_a_door_whose_opening_is_given_up_can_be_closed() -> None:
    async def attempt(suspension: int) -> bool:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        door = Door(lambda connection: connection.close(), Upstream, locked=False)
        more = await cancelled_at(suspension, door.open(listener))
        door.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)
        return more

    await cancelled_everywhere(attempt)
