"""The pure parts: who may reach what, which names are names, and how bytes are read."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_spaces.core.scope import NetworkGrant, NetworkMode, narrow_network
from mcp_spaces.errors import InvalidInput
from mcp_spaces.network import head as heads
from mcp_spaces.network import tls_hello
from mcp_spaces.network.access import limited
from mcp_spaces.network.bodies import Body
from mcp_spaces.network.head import Framing
from mcp_spaces.network.model import Access, PrivateHosts, Refused, Target
from mcp_spaces.network.rules import decide, read_target
from tests.network.lab import hello

NOBODY = PrivateHosts({})
LABELS = st.sampled_from(["a", "b", "api", "evil"])
NAMES = st.lists(LABELS, min_size=2, max_size=4).map(lambda labels: ".".join(labels) + ".com")
PORTS = st.sampled_from([80, 443, 8080])
RULES = st.builds(
    lambda wild, name, port: ("*." if wild else "") + name + (f":{port}" if port else ""),
    st.booleans(), NAMES, st.one_of(st.none(), PORTS),
)  # fmt: skip
GRANTS = st.builds(
    NetworkGrant, mode=st.sampled_from(NetworkMode), allow=st.lists(RULES, max_size=4).map(tuple)
)  # fmt: skip
TARGETS = st.builds(Target, NAMES, PORTS)


def reaches(grant: NetworkGrant, target: Target) -> bool:
    try:
        decide(Access(grant), target, NOBODY)
    except Refused:
        return False
    return True


@given(GRANTS, GRANTS, TARGETS)
def test_what_is_narrowed_reaches_what_both_reach_and_nothing_else(
    a: NetworkGrant, b: NetworkGrant, to: Target
) -> None:
    assert reaches(narrow_network(a, b), to) == (reaches(a, to) and reaches(b, to))


@given(GRANTS, GRANTS, RULES, TARGETS)
def test_a_rule_more_at_a_lower_level_never_reaches_more_than_the_level_above(
    outer: NetworkGrant, inner: NetworkGrant, rule: str, to: Target
) -> None:
    more = NetworkGrant(mode=NetworkMode.ALLOWLIST, allow=(*inner.allow, rule))
    assert not reaches(narrow_network(outer, more), to) or reaches(outer, to)


@given(GRANTS, st.sampled_from(NetworkMode), TARGETS)
def test_a_policy_only_takes_away(grant: NetworkGrant, most: NetworkMode, to: Target) -> None:
    left = limited(grant, most).grant
    assert not reaches(left, to) or reaches(grant, to)
    if most is NetworkMode.NONE or (most is NetworkMode.ALLOWLIST and grant.mode is NetworkMode.OPEN):
        assert not reaches(left, to)


@given(st.text(max_size=60))
def test_whatever_is_read_as_a_target_is_a_plain_name(authority: str) -> None:
    try:
        target = read_target(authority, default_port=80, private=NOBODY)
    except Refused:
        return
    assert target.host.isascii() and target.host == target.host.lower()
    assert not set(target.host) - set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    assert 0 < target.port < 65536


@given(st.binary(max_size=400))
def test_noise_is_no_head_or_one_that_can_be_written_again(noise: bytes) -> None:
    try:
        head = heads.request_head(b"GET / HTTP/1.1\r\n" + noise)
    except Refused:
        return
    again = heads.request_head(heads.written("GET / HTTP/1.1", head.fields).removesuffix(heads.END))
    assert again.fields == head.fields


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.binary(max_size=20), st.data())
def test_a_chunked_body_ends_where_it_ends_however_it_is_cut(
    chunks: list[bytes], after: bytes, data: st.DataObject
) -> None:
    whole = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in chunks) + b"0\r\nX: y\r\n\r\n"
    stream, body, taken = whole + after, Body(Framing(chunked=True), until_closed=False), b""
    at = 0
    while at < len(stream) and not body.is_over:
        size = data.draw(st.integers(1, len(stream) - at))
        taken += body.take(stream[at : at + size])
        at += size
    assert body.is_over
    assert taken == whole


@pytest.mark.parametrize(
    "chunks",
    [b"x\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\n", b"1\n", b"1\r\nab\r\n", b"1;\0\r\n", b"\r\n", b"f" * 2000, b"1" * 16 + b"\r\n"],
)  # fmt: skip
def test_chunks_that_are_none_are_refused(chunks: bytes) -> None:
    with pytest.raises(Refused):
        Body(Framing(chunked=True), until_closed=False).take(chunks + b"0\r\n\r\n")


@given(st.binary(max_size=300))
def test_noise_is_no_hello_and_costs_nothing(noise: bytes) -> None:
    for content in (noise, b"\x16\3\1" + noise, hello("a.com")[:40] + noise):
        try:
            if tls_hello.is_whole(content):
                tls_hello.server_name(content)
        except (tls_hello.NotTls, tls_hello.HiddenName):
            continue


def test_the_hello_of_a_real_client_is_read() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="Api.Example.com")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    content = outgoing.read()
    assert tls_hello.is_whole(content)
    assert tls_hello.server_name(content) == "api.example.com"
    assert not any(tls_hello.is_whole(content[:at]) for at in range(len(content)))


@pytest.mark.parametrize("entry", ["x", "x:", "x:0", "x:70000", ":80", "x:80=", "x:80=y", "x:80=127.0.0.1:a"])
def test_a_private_host_that_cannot_be_read_is_an_error_and_not_a_hole(entry: str) -> None:
    with pytest.raises(InvalidInput):
        PrivateHosts.parse([entry])


def test_private_hosts_are_exact() -> None:
    hosts = PrivateHosts.parse(["Registry.local:8080=127.0.0.1:5000", "10.0.0.1:80", "db.local:443"])
    assert hosts.of(Target("registry.local", 8080)) == ("127.0.0.1", 5000)
    assert hosts.of(Target("10.0.0.1", 80)) == ("10.0.0.1", 80)
    assert hosts.of(Target("db.local", 443)) == ("", 443)
    assert hosts.of(Target("registry.local", 8081)) is None


@pytest.mark.parametrize("own", [NetworkGrant(), NetworkGrant(mode=NetworkMode.ALLOWLIST, allow=("a.com",))])
def test_who_was_launched_with_less_than_the_space_has_is_told_so_and_reaches_no_more(own: NetworkGrant) -> None:
    access = Access(own, space=NetworkGrant(mode=NetworkMode.ALLOWLIST, allow=("a.com", "b.com")))
    with pytest.raises(Refused) as refused:
        decide(access, Target("b.com", 443), NOBODY)
    assert refused.value.rule == "scope.network" and "launch it again" in str(refused.value.words)


def test_what_the_space_does_not_have_either_is_told_as_that() -> None:
    own = NetworkGrant(mode=NetworkMode.ALLOWLIST, allow=("a.com",))
    with pytest.raises(Refused) as refused:
        decide(Access(own, space=own), Target("b.com", 443), NOBODY)
    assert refused.value.rule == "network.allow"


@pytest.mark.parametrize("host", ["localhost", "app.localhost", "127.0.0.1", "[::1]", "0.0.0.0"])
@pytest.mark.parametrize("mode", NetworkMode)
def test_who_looks_at_home_for_a_server_in_a_sandbox_is_told_its_name(host: str, mode: NetworkMode) -> None:
    with pytest.raises(Refused) as refused:
        decide(Access(NetworkGrant(mode=mode)), read_target(f"{host}:8080", default_port=80, private=NOBODY), NOBODY)
    assert "http://ALIAS.sandbox.internal:PORT" in refused.value.words


def test_what_the_operator_opened_at_home_is_reached_where_it_is_listed() -> None:
    private = PrivateHosts.parse(["localhost:8080=127.0.0.1:8080"])
    access = Access(NetworkGrant(mode=NetworkMode.ALLOWLIST, allow=("localhost:8080",)))
    assert decide(access, Target("localhost", 8080), private) == "localhost:8080"
