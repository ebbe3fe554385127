"""Who owns a proxy port when offers are taken back, overlap or are answered in a moment in which nobody is awake."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.agent.wire import MAX_PROXIES
from mcp_spaces.sandbox.port import Connection
from tests.sandbox.contract.connections import Accepted, offered
from tests.sandbox.fake import FAKE_IMAGE, FakeDriver
from tests.sandbox.liar import Liar, liar
from tests.sandbox.rigs import PATIENCE_S, sandbox_of

pytestmark = pytest.mark.anyio
PORT = 3128
LISTENS = wire.pack([wire.whole(PORT)])


async def heard(agent: Liar, count: int) -> list[tuple[str, int]]:
    """So many frames that the agent is told next: for an OPEN the verb."""
    frames: list[tuple[str, int]] = []
    content, at = b"", 0
    while len(frames) < count:
        content += await agent.receive() if at == len(content) else b""
        size, kind, channel = wire.HEADER.unpack_from(content, at)
        payload = content[at + wire.HEADER.size : at + wire.HEADER.size + size]
        frames.append((wire.unpack(payload)[0].decode() if kind == wire.OPEN else str(kind), channel))
        at += wire.HEADER.size + size
    return frames


async def taken_back(agent: Liar) -> None:
    """An offer whose caller is gone before its answer came."""
    with anyio.move_on_after(0):
        await agent.sandbox.offer_proxy(unwanted, port=PORT)


def unwanted(connection: Connection) -> None:
    raise AssertionError(f"{connection} was handed over")


async def test_offers_that_are_taken_back_use_no_port_up(tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path / "sandboxes")
    async with sandbox_of(driver, image=FAKE_IMAGE) as sandbox:
        for _ in range(MAX_PROXIES):
            with anyio.move_on_after(0):
                await offered(sandbox, Accepted())
        # Answered after all of them.
        await sandbox.usage()
        await offered(sandbox, Accepted())
    await driver.aclose()


async def test_an_offer_that_is_taken_back_is_withdrawn_when_it_is_answered() -> None:
    with anyio.fail_after(PATIENCE_S):
        async with liar() as agent:
            await taken_back(agent)
            assert await heard(agent, 1) == [("listen", 1)]
            await agent.say(wire.frame(wire.RESULT, 1, LISTENS), wire.frame(wire.ACCEPTED, 2, LISTENS))
            assert await heard(agent, 2) == [("withdraw", 3), (str(wire.KILL), 2)]
            await agent.say(wire.frame(wire.GONE, 2), wire.frame(wire.RESULT, 3), wire.frame(wire.ACCEPTED, 4, LISTENS))
            assert "nobody asked for" in await agent.sandbox.closed()


async def test_who_takes_an_offer_back_hears_of_that_and_nobody_of_its_failure() -> None:
    loop, unheard = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: unheard.append(context))
    async with liar() as agent:
        offering = asyncio.ensure_future(agent.sandbox.offer_proxy(unwanted, port=PORT))
        with anyio.fail_after(PATIENCE_S):
            await agent.receive()
            offering.cancel()
            with pytest.raises(asyncio.CancelledError):
                await offering
            await agent.say(wire.frame(wire.FAILURE, 1, wire.pack([b"quota"])), wire.frame(wire.RESULT, 3))
            await agent.sandbox.ping()
    del offering
    gc.collect()
    assert unheard == []


async def test_an_offer_is_withdrawn_also_where_its_answer_came_in_the_moment_before() -> None:
    with anyio.fail_after(PATIENCE_S):
        async with liar() as agent, anyio.create_task_group() as offering:

            def cancel(connection: Connection) -> None:
                # Told of in one piece with the answer, before who waits for that is awake.
                offering.cancel_scope.cancel()
                connection.close()

            offering.start_soon(lambda: agent.sandbox.offer_proxy(cancel, port=PORT))
            await agent.receive()
            await agent.say(wire.frame(wire.RESULT, 1, LISTENS), wire.frame(wire.ACCEPTED, 2, LISTENS))
            with anyio.CancelScope(shield=True):
                assert await heard(agent, 2) == [(str(wire.KILL), 2), ("withdraw", 3)]


async def test_a_port_is_left_to_who_asks_for_it_while_another_s_offer_is_taken_back() -> None:
    async with liar() as agent:
        connections: list[Connection] = []
        with anyio.fail_after(PATIENCE_S):
            await taken_back(agent)
            await agent.receive()
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: agent.sandbox.offer_proxy(connections.append, port=PORT))
                assert await heard(agent, 1) == [("listen", 3)]
                await agent.say(wire.frame(wire.RESULT, 1, LISTENS), wire.frame(wire.RESULT, 3, LISTENS))
            await agent.say(wire.frame(wire.ACCEPTED, 2, LISTENS))
            while not connections:
                await anyio.lowlevel.checkpoint()
            connections[0].close()
            assert await heard(agent, 1) == [(str(wire.KILL), 2)]


async def test_an_offer_of_a_port_that_is_offered_already_leaves_it_alone_when_it_is_taken_back() -> None:
    async with liar() as agent:
        connections: list[Connection] = []
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: agent.sandbox.offer_proxy(connections.append, port=PORT))
                await agent.receive()
                await agent.say(wire.frame(wire.RESULT, 1, LISTENS))
            await taken_back(agent)
            await agent.receive()
            await agent.say(wire.frame(wire.RESULT, 3, LISTENS), wire.frame(wire.ACCEPTED, 2, LISTENS))
            while not connections:
                await anyio.lowlevel.checkpoint()


async def test_two_offers_of_any_port_keep_their_connections_apart() -> None:
    async with liar() as agent:
        first: list[Connection] = []
        second: list[Connection] = []
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: agent.sandbox.offer_proxy(first.append, port=0))
                group.start_soon(lambda: agent.sandbox.offer_proxy(second.append, port=0))
                await agent.receive()
                other = wire.pack([wire.whole(PORT + 1)])
                await agent.say(
                    wire.frame(wire.RESULT, 1, LISTENS),
                    wire.frame(wire.ACCEPTED, 2, LISTENS),
                    wire.frame(wire.RESULT, 3, other),
                    wire.frame(wire.ACCEPTED, 4, other),
                )
        assert (len(first), len(second)) == (1, 1)
        assert agent.sandbox.alive
