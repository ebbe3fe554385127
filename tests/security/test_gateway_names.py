"""Tricks with names, ports and bytes: what two readers would read in two ways, the gateway refuses (N09)."""

from __future__ import annotations

import pytest

from mcp_spaces.network.model import Reason
from tests.network.lab import OPEN, PUBLIC, hello, laboratory
from tests.security.raw_requests import HOST, LIST, both, connect, get, post

pytestmark = pytest.mark.anyio

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
    "a name without a dot": (both("intranet"), Reason.NOT_LISTED),
    "localhost": (both("localhost"), Reason.BAD_HOST),
    "a name below localhost": (both("api.example.com.localhost"), Reason.BAD_HOST),
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
    "mail that is handed in": (connect(f"{HOST}:587"), Reason.MAIL_PORT),
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
    "chunks in HTTP/1.0": (
        post("Transfer-Encoding: chunked", body=b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0", 1),
        Reason.MALFORMED,
    ),
    "CONNECT with a body": (connect(f"{HOST}:443", "Content-Length: 3") + b"abc", Reason.MALFORMED),
    "CONNECT with chunks": (connect(f"{HOST}:443", "Transfer-Encoding: chunked") + b"0\r\n\r\n", Reason.MALFORMED),
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


IN_OPEN_MODE: dict[str, tuple[bytes, Reason]] = {
    "localhost": (both("localhost"), Reason.BAD_HOST),
    "a name below localhost": (both("app.localhost"), Reason.BAD_HOST),
    "a tunnel to a name without a dot": (connect("intranet:443"), Reason.BAD_HOST),
    "mail": (connect(f"{HOST}:25"), Reason.MAIL_PORT),
    "mail that is handed in": (connect(f"{HOST}:587"), Reason.MAIL_PORT),
    "an address": (both(PUBLIC), Reason.IP_LITERAL),
    "an unknown sandbox": (both("nobody.sandbox.internal:8000"), Reason.NO_SUCH_SANDBOX),
    "a sub-domain of a sandbox": (both("a.web.sandbox.internal:8000"), Reason.NO_SUCH_SANDBOX),
}


@pytest.mark.parametrize("attack", IN_OPEN_MODE)
async def test_n09_where_every_host_is_allowed_these_are_refused_all_the_same(attack: str) -> None:
    request, reason = IN_OPEN_MODE[attack]
    async with laboratory(OPEN) as lab:
        lab.names["localhost"] = lab.names["app.localhost"] = lab.names["intranet"] = [PUBLIC]
        assert f"X-Mcp-Spaces-Refused: {reason}\r\n".encode() in await lab.ask(request)
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
