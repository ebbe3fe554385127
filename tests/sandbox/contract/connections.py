"""What every driver with an agent does with connections: out through the proxy port, and in to servers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping

import anyio
import anyio.lowlevel
import pytest

from mcp_spaces.errors import QuotaExceeded, RuntimeUnavailable, WrongState
from mcp_spaces.sandbox.agent.wire import MAX_CONNECTIONS, MAX_PROXIES, WINDOW
from mcp_spaces.sandbox.port import Connection, Sandbox
from tests.sandbox.rigs import PATIENCE_S, Output, python, run, start

NOTHING: Mapping[str, str] = {}
MUCH = 3 << 20


class Accepted:
    """The connections from inside, as they come."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Connection] = asyncio.Queue()

    def __call__(self, connection: Connection) -> None:
        self._waiting.put_nowait(connection)

    async def next(self) -> Connection:
        with anyio.fail_after(PATIENCE_S):
            return await self._waiting.get()


async def offered(sandbox: Sandbox, accepted: Accepted) -> int:
    return await sandbox.offer_proxy(accepted, environment=lambda: NOTHING, port=0)


async def all_of(connection: Connection) -> bytes:
    content = bytearray()
    with anyio.fail_after(PATIENCE_S):
        while piece := await connection.receive():
            content += piece
    return bytes(content)


def client(port: int, then: str) -> tuple[str, ...]:
    script = f"import socket,sys,hashlib; s = socket.create_connection(('127.0.0.1', {port})); {then}"
    return ("python3", "-c", script)


SERVER = """
import socket, sys
listener = socket.socket(socket.{family}); listener.bind(('{address}', 0)); listener.listen()
print(listener.getsockname()[1], flush=True)
while True:
    peer, _ = listener.accept()
    content = b''
    while piece := peer.recv(65536): content += piece
    peer.sendall(content[::-1]); peer.close()
"""


EARLY_BYTES = WINDOW + 1000
EARLY = f"""
import fcntl, socket, struct, time
listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen()
print(listener.getsockname()[1], flush=True)
while True:
    peer, _ = listener.accept()
    peer.recv(1)
    peer.sendall(bytes({EARLY_BYTES}))
    while struct.unpack('i', fcntl.ioctl(peer, 0x5411, bytes(4)))[0]: time.sleep(0.001)
    peer.close()
    print('closed', flush=True)
"""
"""Answers when it has read one byte, and closes once all of the answer has arrived, so that its end is a reset."""


async def server(sandbox: Sandbox, family: str = "AF_INET", address: str = "127.0.0.1") -> int:
    output = Output()
    await start(sandbox, "python3", "-c", SERVER.format(family=family, address=address), output=output)
    await output.until(b"\n")
    return int(output.stdout)


