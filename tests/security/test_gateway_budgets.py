"""Clients that ask too much, or begin and never end (N15, D10, D13)."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest

from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.network.budgets import Budget
from mcp_spaces.network.dialing import Upstream
from mcp_spaces.network.model import RuntimeRef
from tests.leaps import leap
from tests.network.lab import PATIENCE_S, PUBLIC, hello, laboratory
from tests.security.app import eventually
from tests.security.raw_requests import HOST, LIST, both, post

pytestmark = pytest.mark.anyio


async def test_n15_what_is_over_the_budget_is_refused_and_recorded_once() -> None:
    async with laboratory(LIST, budget=Budget(requests_per_day=3)) as lab:
        answers = [await lab.ask(both(HOST)) for _ in range(6)]
        assert [b"over_budget" in answer for answer in answers] == [False] * 3 + [True] * 3
        assert answers[-1].startswith(b"HTTP/1.1 403 ")
        assert len(lab.records.of("refused")) == 1
        assert lab.records.of("refused")[0]["rule"] == "network.budget.requests"


@pytest.mark.parametrize("head", [b"X\r\n\r\n", b"GET " + b"a" * 70_000, b"GET http"])
async def test_d13_n15_what_is_no_request_counts_as_one_and_cannot_fill_the_disk(head: bytes) -> None:
    async with laboratory(LIST, budget=Budget(requests_per_day=3)) as lab:
        for _ in range(10):
            client = await lab.client()
            await client.say(head)
            await client.end.finish()
            await client.hear()
        assert b"over_budget" in await lab.ask(both(HOST))
        assert len(lab.records.events) <= 3 + 1


async def test_n15_a_connection_that_says_nothing_is_no_request() -> None:
    async with laboratory(LIST, budget=Budget(requests_per_day=1)) as lab:
        (await lab.client()).end.close()
        assert (await lab.ask(both(HOST))).endswith(b"ok")


async def test_n15_bytes_out_are_counted_and_cut_off() -> None:
    async with laboratory(LIST, budget=Budget(up_bytes_per_day=10_000)) as lab:
        answer = await lab.ask(post("Content-Length: 50000", body=bytes(50_000)))
        assert b"over_budget" in answer
        assert int(str(lab.records.of("closed")[0]["up_bytes"])) < 80_000


async def test_n15_bytes_of_an_answer_are_counted_and_cut_off() -> None:
    async def server(client: Upstream) -> None:
        await client.receive()
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + bytes(50_000))

    async with laboratory(LIST, budget=Budget(down_bytes_per_day=10_000)) as lab:
        lab.internet.servers[PUBLIC, 80] = server
        assert len(await lab.ask(both(HOST))) < 50_000
        await eventually(lambda: lab.records.of("refused"))
        assert lab.records.of("refused")[0]["rule"] == "network.budget.down_bytes"


@pytest.mark.parametrize("way", ["up", "down"])
async def test_n15_bytes_through_a_tunnel_are_counted_and_cut_off(way: str) -> None:
    """Nothing else is known of what an allowed host is told there."""
    arrived: list[int] = []

    async def server(client: Upstream) -> None:
        if way == "down":
            await client.receive()
            await client.send(bytes(50_000))
        while piece := await client.receive():
            arrived.append(len(piece))

    budget = Budget(up_bytes_per_day=10_000) if way == "up" else Budget(down_bytes_per_day=10_000)
    async with laboratory(LIST, budget=budget) as lab:
        lab.internet.servers[PUBLIC, 443] = server
        tunnel = await lab.tunnel(f"{HOST}:443")
        with suppress(RuntimeUnavailable):
            await tunnel.say(hello(HOST) + (bytes(50_000) if way == "up" else b""))
        assert len(await tunnel.hear()) < 50_000
        await eventually(lambda: lab.records.of("refused"))
        assert lab.records.of("refused")[0]["rule"] == f"network.budget.{way}_bytes"
        assert sum(arrived) < 50_000


async def test_n15_the_budget_is_a_space_s_and_begins_anew_each_day() -> None:
    time = [86_400.0 * 100]
    clock = Clock(now=lambda: time[0])
    async with laboratory(LIST, budget=Budget(requests_per_day=1), clock=clock) as lab:
        assert b"over_budget" not in await lab.ask(both(HOST))
        assert b"over_budget" in await lab.ask(both(HOST))
        elsewhere = RuntimeRef("rt_two", "sp_two", "main")
        lab.gateway.admit(elsewhere)
        other = await lab.client(elsewhere)
        await other.say(both(HOST))
        assert b"over_budget" not in await other.hear()
        time[0] += 86_400
        assert b"over_budget" not in await lab.ask(both(HOST))


async def test_n15_connections_at_a_time_are_counted() -> None:
    async with laboratory(LIST, budget=Budget(connections=2)) as lab:
        first, second = await lab.client(), await lab.client()
        assert b"over_budget" in await lab.ask(both(HOST))
        first.end.close()
        second.end.close()
        await eventually(lambda: not lab.gateway.open_connections)
        assert b"over_budget" not in await lab.ask(both(HOST))


async def test_d10_heads_that_never_end_are_given_up_and_hold_nobody_up() -> None:
    async with laboratory(LIST, budget=Budget(idle_s=500)) as lab:
        halves = [await lab.client() for _ in range(100)]
        for half in halves:
            await half.say(b"GET http")
        assert (await lab.ask(both(HOST))).endswith(b"ok")
        leap(500)
        with anyio.fail_after(PATIENCE_S):
            for half in halves:
                assert b"504" in await half.hear()
