"""How a request gets to its server: as it is; over TLS where secrets are bound there; with secrets in its headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from mcp_spaces.network.answers import Redirects
from mcp_spaces.network.flow import Flow
from mcp_spaces.network.http_proxy import Request, Way
from mcp_spaces.network.injection import Injection
from mcp_spaces.network.model import HTTP_PORT, PrivateHosts, Refused, Target
from mcp_spaces.network.port import Accesses
from mcp_spaces.network.references import fields_with, places_in
from mcp_spaces.network.rules import decide
from mcp_spaces.network.tls import Trust
from mcp_spaces.sandbox.port import Connection

Dial = Callable[[Target], Awaitable[Connection]]
"""Decide, record and dial. Raises Refused."""


class Ways:
    def __init__(self, *, injection: Injection, accesses: Accesses, private: PrivateHosts, trust: Trust) -> None:
        self.injection = injection
        self._accesses = accesses
        self._private = private
        self._trust = trust

    async def way(self, flow: Flow, request: Request, dial: Dial) -> Way:
        """Secrets are judged before anything is dialled, and opened once the server has proven who it is.
        Raises Refused."""
        try:
            places = places_in(request.head, request.path)
            judged = None
            if places:
                judged = await self.injection.judge(flow.runtime, places, request.target, tls=request.tls)
                flow.granted_until = partial(self.injection.granted_until, flow.runtime, judged)
        except Refused as refused:
            refused.target = refused.target or request.target
            raise
        target = judged.target if judged is not None else await self._secured(flow, request)
        if target is None:
            return Way(await dial(request.target), request.outgoing(request.head.fields, searched=False))
        connection = await dial(target)
        secured = await self._trust.connect(connection, target, private=self._private.of(target) is not None)
        try:
            # Nobody told it of what changed while it was judged; and reaching the server may have taken long.
            await flow.recheck_secrets()
            values = {} if judged is None else await self.injection.values(flow.runtime, judged)
            scrubber = self.injection.scrubber(flow.runtime)
            outgoing = replace(request, target=target, tls=True).outgoing(
                fields_with(request.head.fields, values), searched=scrubber is not None
            )
        except BaseException:
            secured.close()
            raise
        return Way(secured, outgoing, scrubber, None if request.tls else _redirects(request.target, target))

    async def _secured(self, flow: Flow, request: Request) -> Target | None:
        """None: over no TLS of ours."""
        if request.tls:
            return request.target
        target = await self.injection.secured(flow.runtime, request.target)
        if target is None:
            return None
        try:
            decide(self._accesses.access(flow.runtime), target, self._private)
        except Refused:
            # Only the plain port is in the list: without a secret, that is what was asked for.
            return None
        return target


def _redirects(asked: Target, secured: Target) -> Redirects:
    return Redirects(secured.origin, f"http://{asked.authority(usual_port=HTTP_PORT)}")
