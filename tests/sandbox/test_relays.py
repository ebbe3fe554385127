"""What the two ends of a connection grant each other for its bytes, and how each says that it is over."""

from __future__ import annotations

import socket
from functools import partial

import anyio
import pytest

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.agent.loop import Loop
from mcp_spaces.sandbox.agent.relays import GRANT_BYTES, Relay
from mcp_spaces.sandbox.agent.wire import number, unpack
from mcp_spaces.sandbox.port import Connection
from tests.sandbox.contract.connections import Accepted
from tests.sandbox.liar import Liar, liar
from tests.sandbox.rigs import PATIENCE_S

pytestmark = pytest.mark.anyio
PORT = 3128


class Telling(Loop):
    """Its frames stay here."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, fd)
        self.told: list[tuple[int, bytes]] = []

    def send(self, kind: int, channel: int, payload: bytes = b"") -> None:
        self.told.append((kind, payload))

    @property
    def granted(self) -> int:
        return sum(number(unpack(payload), 0) for kind, payload in self.told if kind == wire.GRANT)


def test_what_a_server_took_a_part_of_and_left_is_granted_once() -> None:
    """More than was sent would be a lie, and end the sandbox."""
    stream, inside = socket.socketpair()
    server, relayed = socket.socketpair()
    with stream, inside, server:
        relayed.setblocking(False)
        relayed.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        loop = Telling(inside.fileno())
        ended: list[int] = []
        relay = Relay(loop, 1, ended.append)
        relay.begin_relay(relayed)
        content = bytes(wire.CHUNK)
        relay.on_content(content)
        relay.on_content(content)
        assert 0 < relay.owed < GRANT_BYTES
        server.close()
        relay._write()
        relay.on_content(content)
        relay.on_end()
        assert loop.granted == 3 * len(content)
        relay._on_readable()
        assert (ended, loop.told[-1][0]) == ([1], wire.GONE)


async def connection_of(agent: Liar) -> Connection:
    """One that somebody inside made to the proxy port."""
    accepted = Accepted()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(partial(agent.sandbox.offer_proxy, accepted, port=PORT))
            await agent.receive()
            await agent.say(
                wire.frame(wire.RESULT, 1, wire.pack([wire.whole(PORT)])),
                wire.frame(wire.ACCEPTED, 2, wire.pack([wire.whole(PORT)])),
            )
    return await accepted.next()


async def said(agent: Liar) -> list[tuple[int, bytes]]:
    """The frames on that connection, up to now."""
    frames: list[tuple[int, int, bytes]] = []
    content, head = b"", wire.HEADER.size
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(agent.sandbox.ping)
            while not frames or frames[-1][0] != wire.OPEN:
                content += await agent.receive()
                while len(content) >= head and len(content) >= head + wire.HEADER.unpack_from(content)[0]:
                    size, kind, channel = wire.HEADER.unpack_from(content)
                    frames.append((kind, channel, content[head : head + size]))
                    content = content[head + size :]
            await agent.say(wire.frame(wire.RESULT, frames[-1][1]))
    return [(kind, payload) for kind, channel, payload in frames if channel == 2]


async def test_what_was_received_is_granted_once() -> None:
    """More would let somebody inside fill the daemon's memory."""
    async with liar() as agent:
        connection = await connection_of(agent)
        await agent.say(*[wire.frame(wire.REPLY, 2, bytes(30_000)) for _ in range(7)])
        for _ in range(7):
            assert len(await connection.receive()) == 30_000
        granted = [number(unpack(payload), 0) for kind, payload in await said(agent) if kind == wire.ROOM]
        assert sum(granted) == 7 * 30_000


async def test_a_connection_says_once_that_it_ends_and_once_that_it_is_closed() -> None:
    async with liar() as agent:
        connection = await connection_of(agent)
        await connection.send(bytes(wire.CHUNK + 1))
        await connection.finish()
        await connection.finish()
        connection.close()
        connection.close()
        frames = [(kind, len(payload)) for kind, payload in await said(agent)]
        assert frames == [(wire.CONTENT, wire.CHUNK), (wire.CONTENT, 1), (wire.END, 0), (wire.KILL, 0)]


async def test_who_closes_a_connection_reads_nothing_more_of_it() -> None:
    async with liar() as agent:
        connection = await connection_of(agent)
        await agent.say(wire.frame(wire.REPLY, 2, b"unread"))
        await said(agent)
        connection.close()
        with pytest.raises(RuntimeUnavailable):
            await connection.receive()
        await connection.finish()
        assert [kind for kind, _ in await said(agent)] == [wire.KILL]


async def test_a_send_that_waits_for_room_ends_where_the_end_is_said() -> None:
    async with liar() as agent:
        connection = await connection_of(agent)

        async def send() -> None:
            with pytest.raises(RuntimeUnavailable):
                await connection.send(bytes(2 * wire.WINDOW))

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(send)
                await anyio.wait_all_tasks_blocked()
                await connection.finish()
                await agent.say(wire.frame(wire.GRANT, 2, wire.pack([wire.whole(wire.WINDOW)])))
        frames = [kind for kind, _ in await said(agent)]
        assert frames == [wire.CONTENT] * (wire.WINDOW // wire.CHUNK) + [wire.END]
