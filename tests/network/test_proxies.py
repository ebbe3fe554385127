"""Connections that go on through a proxy of the operator's, and hosts that a runtime was launched without."""

from __future__ import annotations

import base64

import anyio
import pytest

from mcp_spaces.errors import InvalidInput, RuntimeUnavailable
from mcp_spaces.network.dialing import Upstream
from mcp_spaces.network.model import RuntimeRef
from mcp_spaces.network.proxies import Proxies
from tests.network.lab import OK, OTHER_PUBLIC, PATIENCE_S, PUBLIC, Lab, allowing, laboratory

pytestmark = pytest.mark.anyio

REQUEST = b"GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
RUNTIME = RuntimeRef("rt_one", "sp_one", "main", proxy="us")
ENTRY = "us=ann:p%40ss@proxy.example.net:3129"


async def asked(lab: Lab, runtime: RuntimeRef, request: bytes = REQUEST) -> bytes:
    lab.gateway.admit(runtime)
    client = await lab.client(runtime)
    with anyio.fail_after(PATIENCE_S):
        await client.say(request)
        return await client.hear()


async def test_a_request_goes_on_through_the_proxy_which_looks_the_name_up() -> None:
    heard: list[bytes] = []

    async def proxy(peer: Upstream) -> None:
        for answer in (b"HTTP/1.1 200 Connection established\r\n\r\n", OK):
            head = b""
            while b"\r\n\r\n" not in head:
                head += await peer.receive()
            heard.append(head)
            await peer.send(answer)
        await peer.finish()

    async with laboratory(allowing("api.example.com"), proxies=[ENTRY]) as lab:
        lab.names["proxy.example.net"] = [OTHER_PUBLIC]
        lab.internet.servers[OTHER_PUBLIC, 3129] = proxy
        assert (await asked(lab, RUNTIME)).endswith(b"ok")
        assert lab.internet.dialled == [(OTHER_PUBLIC, 3129)]
        assert lab.names.asked == ["proxy.example.net"]
    credentials = base64.b64encode(b"ann:p@ss")
    assert heard[0].startswith(b"CONNECT api.example.com:80 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " + credentials in heard[0] and credentials not in heard[1]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 " + b"a" * 70_000, b"HTTP/1.1 200 OK\r\n"])
async def test_a_proxy_that_answers_oddly_is_left(answer: bytes) -> None:
    ended = anyio.Event()

    async def proxy(peer: Upstream) -> None:
        await peer.receive()
        try:
            await peer.send(answer)
            await peer.finish()
            while await peer.receive():
                pass
        except RuntimeUnavailable:
            pass
        ended.set()

    async with laboratory(allowing("api.example.com"), proxies=[ENTRY]) as lab:
        lab.names["proxy.example.net"] = [OTHER_PUBLIC]
        lab.internet.servers[OTHER_PUBLIC, 3129] = proxy
        assert not (await asked(lab, RUNTIME)).startswith(b"HTTP/1.1 200")
        with anyio.fail_after(PATIENCE_S):
            await ended.wait()


async def test_a_proxy_lifts_no_rule_and_what_it_refuses_is_told() -> None:
    async def proxy(peer: Upstream) -> None:
        await peer.receive()
        await peer.send(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        await peer.finish()

    async with laboratory(allowing("api.example.com"), proxies=[ENTRY]) as lab:
        lab.names["proxy.example.net"] = [OTHER_PUBLIC]
        lab.internet.servers[OTHER_PUBLIC, 3129] = proxy
        refused = await asked(lab, RUNTIME, REQUEST.replace(b"api.example.com", b"evil.com"))
        assert b"not_listed" in refused and lab.internet.dialled == []
        assert b"the proxy answered 407" in await asked(lab, RUNTIME)


async def test_a_proxy_that_the_operator_took_away_is_no_way_out() -> None:
    async with laboratory(allowing("api.example.com")) as lab:
        assert b"not there any more" in await asked(lab, RUNTIME)
        assert lab.internet.dialled == []


@pytest.mark.parametrize("entry", ["us", "=a:1", "us=host", "us=ann:secret@host:99999999", "us=ann:secret"])
def test_an_entry_that_cannot_be_read_is_named_without_its_password(entry: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Proxies.parse([entry])
    assert refused.value.message.startswith("Setting network_proxies:")
    assert "secret" not in refused.value.message


async def test_a_host_that_a_runtime_was_launched_without_is_refused_to_it_alone() -> None:
    blocking = RuntimeRef("rt_two", "sp_one", "other", blocked=("*.example.com",))
    async with laboratory(allowing("api.example.com")) as lab:
        refused = await asked(lab, blocking)
        assert b"X-Mcp-Spaces-Refused: blocked" in refused and lab.internet.dialled == []
        assert (await asked(lab, RuntimeRef("rt_one", "sp_one", "main"))).endswith(b"ok")
        assert lab.internet.dialled == [(PUBLIC, 80)]
