"""Looking names up, and connections of this machine: whose slow names hold up whom, and how what breaks is told."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import anyio
import pytest

from mcp_spaces.errors import RuntimeUnavailable, TimedOut
from mcp_spaces.network.dialing import LOOKUPS, MAX_ADDRESSES, SystemDialer, SystemResolver
from tests.leaps import leap

pytestmark = pytest.mark.anyio
PATIENCE_S = 20


async def test_n16_a_space_that_asks_for_slow_names_holds_up_no_other() -> None:
    go = threading.Event()
    looked_up: list[str] = []

    def look_up(name: str) -> list[str]:
        looked_up.append(name)
        if name.startswith("slow"):
            assert go.wait(PATIENCE_S)
        return [name]

    resolver = SystemResolver(look_up, resolve_s=PATIENCE_S / 2)
    timed_out: list[str] = []
    queued: list[str] = []

    async def ask(name: str) -> None:
        try:
            queued.extend(await resolver.addresses(name, space_id="sp_one"))
        except TimedOut:
            timed_out.append(name)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for number in range(LOOKUPS):
                tasks.start_soon(ask, f"slow{number}.test")
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(ask, "queued.test")
            await anyio.wait_all_tasks_blocked()
            assert await resolver.addresses("quick.test", space_id="sp_two") == ["quick.test."]
            leap(PATIENCE_S / 2)
            while len(timed_out) < LOOKUPS:
                await anyio.wait_all_tasks_blocked()
            # Given up is not over: a thread waits on, and the next one of that space waits for its place, unhurried.
            assert await resolver.addresses("quick.test", space_id="sp_two") == ["quick.test."]
            assert "queued.test." not in looked_up
            go.set()
    assert queued == ["queued.test."]


async def test_a_name_that_is_none_has_no_address() -> None:
    def look_up(name: str) -> list[str]:
        raise OSError(name)

    assert await SystemResolver(look_up).addresses("nobody.test", space_id="sp_one") == []


async def test_a_name_is_asked_for_as_it_is_and_so_many_of_its_addresses_are_tried() -> None:
    asked: list[str] = []

    def look_up(name: str) -> list[str]:
        asked.append(name)
        if name == "bad.test.":
            raise UnicodeError(name)
        return [str(number) for number in range(MAX_ADDRESSES + 1)]

    resolver = SystemResolver(look_up)
    assert await resolver.addresses("a.test", space_id="sp_one") == [str(number) for number in range(MAX_ADDRESSES)]
    assert await resolver.addresses("bad.test", space_id="sp_one") == []
    await resolver.addresses("localhost", space_id="sp_one")
    # No search list of this machine makes another name of one that is whole.
    assert asked == ["a.test.", "bad.test.", "localhost"]


async def test_a_look_up_that_failed_gives_its_place_back() -> None:
    def look_up(name: str) -> list[str]:
        raise OSError(name)

    resolver = SystemResolver(look_up)
    with anyio.fail_after(PATIENCE_S):
        for _ in range(LOOKUPS + 1):
            assert await resolver.addresses("nobody.test", space_id="sp_one") == []


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


async def test_where_nobody_listens_nobody_answers(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    listening.close()
    with pytest.raises(RuntimeUnavailable):
        await SystemDialer().dial("127.0.0.1", port)


async def test_a_connection_that_breaks_is_told_in_our_words_whatever_is_done_with_it(listening: socket.socket) -> None:
    upstream = await SystemDialer().dial(*listening.getsockname())
    other, _ = listening.accept()
    await upstream.send(b"hello")
    assert other.recv(5) == b"hello"
    # Closed with bytes that nobody read: the other side is told that it was broken off.
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()
    with anyio.fail_after(PATIENCE_S):
        with pytest.raises(RuntimeUnavailable):
            await upstream.receive()
        with pytest.raises(RuntimeUnavailable):
            await upstream.send(bytes(10_000_000))
    await upstream.finish()
    upstream.close()
    await upstream.finish()


async def test_an_end_in_one_direction_leaves_the_other_open(listening: socket.socket) -> None:
    upstream = await SystemDialer().dial(*listening.getsockname())
    other, _ = listening.accept()
    with other, anyio.fail_after(PATIENCE_S):
        await upstream.finish()
        await upstream.finish()
        assert other.recv(1) == b""
        other.sendall(b"answer")
        assert await upstream.receive() == b"answer"
        other.close()
        assert await upstream.receive() == b""
        upstream.close()
