"""Attacks on the gateway, each named after its line in docs/threat-model.md: raw bytes against the real thing."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import anyio.lowlevel
import pytest

from mcp_spaces.core.ids import Clock
from mcp_spaces.core.scope import NetworkGrant, NetworkMode
from mcp_spaces.network import tls_hello
from mcp_spaces.network.addresses import is_own, is_public
from mcp_spaces.network.budgets import Budget
from mcp_spaces.network.dialing import Upstream
from mcp_spaces.network.model import NO_ACCESS, Access, Reason, RuntimeRef
from tests.network.lab import OK, OPEN, PATIENCE_S, PUBLIC, RUNTIME, allowing, hello, laboratory
from tests.security.app import eventually

pytestmark = pytest.mark.anyio

LIST = allowing("api.example.com", "*.example.org", "only443.example.net:443")
HOST = "api.example.com"


def get(uri: str, host: str | None = HOST, *more: str) -> bytes:
    lines = [f"GET {uri} HTTP/1.1", *([] if host is None else [f"Host: {host}"]), *more]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def connect(authority: str, *more: str) -> bytes:
    return "\r\n".join([f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *more, "", ""]).encode("latin-1")


def post(*fields: str, body: bytes = b"") -> bytes:
    head = "\r\n".join([f"POST http://{HOST}/ HTTP/1.1", f"Host: {HOST}", *fields, "", ""])
    return head.encode() + body


def both(host: str) -> bytes:
    return get(f"http://{host}/", host)


REFUSED: dict[str, tuple[bytes, Reason]] = {
    # Names that look like an allowed one
    "suffix without a dot": (both("evilapi.example.com"), Reason.NOT_LISTED),
    "allowed name as a prefix": (both("api.example.com.evil.com"), Reason.NOT_LISTED),
    "allowed name with a letter more": (both("api.example.comm"), Reason.NOT_LISTED),
    "sub-domain of an exact rule": (both("x.api.example.com"), Reason.NOT_LISTED),
    "apex of a wildcard": (both("example.org"), Reason.NOT_LISTED),
    "wildcard as a suffix of a label": (both("xexample.org"), Reason.NOT_LISTED),
    "wildcard asked for literally": (both("*.example.org"), Reason.BAD_HOST),
    "other top level": (both("api.example.org.uk"), Reason.NOT_LISTED),
    "hyphen instead of a dot": (both("api-example.com"), Reason.NOT_LISTED),
    "punycode look-alike": (both("xn--pi-7sb.example.com"), Reason.NOT_LISTED),
    "Cyrillic look-alike": ("GET http://\u0430pi.example.com/ HTTP/1.1\r\n\r\n".encode(), Reason.MALFORMED),
    "full-width dots": ("GET http://api。example。com/ HTTP/1.1\r\n\r\n".encode(), Reason.MALFORMED),
    "trailing dot": (both("api.example.com."), Reason.BAD_HOST),
    "two dots": (both("api..example.com"), Reason.BAD_HOST),
    "leading dot": (both(".api.example.com"), Reason.BAD_HOST),
    "underscore": (both("api_example.com"), Reason.BAD_HOST),
    "percent-encoded dot": (both("api%2eexample.com"), Reason.BAD_HOST),
    "percent-encoded NUL": (both("api.example.com%00.evil.com"), Reason.BAD_HOST),
    "label of 64 letters": (both("a" * 64 + ".example.org"), Reason.BAD_HOST),
    "name of 300 letters": (both(("a" * 49 + ".") * 6 + "example.org"), Reason.BAD_HOST),
    "empty host": (get("http:///path"), Reason.BAD_HOST),
    "a name without a dot": (both("localhost"), Reason.NOT_LISTED),
    # Two names in one
    "userinfo": (get(f"http://{HOST}@evil.com/"), Reason.BAD_HOST),
    "userinfo with a password": (get(f"http://{HOST}:80@evil.com/"), Reason.MALFORMED),
    "userinfo before the allowed name": (get(f"http://evil.com@{HOST}/"), Reason.BAD_HOST),
    "fragment": (get(f"http://evil.com#@{HOST}/"), Reason.MALFORMED),
    "fragment after the path": (get(f"http://{HOST}/#x"), Reason.MALFORMED),
    "backslash": (get(f"http://evil.com\\@{HOST}/"), Reason.BAD_HOST),
    "backslash as a slash": (get(f"http://{HOST}\\.evil.com/"), Reason.BAD_HOST),
    "semicolon": (get(f"http://{HOST};evil.com/"), Reason.BAD_HOST),
    "comma": (get(f"http://{HOST},evil.com/"), Reason.BAD_HOST),
    "Host of another server": (get(f"http://{HOST}/", "evil.com"), Reason.OTHER_NAME),
    "Host with another port": (get(f"http://{HOST}/", f"{HOST}:8080"), Reason.OTHER_NAME),
    "no Host": (get(f"http://{HOST}/", None), Reason.MALFORMED),
    "two Hosts": (get(f"http://{HOST}/", HOST, "Host: evil.com"), Reason.MALFORMED),
    "Host folded onto a second line": (get(f"http://{HOST}/", HOST, " evil.com"), Reason.MALFORMED),
    "blank before the colon": (get(f"http://{HOST}/", None, f"Host : {HOST}"), Reason.MALFORMED),
    "Host of CONNECT differs": (
        f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: evil.com:443\r\n\r\n".encode(),
        Reason.OTHER_NAME,
    ),
    # Ports
    "port that is not listed": (connect("only443.example.net:80"), Reason.NOT_LISTED),
    "port 0": (get(f"http://{HOST}:0/"), Reason.MALFORMED),
    "port above 65535": (get(f"http://{HOST}:65536/"), Reason.MALFORMED),
    "port with a sign": (get(f"http://{HOST}:+80/"), Reason.MALFORMED),
    "port with leading zeros": (get(f"http://{HOST}:0080/"), Reason.MALFORMED),
    "port in other digits": (f"CONNECT {HOST}:４４３ HTTP/1.1\r\n\r\n".encode(), Reason.MALFORMED),
    "empty port": (get(f"http://{HOST}:/"), Reason.MALFORMED),
    "CONNECT without a port": (connect(HOST), Reason.MALFORMED),
    "mail": (connect(f"{HOST}:25"), Reason.MAIL_PORT),
    "mail over TLS": (connect(f"{HOST}:465"), Reason.MAIL_PORT),
    # Addresses in all spellings
    "loopback": (both("127.0.0.1"), Reason.IP_LITERAL),
    "metadata": (both("169.254.169.254"), Reason.IP_LITERAL),
    "public address": (both(PUBLIC), Reason.IP_LITERAL),
    "decimal": (both("2130706433"), Reason.IP_LITERAL),
    "hexadecimal": (both("0x7f000001"), Reason.IP_LITERAL),
    "octal": (both("0177.0.0.1"), Reason.IP_LITERAL),
    "short": (both("127.1"), Reason.IP_LITERAL),
    "mixed": (both("0x7f.0.0.1"), Reason.IP_LITERAL),
    "hexadecimal last part": (both("127.0.0.0x1"), Reason.IP_LITERAL),
    "empty hexadecimal": (both("0x"), Reason.IP_LITERAL),
    "zero": (both("0"), Reason.IP_LITERAL),
    "IPv6 loopback": (both("[::1]"), Reason.IP_LITERAL),
    "IPv6 without brackets": (connect("::1:443"), Reason.IP_LITERAL),
    "IPv4-mapped": (both("[::ffff:127.0.0.1]"), Reason.IP_LITERAL),
    "IPv4-mapped in hexadecimal": (both("[::ffff:7f00:1]"), Reason.IP_LITERAL),
    "NAT64": (both("[64:ff9b::7f00:1]"), Reason.IP_LITERAL),
    "IPv6 with a zone": (both("[fe80::1%25eth0]"), Reason.IP_LITERAL),
    "CONNECT to an address": (connect("169.254.169.254:443"), Reason.IP_LITERAL),
    # Other protocols and forms
    "https in absolute form": (get(f"https://{HOST}/"), Reason.NOT_SUPPORTED),
    "ftp": (get(f"ftp://{HOST}/"), Reason.NOT_SUPPORTED),
    "file": (get("file:///etc/passwd"), Reason.NOT_SUPPORTED),
    "gopher": (get(f"gopher://{HOST}:80/_GET"), Reason.NOT_SUPPORTED),
    "origin form": (get("/latest/meta-data/"), Reason.NOT_SUPPORTED),
    "asterisk": (f"OPTIONS * HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(), Reason.NOT_SUPPORTED),
    "scheme without slashes": (get(f"http:{HOST}/"), Reason.NOT_SUPPORTED),
    "CONNECT with a path": (connect(f"{HOST}:443/x"), Reason.MALFORMED),
    "CONNECT with a scheme": (connect(f"https://{HOST}:443"), Reason.IP_LITERAL),
    "TRACE": (f"TRACE http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(), Reason.NOT_SUPPORTED),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason.MALFORMED),
    "HTTP/0.9": (f"GET http://{HOST}/\r\n\r\n".encode(), Reason.MALFORMED),
    "SOCKS 5": (b"\5\1\0" + b"\r\n\r\n", Reason.MALFORMED),
    "TLS to the proxy": (hello(HOST) + b"\r\n\r\n", Reason.MALFORMED),
    "upgrade to h2c": (get(f"http://{HOST}/", HOST, "Connection: Upgrade", "Upgrade: h2c"), Reason.NOT_SUPPORTED),
    # Bytes that two readers read in two ways
    "NUL in the request line": (get(f"http://{HOST}\0.evil.com/"), Reason.MALFORMED),
    "NUL in a header": (get(f"http://{HOST}/", HOST, "X: a\0b"), Reason.MALFORMED),
    "bare CR in a header": (get(f"http://{HOST}/", HOST, "X: a\rHost: evil.com"), Reason.MALFORMED),
    "bare LF in a header": (get(f"http://{HOST}/", HOST, "X: a\nHost: evil.com"), Reason.MALFORMED),
    "tab instead of a blank": (f"GET\thttp://{HOST}/\tHTTP/1.1\r\n\r\n".encode(), Reason.MALFORMED),
    "two blanks": (f"GET  http://{HOST}/ HTTP/1.1\r\n\r\n".encode(), Reason.MALFORMED),
    "CR LF in the path": (get(f"http://{HOST}/\r\nX: y"), Reason.MALFORMED),
    "both lengths": (post("Content-Length: 3", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), Reason.MALFORMED),
    "two lengths": (post("Content-Length: 3", "Content-Length: 4", body=b"abcd"), Reason.MALFORMED),
    "length with a sign": (post("Content-Length: +3", body=b"abc"), Reason.MALFORMED),
    "length as a list": (post("Content-Length: 3, 3", body=b"abc"), Reason.MALFORMED),
    "unknown encoding": (post("Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), Reason.MALFORMED),
    "encoding twice": (post("Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), Reason.MALFORMED),
    "encoding with a vertical tab": (post("Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), Reason.MALFORMED),
    "unknown expectation": (post("Expect: 200-maybe", "Content-Length: 0"), Reason.NOT_SUPPORTED),
    # Sizes
    "a line of 70 kB": (get(f"http://{HOST}/{'a' * 70_000}"), Reason.TOO_LARGE),
    "a line without an end": (b"GET " + b"a" * 70_000, Reason.TOO_LARGE),
    "a header of 9 kB": (get(f"http://{HOST}/", HOST, f"X: {'a' * 9_000}"), Reason.TOO_LARGE),
    "a head of 80 kB": (get(f"http://{HOST}/", HOST, *[f"X: {'a' * 7_900}"] * 10), Reason.TOO_LARGE),
    "300 headers": (get(f"http://{HOST}/", HOST, *["X: a"] * 300), Reason.TOO_LARGE),
    # Sandboxes
    "an unknown sandbox": (both("nobody.sandbox.internal:8000"), Reason.NO_SUCH_SANDBOX),
    "the sandboxes' domain itself": (both("sandbox.internal"), Reason.NO_SUCH_SANDBOX),
    "a sub-domain of a sandbox": (both("a.web.sandbox.internal:8000"), Reason.NO_SUCH_SANDBOX),
}


@pytest.mark.parametrize("attack", REFUSED)
async def test_n09_every_trick_with_names_and_bytes_is_refused(attack: str) -> None:
    request, reason = REFUSED[attack]
    async with laboratory(LIST) as lab:
        answer = await lab.ask(request)
        assert f"X-Mcp-Spaces-Refused: {reason}\r\n".encode() in answer
        assert lab.internet.dialled == []
        assert lab.names.asked == []


def test_the_attack_table_is_long_enough() -> None:
    assert len(REFUSED) >= 60


@pytest.mark.parametrize(
    "request_",
    [
        both(HOST),
        get("http://API.Example.COM/", HOST),
        get(f"http://{HOST}:80/x?y=http://evil.com/", HOST),
        get(f"HTTP://{HOST}?q", f"{HOST}:80"),
        both("a.b.example.org"),
        f"GET http://{HOST}/ HTTP/1.0\r\n\r\n".encode(),
        get(f"http://{HOST}/a@b:c//\\..%00", HOST),
    ],
)
async def test_n09_what_is_listed_is_reached_and_nothing_of_the_proxy_leaks(request_: bytes) -> None:
    async with laboratory(LIST) as lab:
        lab.names["a.b.example.org"] = [PUBLIC]
        request_ = request_.replace(
            b"\r\n\r\n", b"\r\nProxy-Authorization: Basic x\r\nProxy-Connection: close\r\n\r\n", 1
        )
        assert (await lab.ask(request_)).endswith(b"\r\n\r\nok")
        assert lab.internet.dialled == [(PUBLIC, 80)]
        (seen,) = lab.internet.received
        assert b"proxy" not in seen.lower()
        assert seen.count(b"Host:") == 1


# ------------------------------------------------------------------------------------------------- addresses

PRIVATE = (
    "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.255 169.254.169.254 172.16.0.1 172.31.255.255"
    " 192.0.0.1 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1"
    " 255.255.255.255 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::7f00:1 64:ff9b::808:808"
    " 64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1:: 2002:808:808::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254"
    " fe80::1 fe80::1%eth0 fec0::1 ff02::1 4000::1 2606:4700::1111%lo localhost 1 0x7f000001"
).split()


@pytest.mark.parametrize("address", PRIVATE)
async def test_n10_an_allowed_name_that_leads_to_a_private_address_is_refused(address: str) -> None:
    for found in ([address], [PUBLIC, address], [address, PUBLIC]):
        async with laboratory(LIST) as lab:
            lab.names[HOST] = found
            assert b"X-Mcp-Spaces-Refused: private_address" in await lab.ask(both(HOST))
            assert lab.internet.dialled == []


def test_n10_public_addresses_are_public() -> None:
    assert all(is_public(one) for one in ("8.8.8.8", PUBLIC, "2606:4700::1111", "2001:4860:4860::8888"))


async def test_n01_an_address_of_this_machine_is_refused_even_where_it_is_public() -> None:
    """Reached from the host itself it would lead past the host's firewall."""
    assert is_own("127.0.0.1")
    assert not is_own(PUBLIC)
    async with laboratory(LIST, own=[PUBLIC]) as lab:
        assert b"X-Mcp-Spaces-Refused: private_address" in await lab.ask(both(HOST))
        assert lab.internet.dialled == []


