"""Tunnels: the name in the TLS ClientHello has to be the one that CONNECT was judged by (threat N14).

What comes first decides: TLS, or a plain HTTP request as some clients tunnel it. Everything else is refused, so that a
tunnel to an allowed host is not one to whatever else listens there.
"""

from __future__ import annotations

from ipaddress import ip_address

import anyio

from mcp_spaces.network import head as heads
from mcp_spaces.network import tls_hello
from mcp_spaces.network.flow import Buffered, Flow
from mcp_spaces.network.head import RequestHead, malformed
from mcp_spaces.network.http_proxy import exchange, read_request
from mcp_spaces.network.model import PrivateHosts, Reason, Refused, Target
from mcp_spaces.network.relay import relay
from mcp_spaces.network.rules import read_target
from mcp_spaces.network.ways import Dial, Ways
from mcp_spaces.sandbox.port import Connection

FIRST_WORDS_S = 10.0
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
ALERT = b"\x15\x03\x03\x00\x02\x02\x31"
"""TLS: fatal, access_denied. Clients say so, instead of "connection reset"."""


def read_tunnel(head: RequestHead, *, private: PrivateHosts) -> Target:
    """Raises Refused."""
    target = read_target(head.target, default_port=None, private=private, tunnel=True)
    for named in heads.values(head.fields, "host"):
        said = read_target(named, default_port=target.port, private=private)
        if said.host != target.host:
            raise Refused(Reason.OTHER_NAME, "Host names another server than the request", rule="network.host")
    framing = heads.framing(head.fields, version=head.version)
    if framing.chunked or framing.length:
        raise malformed("a request for a tunnel has no body")
    return target


async def tunnel(
    flow: Flow, client: Buffered, target: Target, *, private: PrivateHosts, dial: Dial, ways: Ways
) -> int | None:
    """Until both sides are done. Returns the status of a plain request. Raises Refused, SpacesError or EOFError."""
    upstream = await dial(target)
    try:
        begins = await opened(flow, client)
        if isinstance(begins, RequestHead):
            flow.answered = False
            request = read_request(begins, private=private, tunnelled=target)

            async def again(to: Target) -> Connection:
                return upstream if (to.host, to.port) == (target.host, target.port) else await dial(to)

            return await exchange(flow, client, request, lambda asked: ways.way(flow, asked, again))
        if begins is not None:
            await check_name(client, begins, target, private, greased=flow.runtime.greases)
            client.put_back(begins)
            await relay(flow, client, Buffered(upstream))
        return None
    finally:
        upstream.close()


async def opened(flow: Flow, client: Buffered) -> RequestHead | bytes | None:
    """Tell the client that its tunnel is there, and hear what comes first: a plain request, a whole ClientHello, or
    None when nobody says anything. Raises Refused."""
    await client.connection.send(ESTABLISHED)
    flow.answered = True
    try:
        with anyio.fail_after(FIRST_WORDS_S):
            return await _first_words(client)
    except TimeoutError:
        raise Refused(Reason.TOO_SLOW, "nothing was said in the tunnel", status=408) from None


async def _first_words(client: Buffered) -> RequestHead | bytes | None:
    content = await client.some()
    if not content:
        return None
    if content[0] != tls_hello.HANDSHAKE:
        if not 65 <= content[0] <= 90:
            raise Refused(Reason.NO_TLS, "a tunnel carries TLS or HTTP", rule="network.tunnel")
        client.put_back(content)
        head = await client.head()
        return None if head is None else heads.request_head(head)
    while True:
        try:
            if tls_hello.is_whole(content):
                return content
        except tls_hello.NotTls as problem:
            raise Refused(Reason.NO_TLS, f"that is no TLS: {problem}", rule="network.tunnel") from None
        more = await client.some()
        if not more:
            raise EOFError
        content += more


async def check_name(
    client: Buffered, hello: bytes, target: Target, private: PrivateHosts, *, greased: bool = False
) -> None:
    """The client is told in its own words. Raises Refused."""
    try:
        _check_name(hello, target, private, greased=greased)
    except Refused:
        await client.connection.send(ALERT)
        raise


def _check_name(hello: bytes, target: Target, private: PrivateHosts, *, greased: bool) -> None:
    try:
        name = tls_hello.server_name(hello, greased=greased)
    except tls_hello.NotTls as problem:
        raise Refused(Reason.NO_TLS, f"that is no TLS: {problem}", rule="network.tunnel") from None
    except tls_hello.HiddenName as problem:
        # An address cannot be named in a hello: the operator who opened one opened it without a name.
        if isinstance(problem, tls_hello.NoName) and private.of(target) is not None and _is_address(target.host):
            return
        raise Refused(Reason.HIDDEN_NAME, f"TLS to {target.host}: {problem}", rule="network.tunnel") from None
    if name != target.host:
        raise Refused(Reason.OTHER_NAME, f"TLS names another server than {target.host}", rule="network.tunnel")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
