"""Plain HTTP requests: absolute-form through the proxy, or origin-form inside of a tunnel.

One request for each connection, both to the client and to the server: nothing that follows it is ever read as another
one, so the two ends cannot disagree about where a request begins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from mcp_spaces.errors import SpacesError
from mcp_spaces.network import head as heads
from mcp_spaces.network.bodies import Body
from mcp_spaces.network.flow import Buffered, Flow
from mcp_spaces.network.head import Framing, RequestHead, ResponseHead, malformed
from mcp_spaces.network.model import PrivateHosts, Reason, Refused, Target
from mcp_spaces.network.relay import relay
from mcp_spaces.network.rules import read_target
from mcp_spaces.sandbox.port import Connection

HTTP_PORT = 80
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MAX_INTERIM = 16

Reach = Callable[[Target], Awaitable[Connection]]
"""Decide, record and dial. Raises Refused."""


@dataclass(frozen=True, slots=True)
class Request:
    """What will be sent, and where to."""

    target: Target
    head: RequestHead
    path: str
    framing: Framing
    websocket: bool
    expects: bool

    def outgoing(self) -> bytes:
        """As the server gets it. Here secrets would be put in, once there are any."""
        fields = heads.end_to_end(self.head.fields, without=("host", "expect"))
        name = self.target.host if self.target.port == HTTP_PORT else str(self.target)
        ends = [("Connection", "close")]
        if self.websocket:
            ends = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
        if self.framing.chunked:
            ends.append(("Transfer-Encoding", "chunked"))
        first = f"{self.head.method} {self.path} {self.head.version}"
        return heads.written(first, [("Host", name), *fields, *ends])


def read_request(head: RequestHead, *, private: PrivateHosts, tunnelled: Target | None = None) -> Request:
    """Everything that is checked about a request before anybody decides. Raises Refused."""
    if head.method == "TRACE":
        raise Refused(Reason.NOT_SUPPORTED, "TRACE is not passed on", status=405)
    if tunnelled is None:
        target, path = _absolute(head.target, private)
    elif head.target.startswith("/") and "#" not in head.target:
        target, path = tunnelled, head.target
    else:
        raise malformed("inside of a tunnel a request begins with its path")
    _check_host(head, target, private)
    upgrades = heads.values(head.fields, "upgrade")
    websocket = "upgrade" in heads.listed(head.fields, "connection") and bool(upgrades)
    framing = heads.framing(head.fields, version=head.version)
    if websocket and (
        [one.lower() for one in upgrades] != ["websocket"]
        or head.method != "GET"
        or head.version != "HTTP/1.1"
        or framing.chunked
        or framing.length
    ):
        raise Refused(Reason.NOT_SUPPORTED, "only a plain upgrade to websocket is passed on", status=501)
    expects = heads.listed(head.fields, "expect")
    if expects not in ([], ["100-continue"]):
        raise Refused(Reason.NOT_SUPPORTED, "that expectation is not known", status=417)
    return Request(target, head, path, framing, websocket, bool(expects))


def _absolute(uri: str, private: PrivateHosts) -> tuple[Target, str]:
    if uri[:7].lower() != "http://":
        raise Refused(Reason.NOT_SUPPORTED, "only http:// goes through here; https goes by CONNECT", status=400)
    if "#" in uri:
        raise malformed("a fragment is never sent")
    rest = uri[7:]
    cut = min(at for at in (rest.find("/"), rest.find("?"), len(rest)) if at >= 0)
    authority, path = rest[:cut], rest[cut:]
    if not path.startswith("/"):
        path = "/" + path
    return read_target(authority, default_port=HTTP_PORT, private=private), path


def _check_host(head: RequestHead, target: Target, private: PrivateHosts) -> None:
    """The server decides by Host whose request it is: it has to be the one that was judged (threats N09, N14)."""
    named = heads.values(head.fields, "host")
    if not named and head.version == "HTTP/1.0":
        return
    if len(named) != 1:
        raise malformed("there has to be exactly one Host")
    said = read_target(named[0], default_port=HTTP_PORT, private=private)
    if (said.host, said.port) != (target.host, target.port):
        raise Refused(Reason.OTHER_NAME, "Host names another server than the request", rule="network.host")


async def exchange(flow: Flow, client: Buffered, request: Request, reach: Reach) -> int:
    """Pass on one request and its answer; returns its status. Raises Refused, SpacesError or EOFError."""
    upstream = Buffered(await reach(request.target))
    try:
        outgoing = request.outgoing()
        flow.spending.up(len(outgoing))
        await upstream.connection.send(outgoing)
        if request.expects:
            await client.connection.send(CONTINUE)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_upload, flow, client, upstream, Body(request.framing, until_closed=False))
            answer = await _answer_head(flow, upstream)
            if answer.status == 101:
                await _switch(flow, client, upstream, request, answer)
            else:
                await _download(flow, client, upstream, request, answer)
            # A server may answer before it has read everything.
            tasks.cancel_scope.cancel()
        return answer.status
    finally:
        upstream.connection.close()


async def _upload(flow: Flow, client: Buffered, upstream: Buffered, body: Body) -> None:
    try:
        while not body.is_over:
            content = await client.some()
            if not content:
                # A body that is cut off must not look whole.
                upstream.connection.close()
                return
            taken = body.take(content)
            flow.spending.up(len(taken))
            flow.touch()
            await upstream.connection.send(taken)
            # What follows the body is never read as another request.
    except SpacesError:
        # The server stopped reading; what it answered is still worth reading.
        return


async def _answer_head(flow: Flow, upstream: Buffered) -> ResponseHead:
    for _ in range(MAX_INTERIM):
        content = await upstream.head()
        if content is None:
            raise EOFError
        flow.spending.down(len(content))
        flow.touch()
        answer = heads.response_head(content)
        if answer.status == 101 or answer.status >= 200:
            return answer
    raise malformed("too many interim answers")


async def _download(flow: Flow, client: Buffered, upstream: Buffered, request: Request, answer: ResponseHead) -> None:
    framing = heads.framing(answer.fields, version="HTTP/1.1")
    fields = heads.end_to_end(answer.fields)
    if framing.chunked:
        fields.append(("Transfer-Encoding", "chunked"))
    fields.append(("Connection", "close"))
    flow.answered = True
    await client.connection.send(heads.written(f"HTTP/1.1 {answer.status} {answer.phrase}", fields))
    if request.head.method == "HEAD" or answer.status in (204, 304):
        return
    body = Body(framing, until_closed=True)
    while not body.is_over:
        content = await upstream.some()
        if not content:
            if body.needs_end:
                raise EOFError
            return
        content = body.take(content)
        flow.spending.down(len(content))
        flow.touch()
        await client.connection.send(content)


async def _switch(flow: Flow, client: Buffered, upstream: Buffered, request: Request, answer: ResponseHead) -> None:
    agreed = [one.lower() for one in heads.values(answer.fields, "upgrade")]
    if not request.websocket or agreed != ["websocket"]:
        raise malformed("an upgrade that nobody asked for")
    fields = [*heads.end_to_end(answer.fields), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
    flow.answered = True
    await client.connection.send(heads.written("HTTP/1.1 101 Switching Protocols", fields))
    await relay(flow, client, upstream)
