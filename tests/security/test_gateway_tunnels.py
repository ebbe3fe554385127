"""What is said in a tunnel (N14): it leads only to the name that it was asked for."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mcp_spaces.network import tls_hello
from mcp_spaces.network.dialing import Upstream
from mcp_spaces.network.model import Reason
from tests.network.lab import PUBLIC, hello, laboratory
from tests.security.app import eventually
from tests.security.raw_requests import HOST, LIST, connect, get

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Said:
    content: bytes
    reason: Reason


def listing(*names: tuple[int, str], after: bytes = b"") -> bytes:
    """A hello whose one name extension holds these, each with its kind; `after`: what follows them in it."""
    entries = b"".join(bytes([kind]) + len(name).to_bytes(2, "big") + name.encode() for kind, name in names)
    return hello(None, extensions=[(0, len(entries).to_bytes(2, "big") + entries + after)])


def with_more(content: bytes, more: bytes) -> bytes:
    """The same hello with `more` behind its extensions, and all lengths as they then are."""
    body = content[9:] + more
    message = b"\1" + len(body).to_bytes(3, "big") + body
    return content[:3] + len(message).to_bytes(2, "big") + message


IN_TUNNEL = {
    "another name": Said(hello("evil.com"), Reason.OTHER_NAME),
    "a sub-domain": Said(hello("x." + HOST), Reason.OTHER_NAME),
    "a trailing dot": Said(hello(HOST + "."), Reason.OTHER_NAME),
    "no name": Said(hello(None), Reason.HIDDEN_NAME),
    "an encrypted hello": Said(hello(HOST, extensions=[(0xFE0D, b"\0")]), Reason.HIDDEN_NAME),
    "an old encrypted name": Said(hello(HOST, extensions=[(0xFFCE, b"\0")]), Reason.HIDDEN_NAME),
    "two name extensions": Said(hello(None, names=[HOST, "evil.com"]), Reason.NO_TLS),
    "two names in one extension": Said(listing((0, HOST), (0, "evil.com")), Reason.NO_TLS),
    "the allowed name behind another": Said(listing((0, "evil.com"), (0, HOST)), Reason.NO_TLS),
    "a name of another kind": Said(listing((1, HOST)), Reason.NO_TLS),
    "something behind the names": Said(listing((0, HOST), after=b"\0\0\x8evil.com"), Reason.NO_TLS),
    "something behind the extensions": Said(with_more(hello(HOST), b"\0\0\0\4evil"), Reason.NO_TLS),
    "NUL in the name": Said(hello(HOST + "\0.evil.com"), Reason.NO_TLS),
    "a name of 300 bytes": Said(hello("a" * 300), Reason.NO_TLS),
    "an alert": Said(b"\x15\3\3\0\2\2\50", Reason.NO_TLS),
    "a hello of SSL 2": Said(b"\x80\x2e\1\3\1" + bytes(40), Reason.NO_TLS),
    "a record of no bytes": Said(b"\x16\3\1\0\0", Reason.NO_TLS),
    "a record of 20 kB": Said(b"\x16\3\1\x50\0" + bytes(100), Reason.NO_TLS),
    "a hello of 16 MB": Said(b"\x16\3\1\0\4\1\xff\xff\xff", Reason.NO_TLS),
    "another message than a hello": Said(b"\x16\3\1\0\4\2\0\0\0", Reason.NO_TLS),
    "something after the hello": Said(hello(HOST)[:3] + (len(hello(HOST)) - 4).to_bytes(2, "big") + hello(HOST)[5:] + b"x", Reason.NO_TLS),
    "SSH": Said(b"\0SSH", Reason.NO_TLS),
    "lower-case words": Said(b"ehlo evil\r\n", Reason.NO_TLS),
    "mail commands": Said(b"EHLO evil\r\n\r\n", Reason.MALFORMED),
    "a request for another host": Said(get("/", "evil.com"), Reason.OTHER_NAME),
    "a request in absolute form": Said(get("http://evil.com/", HOST), Reason.MALFORMED),
    "a second CONNECT": Said(connect("evil.com:443"), Reason.MALFORMED),
}  # fmt: skip


@pytest.mark.parametrize("what", IN_TUNNEL)
async def test_n14_a_tunnel_leads_only_to_the_name_it_was_asked_for(what: str) -> None:
    async with laboratory(LIST) as lab:
        port = 80 if what.startswith("a request") else 443
        tunnel = await lab.tunnel(f"{HOST}:{port}")
        await tunnel.say(IN_TUNNEL[what].content)
        await tunnel.hear()
        await eventually(lambda: lab.records.of("closed"))
        assert lab.records.of("closed")[0]["reason"] == IN_TUNNEL[what].reason
        assert lab.records.of("refused")[0]["reason"] == IN_TUNNEL[what].reason
        assert lab.internet.received in ([], [b""])


def test_n14_chromium_s_empty_ech_extension_hides_no_name_and_a_real_one_would() -> None:
    greased = hello(HOST, extensions=[(0xFE0D, b"\0")])
    assert tls_hello.server_name(greased, greased=True) == HOST
    for told in (greased, hello(HOST, extensions=[(0xFFCE, b"\0")])):
        with pytest.raises(tls_hello.HiddenName):
            tls_hello.server_name(told, greased=told is not greased)


@pytest.mark.parametrize("cut", [0, 1, 7, 100])
async def test_n14_an_honest_hello_passes_however_it_is_cut(cut: int) -> None:
    async with laboratory(LIST) as lab:
        got = bytearray()

        async def server(client: Upstream) -> None:
            while len(got) < len(whole):
                got.extend(await client.receive())
            await client.send(b"server hello")
            await client.finish()

        whole = hello(HOST.upper(), extensions=[(0x0A0A, b""), (43, b"\2\3\4")], cut=cut)
        lab.internet.servers[(PUBLIC, 443)] = server
        tunnel = await lab.tunnel(f"{HOST}:443")
        for at in range(0, len(whole), 11):
            await tunnel.say(whole[at : at + 11])
        assert await tunnel.hear() == b"server hello"
        assert bytes(got) == whole
