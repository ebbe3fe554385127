"""Plain HTTP requests: absolute-form through the proxy, or origin-form inside of a tunnel.

One request for each connection, both to the client and to the server: nothing that follows it is ever read as another
one, so the two ends cannot disagree about where a request begins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from mcp_spaces.errors import SpacesError
from mcp_spaces.network import head as heads
from mcp_spaces.network.answers import Redirects, answer_head, download, switch
from mcp_spaces.network.bodies import Body
from mcp_spaces.network.flow import Buffered, Flow
from mcp_spaces.network.head import Fields, Framing, RequestHead, malformed
from mcp_spaces.network.model import HTTP_PORT, HTTPS_PORT, PrivateHosts, Reason, Refused, Target
from mcp_spaces.network.references import BEGINS, BodyWatch
from mcp_spaces.network.rules import read_target
from mcp_spaces.network.scrubbing import Scrubber
from mcp_spaces.sandbox.port import Connection

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SEEN_WHOLE = frozenset(("accept-encoding", "range", "if-range", "sec-websocket-extensions"))
"""Left out of a request whose answer is searched for secrets: compressed, or in slices, they would not be found."""


@dataclass(frozen=True, slots=True)
class Request:
    """What will be sent, and where to."""

    target: Target
    head: RequestHead
    path: str
    framing: Framing
    websocket: bool
    expects: bool
    tls: bool = False
    """To be sent over TLS: it came in a tunnel that ends here, or its server is one that secrets are bound to."""

    def outgoing(self, fields: Fields, *, searched: bool) -> bytes:
        """As the server gets it: `fields` are the head's, with secrets in them. `searched`: so is the answer."""
        fields = heads.end_to_end(fields, without=("host", "expect", *(SEEN_WHOLE if searched else ())))
        name = self.target.authority(usual_port=HTTPS_PORT if self.tls else HTTP_PORT)
        ends = [("Connection", "close")]
        if searched:
            ends.append(("Accept-Encoding", "identity"))
        if self.websocket:
            ends[0] = ("Connection", "Upgrade")
            ends.append(("Upgrade", "websocket"))
        if self.framing.chunked:
            ends.append(("Transfer-Encoding", "chunked"))
        first = f"{self.head.method} {self.path} {self.head.version}"
        return heads.written(first, [("Host", name), *fields, *ends])


@dataclass(frozen=True, slots=True)
class Way:
    """An open connection to the server, and what is sent first over it. With a `scrubber`, answers are searched."""

    connection: Connection
    outgoing: bytes = field(repr=False)
    scrubber: Scrubber | None = None
    redirects: Redirects | None = None


Reach = Callable[[Request], Awaitable[Way]]
"""Decide, record, dial, put secrets in. Raises Refused."""


def read_request(
    head: RequestHead, *, private: PrivateHosts, tunnelled: Target | None = None, tls: bool = False
) -> Request:
    """Everything that is checked about a request before anybody decides. Raises Refused."""
    if head.method == "TRACE":
        raise Refused(Reason.NOT_SUPPORTED, "TRACE is not passed on", status=405)
    if tunnelled is None:
        target, path = _absolute(head.target, private)
    elif head.target.startswith("/") and ("#" not in head.target or BEGINS in head.target):
        target, path = tunnelled, head.target
    else:
        raise malformed("inside of a tunnel a request begins with its path")
    _check_host(head, target, private, usual_port=HTTPS_PORT if tls else HTTP_PORT)
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
    return Request(target, head, path, framing, websocket, bool(expects), tls)


def _absolute(uri: str, private: PrivateHosts) -> tuple[Target, str]:
    if uri[:7].lower() != "http://":
        raise Refused(Reason.NOT_SUPPORTED, "only http:// goes through here; https goes by CONNECT", status=400)
    rest = uri[7:]
    cut = min(at for at in (rest.find("/"), rest.find("?"), rest.find("#"), len(rest)) if at >= 0)
    authority, path = rest[:cut], rest[cut:]
    # A reference has a # of its own; what it is doing in an address is said later.
    if "#" in uri and BEGINS not in path:
        raise malformed("a fragment is never sent")
    if not path.startswith("/"):
        path = "/" + path
    return read_target(authority, default_port=HTTP_PORT, private=private), path


def _check_host(head: RequestHead, target: Target, private: PrivateHosts, *, usual_port: int) -> None:
    """The server decides by Host whose request it is: it has to be the one that was judged (threats N09, N14)."""
    named = heads.values(head.fields, "host")
    if not named and head.version == "HTTP/1.0":
        return
    if len(named) != 1:
        raise malformed("there has to be exactly one Host")
    said = read_target(named[0], default_port=usual_port, private=private)
    if (said.host, said.port) != (target.host, target.port):
        raise Refused(Reason.OTHER_NAME, "Host names another server than the request", rule="network.host")


async def exchange(flow: Flow, client: Buffered, request: Request, reach: Reach) -> int:
    """Pass on one request and its answer; returns its status. Raises Refused, SpacesError or EOFError."""
    way = await reach(request)
    upstream = Buffered(way.connection)
    try:
        flow.spending.up(len(way.outgoing))
        await upstream.connection.send(way.outgoing)
        if request.expects:
            await client.connection.send(CONTINUE)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_client_side, flow, client, upstream, request)
            answer = await answer_head(flow, upstream)
            if answer.status == 101:
                await switch(flow, client, upstream, answer, scrubber=way.scrubber, asked=request.websocket)
            else:
                await download(
                    flow,
                    client,
                    upstream,
                    answer,
                    to=request.head,
                    scrubber=way.scrubber,
                    redirects=way.redirects,
                )
            # A server may answer before it has read everything.
            tasks.cancel_scope.cancel()
        return answer.status
    finally:
        upstream.connection.close()


async def _client_side(flow: Flow, client: Buffered, upstream: Buffered, request: Request) -> None:
    """Pass on the request's body, and stay until the client is gone. Raises Refused."""
    watch, body = BodyWatch(), Body(request.framing, until_closed=False)
    while not body.is_over:
        taken = body.take(await _said(client))
        watch.see(taken)
        flow.spending.up(len(taken))
        flow.touch()
        try:
            await upstream.connection.send(taken)
        except SpacesError:
            # The server stopped reading; what it answered is still worth reading.
            return
    # What comes before a switch to a WebSocket is that one's to read.
    if not request.websocket:
        # What follows the body is never read as another request.
        await _said(client)


async def _said(client: Buffered) -> bytes:
    """What the client says next. Raises Refused where it ended: then nobody has to answer it any more, however long
    the server is silent, and a body that is cut off must not look whole."""
    try:
        content = await client.some()
    except SpacesError:
        content = b""
    if not content:
        raise Refused(Reason.CLIENT_LEFT, "the client left before its answer was whole", status=499)
    return content
