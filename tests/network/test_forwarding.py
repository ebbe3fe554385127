"""A sandbox's port on this machine: what goes through it, how much, and how it ends."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import SocketStream

from mcp_spaces.errors import Conflict
from mcp_spaces.network.dialing import Upstream
from mcp_spaces.network.forwarding import CONNECTIONS_MAX, forwarded
from mcp_spaces.sandbox.port import Connection
from tests.network.lab import pair
from tests.turns import cancelled_at, cancelled_everywhere

pytestmark = pytest.mark.anyio
PATIENCE_S = 20


@dataclass
class Inside:
    """Of a sandbox only what is dialled in it."""

    ends: list[Upstream] = field(default_factory=list)

    async def dial(self, port: int) -> Connection:
        ours, theirs = await pair()
        self.ends.append(theirs)
        await theirs.send(b"welcome")
        return ours


@asynccontextmanager
async def forwarding() -> AsyncIterator[tuple[Inside, int]]:
    inside: Any = Inside()
    try:
        async with forwarded(inside, 8000, local_port=0) as port:
            yield inside, port
        for end in inside.ends:
            with anyio.fail_after(PATIENCE_S):
                assert await end.receive() == b""
    finally:
        for end in inside.ends:
            end.close()


async def welcomed(port: int) -> SocketStream:
    peer = await anyio.connect_tcp("127.0.0.1", port)
    with anyio.fail_after(PATIENCE_S):
        assert await peer.receive() == b"welcome"
    return peer


async def is_broken_off(peer: SocketStream) -> bool:
    with anyio.fail_after(PATIENCE_S):
        try:
            await peer.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return True
    return False


async def test_connections_end_with_the_forwarding_on_both_sides() -> None:
    async with forwarding() as (inside, port):
        peer = await welcomed(port)
        with anyio.move_on_after(PATIENCE_S):
            await peer.send(b"more")
            assert await inside.ends[0].receive() == b"more"
    assert await is_broken_off(peer)
    with pytest.raises(OSError, match="connect"):
        await anyio.connect_tcp("127.0.0.1", port)
    await peer.aclose()


async def test_a_forwarding_that_is_given_up_as_it_begins_listens_no_more() -> None:
    inside: Any = Inside()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def forward() -> None:
        async with forwarded(inside, 8000, local_port=port):
            await anyio.lowlevel.checkpoint()

    async def attempt(suspension: int) -> bool:
        more = await cancelled_at(suspension, forward())
        with pytest.raises(OSError, match="connect"):
            await anyio.connect_tcp("127.0.0.1", port)
        return more

    await cancelled_everywhere(attempt)


async def test_a_connection_that_comes_in_the_moment_of_the_end_reaches_nothing_inside() -> None:
    dialled: list[int] = []

    class Slow(Inside):
        async def dial(self, port: int) -> Connection:
            dialled.append(port)
            await anyio.sleep_forever()
            raise AssertionError

    # Earlier than that asyncio itself has not made a connection of it.
    for turns in range(3, 8):
        slow: Any = Slow()
        async with forwarded(slow, 8000, local_port=0) as port:
            peer = socket.create_connection(("127.0.0.1", port))
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
        before = len(dialled)
        await anyio.wait_all_tasks_blocked()
        peer.close()
        assert len(dialled) == before


async def test_connections_at_a_time_are_bounded_and_make_room() -> None:
    async with forwarding() as (inside, port):
        peers = [await welcomed(port) for _ in range(CONNECTIONS_MAX)]
        one_more = await anyio.connect_tcp("127.0.0.1", port)
        assert await is_broken_off(one_more)
        for peer in (*peers, one_more):
            await peer.aclose()
        # A side that says no more may still listen: over is what both have ended.
        for end in inside.ends:
            with anyio.fail_after(PATIENCE_S):
                assert await end.receive() == b""
            await end.finish()
        await anyio.wait_all_tasks_blocked()
        await (await welcomed(port)).aclose()


async def test_a_port_that_is_taken_is_told() -> None:
    async with forwarding() as (_, port):
        with pytest.raises(Conflict, match=str(port)):
            async with forwarded(Inside(), 8000, local_port=port):  # type: ignore[arg-type]
                pass