async def test_n02_the_metadata_address_is_refused_by_name_and_in_open_mode() -> None:
    async with laboratory(OPEN) as lab:
        lab.names["metadata.google.internal"] = ["169.254.169.254"]
        assert b"private_address" in await lab.ask(both("metadata.google.internal"))
        assert b"ip_literal" in await lab.ask(both("169.254.169.254"))
        assert lab.internet.dialled == []


async def test_n11_the_address_that_was_checked_is_the_one_that_is_dialled() -> None:
    async with laboratory(LIST) as lab:
        lab.names.answers[HOST] = [[PUBLIC], ["127.0.0.1"]]
        assert (await lab.ask(both(HOST))).endswith(b"ok")
        assert b"private_address" in await lab.ask(both(HOST))
        assert lab.names.asked == [HOST, HOST]
        assert lab.internet.dialled == [(PUBLIC, 80)]


async def test_n12_a_relay_inside_has_the_sandbox_s_rights_and_no_more() -> None:
    """Policy is keyed by the stream: what a client says of itself, or for whom it speaks, changes nothing."""
    async with laboratory(LIST) as lab:
        claims = ["X-Forwarded-For: 10.0.0.1", "Forwarded: for=operator", "Via: 1.1 other", "X-Mcp-Spaces-Space: sp_x"]
        assert b"not_listed" in await lab.ask(get("http://evil.com/", "evil.com", *claims))
        # A tunnel through the gateway to the gateway's own port inside is a literal, and no way around.
        assert b"ip_literal" in await lab.ask(connect("127.0.0.1:3128"))