class Connections:
    async def test_bytes_go_out_and_come_back(self, sandbox: Sandbox) -> None:
        accepted, output = Accepted(), Output()
        port = await offered(sandbox, accepted)
        talking = await start(sandbox, *client(port, "s.sendall(b'hello'); print(s.recv(9).decode())"), output=output)
        connection = await accepted.next()
        assert await connection.receive() == b"hello"
        await connection.send(b"welcome")
        await output.until(b"welcome")
        connection.close()
        await talking.wait()

    async def test_each_side_ends_by_itself(self, sandbox: Sandbox) -> None:
        accepted, output = Accepted(), Output()
        port = await offered(sandbox, accepted)
        then = "s.sendall(b'ask'); s.shutdown(1); print(s.makefile('rb').read())"
        await start(sandbox, *client(port, then), output=output)
        connection = await accepted.next()
        assert await all_of(connection) == b"ask"
        await connection.send(b"answer")
        await connection.finish()
        await output.until(b"answer")

    async def test_much_goes_both_ways_and_waits_for_who_is_slow(self, sandbox: Sandbox) -> None:
        accepted, output = Accepted(), Output()
        port = await offered(sandbox, accepted)
        then = (
            f"s.sendall(bytes(range(256)) * {MUCH // 256}); s.shutdown(1);"
            "print(hashlib.sha256(s.makefile('rb').read()).hexdigest())"
        )
        await start(sandbox, *client(port, then), output=output)
        connection = await accepted.next()
        content = await all_of(connection)
        assert content == bytes(range(256)) * (MUCH // 256)
        with anyio.fail_after(PATIENCE_S):
            await connection.send(content[::-1])
        await connection.finish()
        await output.until(hashlib.sha256(content[::-1]).hexdigest().encode())

    async def test_a_reader_that_does_not_read_stops_the_sender_alone(self, sandbox: Sandbox) -> None:
        accepted, output = Accepted(), Output()
        port = await offered(sandbox, accepted)
        await start(sandbox, *client(port, "print('there', flush=True); input()"), output=output)
        connection = await accepted.next()
        with anyio.move_on_after(0.5) as waited:
            await connection.send(bytes(64 << 20))
        assert waited.cancelled_caught
        assert (await run(sandbox, "echo", "still here")).stdout == b"still here\n"
        connection.close()

    async def test_what_is_closed_here_is_reset_there(self, sandbox: Sandbox) -> None:
        accepted, output = Accepted(), Output()
        port = await offered(sandbox, accepted)
        # On a slow machine the reset is there before connecting has returned.
        script = (
            f"import socket\ntry: print('got', socket.create_connection(('127.0.0.1', {port})).recv(9))\n"
            "except ConnectionResetError: print('reset')"
        )
        await start(sandbox, "python3", "-c", script, output=output)
        (await accepted.next()).close()
        await output.until(b"reset")

    async def test_a_client_that_dies_breaks_the_connection(self, sandbox: Sandbox) -> None:
        accepted = Accepted()
        port = await offered(sandbox, accepted)
        talking = await start(sandbox, *client(port, "s.sendall(b'x'); input()"))
        connection = await accepted.next()
        assert await connection.receive() == b"x"
        await talking.kill()
        assert await all_of(connection) == b""
        with anyio.fail_after(PATIENCE_S), pytest.raises(RuntimeUnavailable):  # noqa: PT012 - it is noticed at some write
            while True:
                await connection.send(bytes(1000))
                await anyio.lowlevel.checkpoint()

    async def test_many_connections_at_a_time_keep_apart(self, sandbox: Sandbox) -> None:
        accepted, output = Accepted(), Output()
        port = await offered(sandbox, accepted)
        script = (
            f"import socket; them = [socket.create_connection(('127.0.0.1', {port})) for _ in range(40)]\n"
            "for number, one in enumerate(them): one.sendall(b'%d.' % number)\n"
            "print(all(one.recv(9) == b'%d!' % number for number, one in enumerate(them)))"
        )
        await start(sandbox, "python3", "-c", script, output=output)
        for _ in range(40):
            connection = await accepted.next()
            content = b""
            while not content.endswith(b"."):
                content += await connection.receive()
            await connection.send(content[:-1] + b"!")
        await output.until(b"True")

    async def test_more_connections_than_there_may_be_are_closed_and_cost_nothing_else(self, sandbox: Sandbox) -> None:
        output = Output()
        port = await offered(sandbox, Accepted())
        script = (
            f"import socket; them = [socket.create_connection(('127.0.0.1', {port})) for _ in range({MAX_CONNECTIONS + 9})]\n"
            f"print([one.recv(1) for one in them[{MAX_CONNECTIONS}:]] == [b''] * 9, flush=True); input()"
        )
        connecting = await start(sandbox, "python3", "-c", script, output=output)
        await output.until(b"True")
        await connecting.kill()
        assert (await run(sandbox, "echo", "still here")).stdout == b"still here\n"

    async def test_commands_are_told_of_the_proxy_and_their_own_word_wins(self, sandbox: Sandbox) -> None:
        await sandbox.offer_proxy(Accepted(), environment=lambda: {"A": "proxy", "B": "proxy"}, port=0)
        assert (await run(sandbox, "sh", "-c", "echo $A $B", env={"B": "mine"})).stdout == b"proxy mine\n"

    async def test_each_port_has_its_own_owner_and_a_withdrawn_one_has_none(self, sandbox: Sandbox) -> None:
        one, other = Accepted(), Accepted()
        first, second = await offered(sandbox, one), await offered(sandbox, other)
        assert first != second
        await run(sandbox, *client(second, "s.sendall(b'two')"))
        assert await all_of(await other.next()) == b"two"
        await sandbox.withdraw_proxy(first)
        await sandbox.withdraw_proxy(first)
        found = await python(sandbox, f"import socket; print(socket.socket().connect_ex(('127.0.0.1', {first})))")
        assert found.stdout == b"111\n"
        await run(sandbox, *client(second, "s.sendall(b'still')"))
        assert await all_of(await other.next()) == b"still"

    async def test_as_many_ports_are_offered_as_there_may_be_and_a_withdrawn_one_makes_room(
        self, sandbox: Sandbox
    ) -> None:
        ports = [await offered(sandbox, Accepted()) for _ in range(MAX_PROXIES)]
        with pytest.raises(QuotaExceeded):
            await offered(sandbox, Accepted())
        await sandbox.withdraw_proxy(ports[0])
        await offered(sandbox, Accepted())

    async def test_nothing_listens_that_was_not_asked_for(self, sandbox: Sandbox) -> None:
        found = await python(sandbox, "import socket; print(socket.socket().connect_ex(('127.0.0.1', 3128)))")
        assert found.stdout == b"111\n"

    async def test_a_server_inside_is_reached(self, sandbox: Sandbox) -> None:
        connection = await sandbox.dial(await server(sandbox))
        await connection.send(b"stressed")
        await connection.finish()
        assert await all_of(connection) == b"desserts"

    @pytest.mark.parametrize("more", [b"", b"more"])
    async def test_what_a_server_says_before_it_has_read_everything_arrives(
        self, sandbox: Sandbox, more: bytes
    ) -> None:
        output = Output()
        await start(sandbox, "python3", "-c", EARLY, output=output)
        await output.until(b"\n")
        connection = await sandbox.dial(int(output.stdout))
        await connection.send(b"ask")
        await output.until(b"closed")
        received = 0
        with anyio.fail_after(PATIENCE_S), pytest.raises(RuntimeUnavailable):  # noqa: PT012 - after how many pieces
            if more:
                # Over a window: what nobody reads any more holds nobody up.
                await connection.send(more * WINDOW)
            await connection.finish()
            while True:
                received += len(await connection.receive())
        assert received == EARLY_BYTES

    async def test_a_port_without_a_server_says_so(self, sandbox: Sandbox) -> None:
        with pytest.raises(WrongState):
            await sandbox.dial(9)

    async def test_the_proxy_port_cannot_be_dialled(self, sandbox: Sandbox) -> None:
        port = await offered(sandbox, Accepted())
        with pytest.raises(WrongState):
            await sandbox.dial(port)

    async def test_a_stop_breaks_every_connection(self, sandbox: Sandbox) -> None:
        accepted = Accepted()
        port = await offered(sandbox, accepted)
        await start(sandbox, *client(port, "s.sendall(b'x'); input()"))
        connection = await accepted.next()
        await connection.receive()
        await sandbox.stop()
        with anyio.fail_after(PATIENCE_S), pytest.raises(RuntimeUnavailable):
            await connection.receive()


class NoConnections:
    async def test_without_an_agent_there_is_no_network(self, sandbox: Sandbox) -> None:
        with pytest.raises(WrongState):
            await offered(sandbox, Accepted())
        with pytest.raises(WrongState):
            await sandbox.dial(80)
