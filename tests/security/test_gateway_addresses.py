"""Where an allowed name leads: private, own and metadata addresses, and answers that change (N01, N02, N10, N11)."""

from __future__ import annotations

import resource
import socket

import pytest

from mcp_spaces.network.addresses import is_own, is_public
from tests.network.lab import OPEN, PUBLIC, allowing, laboratory
from tests.security.raw_requests import HOST, LIST, both

pytestmark = pytest.mark.anyio

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
    assert is_own("::1") or not socket.has_dualstack_ipv6()
    assert not is_own(PUBLIC)
    async with laboratory(LIST, own=[PUBLIC]) as lab:
        assert b"X-Mcp-Spaces-Refused: private_address" in await lab.ask(both(HOST))
        assert lab.internet.dialled == []


def test_n01_where_nobody_can_tell_an_address_counts_as_this_machine_s() -> None:
    """A sandbox may have used the daemon's descriptors up in the very moment in which it is asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert is_own(PUBLIC)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


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


async def test_an_address_of_ipv6_that_was_opened_is_named_to_its_server_as_addresses_are() -> None:
    async with laboratory(OPEN, private=("[::1]:9000", "[::1]:80")) as lab:
        for authority in ("[::1]:9000", "[::1]"):
            assert (await lab.ask(both(authority))).endswith(b"ok")
            assert f"\r\nHost: {authority}\r\n".encode() in lab.internet.received[-1]
        assert lab.internet.dialled == [("::1", 9000), ("::1", 80)]