# ------------------------------------------------------------------------------------------------- rules change


async def test_n13_a_thousand_changes_under_load_never_let_a_wrong_one_through() -> None:
    async with laboratory(NO_ACCESS) as lab:
        wrong: list[bytes] = []
        done = anyio.Event()

        async def change() -> None:
            for turn in range(1_000):
                lab.rules.now = [allowing(HOST), NO_ACCESS, Access(because="policy")][turn % 3]
                await lab.gateway.recheck()
                await anyio.lowlevel.checkpoint()
            done.set()

        async def load() -> None:
            while not done.is_set():
                answer = await lab.ask(both("evil.com"))
                if b"X-Mcp-Spaces-Refused" not in answer:
                    wrong.append(answer)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(change)
                for _ in range(4):
                    tasks.start_soon(load)
        assert wrong == []
        assert ("93.184.216.35", 80) not in lab.internet.dialled


async def test_n13_a_change_closes_what_is_open_and_no_longer_permitted() -> None:
    async with laboratory(LIST) as lab:

        async def silent(client: Upstream) -> None:
            await client.receive()
            await client.receive()

        lab.internet.servers[(PUBLIC, 80)] = silent
        client = await lab.client()
        await client.say(both(HOST))
        await eventually(lambda: lab.internet.dialled)
        lab.rules.now = allowing("other.example.com")
        await lab.gateway.recheck()
        with anyio.fail_after(2):
            assert b"withdrawn" in await client.hear()


