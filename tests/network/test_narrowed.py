"""A runtime that reaches less for a while: what is cut off, what is refused, and what records and answers name of it."""

from __future__ import annotations

import anyio
import pytest

from mcp_spaces.errors import WrongState
from mcp_spaces.network.dialing import Upstream
from mcp_spaces.network.model import RuntimeRef, Target
from mcp_spaces.network.narrowing import ANOTHER, REFUSED_KEPT
from tests.network.lab import PATIENCE_S, PUBLIC, RUNTIME, Client, Lab, allowing, laboratory
from tests.security.app import eventually
from tests.security.raw_requests import both, connect

pytestmark = pytest.mark.anyio

BOUND, LISTED = "api.example.com", "evil.com"
LIST = allowing(BOUND, f"{LISTED}:80", "*.example.org")


def only_bound(target: Target) -> bool:
    return target.host == BOUND


async def open_stream(lab: Lab, host: str, runtime: RuntimeRef = RUNTIME) -> Client:
    lab.names[host] = [PUBLIC]

    async def silent(client: Upstream) -> None:
        await client.receive()
        await client.send(b"HTTP/1.1 200 OK\r\n\r\nfirst")
        await client.receive()

    lab.internet.servers[PUBLIC, 80] = silent
    client = await lab.client(runtime)
    await client.say(both(host))
    await client.hear(until=b"first")
    return client


async def test_b07_when_it_begins_what_leads_elsewhere_is_gone_and_the_rest_goes_on() -> None:
    async with laboratory(LIST) as lab:
        lab.gateway.admit(RuntimeRef("rt_two", "sp_one", "other"))
        elsewhere = await open_stream(lab, LISTED)
        await open_stream(lab, BOUND)
        await open_stream(lab, LISTED, RuntimeRef("rt_two", "sp_one", "other"))
        silent = await lab.client()
        async with lab.gateway.narrowed(RUNTIME.id, only_bound):
            (closed,) = lab.records.of("closed")
            assert (closed["host"], closed["reason"]) == (LISTED, "withdrawn")
            assert await elsewhere.hear() == b""
            assert lab.gateway.open_connections == 3
            # One that had not yet said where it wanted to go is judged when it does.
            await silent.say(both(LISTED))
            assert b"narrowed" in await silent.hear()


async def test_b07_within_it_nothing_else_is_reached_and_afterwards_all_is_as_before() -> None:
    async with laboratory(LIST) as lab:
        async with lab.gateway.narrowed(RUNTIME.id, only_bound) as narrow:
            assert (await lab.ask(both(BOUND))).endswith(b"ok")
            assert b"X-Mcp-Spaces-Refused: narrowed" in await lab.ask(both(LISTED))
            # Never more than without it.
            assert b"not_listed" in await lab.ask(connect(f"{LISTED}:443"))
            assert narrow.refused == {f"{LISTED}:80"}
            with pytest.raises(WrongState):
                async with lab.gateway.narrowed(RUNTIME.id, only_bound):
                    pass
            assert b"narrowed" in await lab.ask(both(LISTED))
        assert lab.internet.dialled == [(PUBLIC, 80)]
        assert (await lab.ask(both(LISTED))).endswith(b"ok")


async def test_l06_a_host_that_a_page_may_have_made_up_is_named_nowhere() -> None:
    secret = "hunter2.example.org"
    async with laboratory(LIST) as lab:
        lab.names["known.example.org"] = [PUBLIC]
        async with lab.gateway.narrowed(
            RUNTIME.id, lambda target: target.host in (BOUND, "known.example.org")
        ) as narrow:
            narrow.known.add("known.example.org")
            await lab.ask(both("known.example.org"))
            await lab.ask(both(BOUND))
            for request in (both(secret), connect(f"{secret}:443"), both("hunter2.test")):
                await lab.ask(request)
            await eventually(lambda: lab.gateway.open_connections == 0)
        assert narrow.refused == {f"{ANOTHER}:80", f"{ANOTHER}:443"}
        assert "hunter2" not in f"{lab.records.events} {narrow.refused}"
        assert [event["host"] for event in lab.records.of("allowed")] == ["known.example.org", BOUND]
        assert {event["host"] for event in lab.records.of("refused")} == {ANOTHER}
        assert not any("words" in event for event in lab.records.of("refused"))
        await lab.ask(both("hunter2.test"))
        assert lab.records.of("refused")[-1]["host"] == "hunter2.test"


async def test_a_host_that_stands_in_the_list_is_named_also_with_its_port() -> None:
    async with laboratory(LIST) as lab, lab.gateway.narrowed(RUNTIME.id, only_bound) as narrow:
        await lab.ask(both("other.test"))
        lab.rules.now = allowing(BOUND, LISTED, "exact.test:8080")
        await lab.ask(both(LISTED))
        await lab.ask(both("exact.test:8080"))
        await lab.ask(both("exact.test:80"))
    assert narrow.refused == {f"{LISTED}:80", "exact.test:8080"}


async def test_so_many_of_the_refused_are_kept_and_no_more() -> None:
    hosts = [f"h{number}.test" for number in range(REFUSED_KEPT + 1)]
    async with laboratory(allowing(*hosts)) as lab, lab.gateway.narrowed(RUNTIME.id, only_bound) as narrow:
        for host in hosts:
            assert b"narrowed" in await lab.ask(both(host))
    assert narrow.refused == {f"{host}:80" for host in hosts[:REFUSED_KEPT]}


async def test_an_end_by_error_ends_it_too() -> None:
    async with laboratory(LIST) as lab:
        with pytest.raises(LookupError):
            async with lab.gateway.narrowed(RUNTIME.id, only_bound):
                raise LookupError
        assert (await lab.ask(both(LISTED))).endswith(b"ok")
        with anyio.fail_after(PATIENCE_S):
            async with lab.gateway.narrowed(RUNTIME.id, only_bound):
                pass
