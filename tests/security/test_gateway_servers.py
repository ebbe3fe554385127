"""Servers that say nothing, too much, too slowly or no HTTP (N16)."""

from __future__ import annotations

import anyio
import pytest

from mcp_spaces.network.budgets import Budget
from mcp_spaces.network.dialing import Upstream
from tests.leaps import leap
from tests.network.lab import PUBLIC, laboratory
from tests.security.raw_requests import HOST, LIST, both

pytestmark = pytest.mark.anyio


async def test_n16_a_server_that_says_nothing_is_given_up() -> None:
    async with laboratory(LIST, budget=Budget(idle_s=0.2)) as lab:

        async def silent(client: Upstream) -> None:
            while await client.receive():
                pass

        lab.internet.servers[(PUBLIC, 80)] = silent
        assert (await lab.ask(both(HOST))).startswith(b"HTTP/1.1 504 ")


async def test_n16_a_body_without_end_is_cut_off_by_the_budget() -> None:
    async with laboratory(LIST, budget=Budget(down_bytes_per_day=1_000_000)) as lab:

        async def endless(client: Upstream) -> None:
            await client.receive()
            await client.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
            while True:
                await client.send(bytes(60_000))

        lab.internet.servers[(PUBLIC, 80)] = endless
        assert len(await lab.ask(both(HOST))) < 1_200_000
        assert lab.records.of("closed")[0]["reason"] == "over_budget"


async def test_n16_drip_by_drip_a_connection_still_ends() -> None:
    async with laboratory(LIST, budget=Budget(total_s=500)) as lab:

        async def dripping(client: Upstream) -> None:
            await client.receive()
            await client.send(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                await client.send(b"x")
                await anyio.sleep(0.01)

        lab.internet.servers[(PUBLIC, 80)] = dripping
        client = await lab.client()
        await client.say(both(HOST))
        assert (await client.hear(until=b"x")).startswith(b"HTTP/1.1 200")
        leap(500)
        await client.hear()
        assert lab.records.of("closed")[0]["reason"] == "too_slow"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 9_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 20_000 + b"\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 40,
        b"",
    ],
)
async def test_n16_an_answer_that_is_none_breaks_nothing(answer: bytes) -> None:
    async with laboratory(LIST) as lab:

        async def broken(client: Upstream) -> None:
            await client.receive()
            await client.send(answer)
            await client.finish()

        lab.internet.servers[(PUBLIC, 80)] = broken
        assert not (await lab.ask(both(HOST))).startswith(b"HTTP/1.1 200")
        del lab.internet.servers[(PUBLIC, 80)]
        assert (await lab.ask(both(HOST))).endswith(b"ok")