async def test_n13_a_change_that_still_permits_leaves_connections_alone() -> None:
    async with laboratory(LIST) as lab:

        async def echo(client: Upstream) -> None:
            while content := await client.receive():
                await client.send(content)

        lab.internet.servers[(PUBLIC, 443)] = echo
        tunnel = await lab.tunnel(f"{HOST}:443")
        lab.rules.now = allowing(HOST)
        await lab.gateway.recheck()
        await tunnel.say(hello(HOST))
        assert await tunnel.hear(until=hello(HOST)) == hello(HOST)


@pytest.mark.parametrize("because", ["network.mode", "policy", "policy.network.mode"])
async def test_silence_means_no_and_the_refusal_names_the_rule(because: str) -> None:
    async with laboratory(Access(NetworkGrant(mode=NetworkMode.NONE), because)) as lab:
        answer = await lab.ask(both(HOST))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert f"rule: {because}".encode() in answer
        assert lab.records.of("refused")[0]["rule"] == because


async def test_n17_after_it_was_detached_nothing_of_a_runtime_is_served() -> None:
    async with laboratory(OPEN) as lab:
        assert (await lab.ask(both(HOST))).endswith(b"ok")
        accepted = await lab.client()
        lab.gateway.detach(RUNTIME.id)
        assert await accepted.hear() == b""
        assert await lab.ask(both(HOST)) == b""
        lab.gateway.admit(RUNTIME)
        assert (await lab.ask(both(HOST))).endswith(b"ok")
        await lab.gateway.aclose()
        assert await lab.ask(both(HOST)) == b""


