"""One request, one decision and one record of it, whatever a client says of itself (N12)."""

from __future__ import annotations

import pytest

from mcp_spaces.core.scope import NetworkGrant, NetworkMode
from mcp_spaces.network.model import NO_ACCESS, Access
from tests.network.lab import OK, PUBLIC, laboratory
from tests.security.raw_requests import HOST, LIST, both, connect, get, post

pytestmark = pytest.mark.anyio


async def test_n12_a_relay_inside_has_the_sandbox_s_rights_and_no_more() -> None:
    """Policy is keyed by the stream: what a client says of itself, or for whom it speaks, changes nothing."""
    async with laboratory(LIST) as lab:
        claims = ["X-Forwarded-For: 10.0.0.1", "Forwarded: for=operator", "Via: 1.1 other", "X-Mcp-Spaces-Space: sp_x"]
        assert b"not_listed" in await lab.ask(get("http://evil.com/", "evil.com", *claims))
        # A tunnel through the gateway to the gateway's own port inside is a literal, and no way around.
        assert b"ip_literal" in await lab.ask(connect("127.0.0.1:3128"))


@pytest.mark.parametrize("because", ["network.mode", "policy", "policy.network.mode"])
async def test_silence_means_no_and_the_refusal_names_the_rule(because: str) -> None:
    async with laboratory(Access(NetworkGrant(mode=NetworkMode.NONE), because)) as lab:
        answer = await lab.ask(both(HOST))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert f"rule: {because}".encode() in answer
        assert lab.records.of("refused")[0]["rule"] == because


async def test_what_follows_a_request_is_never_read_as_another() -> None:
    async with laboratory(LIST) as lab:
        answer = await lab.ask(both(HOST) + both("evil.com") + both(HOST))
        assert answer.count(b"HTTP/1.1") == 1
        assert lab.internet.dialled == [(PUBLIC, 80)]
        (seen,) = lab.internet.received
        assert seen.count(b"GET ") == 1


async def test_connection_cannot_take_away_what_ends_a_body() -> None:
    async with laboratory(LIST) as lab:
        await lab.ask(
            post("Connection: content-length, host, x-secret", "X-Secret: 1", "Content-Length: 2", body=b"hi")
        )
        (seen,) = lab.internet.received
        assert b"Content-Length: 2" in seen
        assert b"Host: " in seen
        assert b"X-Secret" not in seen


async def test_what_cannot_be_recorded_does_not_happen() -> None:
    async with laboratory(LIST) as lab:
        lab.records.is_full = True
        assert b"not_recorded" in await lab.ask(both(HOST))
        assert lab.internet.dialled == []


async def test_each_decision_is_an_event_that_names_its_rule() -> None:
    async with laboratory(LIST) as lab:
        await lab.ask(both("a.example.org"))
        lab.names["a.example.org"] = [PUBLIC]
        await lab.ask(both("a.example.org"))
        await lab.ask(both("evil.com"))
        assert [event["rule"] for event in lab.records.of("allowed")] == ["*.example.org"] * 2
        assert [event.get("status") for event in lab.records.of("closed")] == [None, 200]
        assert lab.records.of("refused") == [
            {
                "reason": "not_listed",
                "rule": "network.allow",
                "words": "evil.com:80 is not in the space's list",
                "host": "evil.com",
                "port": 80,
            }
        ]


async def test_a_sandbox_of_the_same_space_is_reached_by_its_alias() -> None:
    async with laboratory(LIST) as lab:
        assert OK in (await lab.ask(both("web.sandbox.internal:8000"))).replace(b"Connection: close\r\n", b"")
        assert lab.names.asked == []
        # Without a network too; silence is still a no.
        lab.rules.now = Access(neighbours=True)
        assert OK in (await lab.ask(both("web.sandbox.internal:8000"))).replace(b"Connection: close\r\n", b"")
        assert b"no_network" in await lab.ask(both(HOST))
        lab.rules.now = NO_ACCESS
        assert b"no_network" in await lab.ask(both("web.sandbox.internal:8000"))
