"""What is remembered of refused tunnels, and for how long."""

from __future__ import annotations

import pytest

from mcp_spaces.network.model import Reason, Refused, Target
from mcp_spaces.network.refusals import KEPT, Refusals
from tests.network.lab import PUBLIC, RUNTIME, Lab, allowing, laboratory
from tests.security.raw_requests import both, connect


def no(words: str) -> Refused:
    return Refused(Reason.NOT_LISTED, words)


def test_each_runtime_is_told_its_own_newest_until_it_is_permitted_or_gone() -> None:
    refusals, target = Refusals(), Target("a.test", 443, tunnel=True)
    for words in ("first", "second"):
        refusals.note("rt_one", target, no(words))
    refusals.note("rt_two", target, no("other"))
    found = refusals.of("rt_one", "a.test", 443)
    assert found is not None and found.words == "second"
    assert refusals.of("rt_one", "a.test", 8443) is refusals.of("rt_none", "a.test", 443) is None
    refusals.permitted("rt_one", target)
    refusals.permitted("rt_none", target)
    assert refusals.of("rt_one", "a.test", 443) is None
    refusals.forget("rt_two")
    assert refusals.of("rt_two", "a.test", 443) is None


def test_a_runtime_that_asks_for_many_is_remembered_by_its_newest() -> None:
    refusals = Refusals()
    refusals.note("rt", Target("h1.test", 443, tunnel=True), no("asked for again below"))
    for number in range(KEPT):
        refusals.note("rt", Target(f"h{number}.test", 443, tunnel=True), no(str(number)))
    assert refusals.of("rt", "h0.test", 443) is not None
    refusals.note("rt", Target("new.test", 443, tunnel=True), no("new"))
    assert refusals.of("rt", "h0.test", 443) is None and refusals.of("rt", "h1.test", 443) is not None


def told(lab: Lab, host: str) -> Reason | None:
    refused = lab.gateway.refusal(RUNTIME.id, host, 443)
    return None if refused is None else refused.reason


@pytest.mark.anyio
async def test_the_gateway_remembers_why_a_tunnel_was_refused_and_nothing_of_plain_requests() -> None:
    async with laboratory(allowing("there.com")) as lab:
        for words in (connect("no.com:443"), connect("there.com:443"), both("plain.com")):
            client = await lab.client()
            await client.say(words)
            await client.hear()
        assert (told(lab, "no.com"), told(lab, "there.com")) == (Reason.NOT_LISTED, Reason.UNKNOWN_HOST)
        assert lab.gateway.refusal(RUNTIME.id, "plain.com", 80) is None
        lab.names["no.com"], lab.rules.now = [PUBLIC], allowing("no.com")
        client = await lab.client()
        await client.say(connect("no.com:443"))
        await client.hear(until=b"established")
        assert told(lab, "no.com") is None
        lab.gateway.detach(RUNTIME.id)
        assert told(lab, "there.com") is None