# ------------------------------------------------------------------------------------------------- tunnels


@dataclass(frozen=True)
class Said:
    content: bytes
    reason: Reason


IN_TUNNEL = {
    "another name": Said(hello("evil.com"), Reason.OTHER_NAME),
    "a sub-domain": Said(hello("x." + HOST), Reason.OTHER_NAME),
    "a trailing dot": Said(hello(HOST + "."), Reason.OTHER_NAME),
    "no name": Said(hello(None), Reason.HIDDEN_NAME),
    "an encrypted hello": Said(hello(HOST, extensions=[(0xFE0D, b"\0")]), Reason.HIDDEN_NAME),
    "an old encrypted name": Said(hello(HOST, extensions=[(0xFFCE, b"\0")]), Reason.HIDDEN_NAME),
    "two name extensions": Said(hello(None, names=[HOST, "evil.com"]), Reason.NO_TLS),
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


# ------------------------------------------------------------------------------------------------- budgets


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
    async with laboratory(LIST, budget=Budget(total_s=0.5)) as lab:

        async def dripping(client: Upstream) -> None:
            await client.receive()
            await client.send(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                await client.send(b"x")
                await anyio.sleep(0.01)

        lab.internet.servers[(PUBLIC, 80)] = dripping
        assert (await lab.ask(both(HOST))).startswith(b"HTTP/1.1 200")
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


async def test_d10_heads_that_never_end_are_given_up_and_hold_nobody_up() -> None:
    async with laboratory(LIST, budget=Budget(idle_s=0.3)) as lab:
        halves = [await lab.client() for _ in range(100)]
        for half in halves:
            await half.say(b"GET http")
        assert (await lab.ask(both(HOST))).endswith(b"ok")
        with anyio.fail_after(PATIENCE_S):
            for half in halves:
                assert b"504" in await half.hear()


# ------------------------------------------------------------------------------------------------- one request each


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


async def test_private_hosts_open_exactly_one_port_and_need_the_list_too() -> None:
    private = ("registry.local:8080=127.0.0.1:5000", "127.0.0.1:9000", "local.test:80")
    access = allowing("registry.local", "127.0.0.1:9000", "local.test")
    async with laboratory(access, private=private) as lab:
        lab.names["local.test"] = ["10.0.0.7"]
        lab.names["registry.local"] = ["10.0.0.8"]
        assert (await lab.ask(both("registry.local:8080"))).endswith(b"ok")
        assert (await lab.ask(both("127.0.0.1:9000"))).endswith(b"ok")
        assert (await lab.ask(both("local.test"))).endswith(b"ok")
        assert lab.internet.dialled == [("127.0.0.1", 5000), ("127.0.0.1", 9000), ("10.0.0.7", 80)]
        assert b"private_address" in await lab.ask(both("registry.local:8081"))
        assert b"ip_literal" in await lab.ask(both("127.0.0.1:9001"))
        lab.rules.now = allowing("other.test")
        assert b"not_listed" in await lab.ask(both("registry.local:8080"))
        assert b"not_listed" in await lab.ask(both("127.0.0.1:9000"))


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
