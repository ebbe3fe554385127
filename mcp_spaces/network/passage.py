"""How one connection passes: its request is read, judged, recorded and dialled, and its end is told and recorded."""

from __future__ import annotations

import logging

import anyio

from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import SpacesError
from mcp_spaces.network import head as heads
from mcp_spaces.network.budgets import OverBudget
from mcp_spaces.network.flow import Buffered, Flow
from mcp_spaces.network.http_proxy import exchange, read_request
from mcp_spaces.network.model import (
    ALLOWED,
    CLOSED,
    FAILURES,
    REFUSED,
    PrivateHosts,
    Reason,
    Refused,
    RuntimeRef,
    Target,
)
from mcp_spaces.network.narrowing import ANOTHER, Narrowings
from mcp_spaces.network.port import Accesses, NetworkLog
from mcp_spaces.network.reaching import Reaching
from mcp_spaces.network.refusals import Refusals
from mcp_spaces.network.refusing import answer, finish, first_cause
from mcp_spaces.network.rules import check_blocked, decide
from mcp_spaces.network.termination import Termination
from mcp_spaces.network.tunnels import read_tunnel, tunnel
from mcp_spaces.network.ways import Ways
from mcp_spaces.sandbox.port import Connection

log = logging.getLogger(__name__)

HEAD_S = 10.0
IN_TUNNEL = frozenset({Reason.NO_TLS, Reason.OTHER_NAME, Reason.HIDDEN_NAME, Reason.TOO_SLOW})
"""Found out once a tunnel stands: the client was told inside of it, and is let read to the end."""


class Passage:
    """`total_s` is the longest that one connection lives."""

    def __init__(
        self,
        *,
        accesses: Accesses,
        records: NetworkLog,
        reaching: Reaching,
        narrowings: Narrowings,
        refusals: Refusals,
        ways: Ways,
        termination: Termination,
        private: PrivateHosts,
        total_s: float,
        clock: Clock,
    ) -> None:
        self._accesses = accesses
        self._records = records
        self._reaching = reaching
        self._narrowings = narrowings
        self._refusals = refusals
        self._ways = ways
        self._termination = termination
        self._private = private
        self._total_s = total_s
        self._clock = clock

    async def serve(self, flow: Flow, client: Buffered) -> None:
        """To its end, which the client is told and the records keep. Raises what the client's connection raises."""
        began, problem, status = self._clock.monotonic(), None, None
        with anyio.move_on_after(self._total_s) as total, flow.life:
            try:
                status = await self._pass(flow, client)
            except (Refused, SpacesError, EOFError, BaseExceptionGroup) as error:
                problem = first_cause(error)
        if flow.withdrawn or flow.expired:
            problem = Refused(Reason.WITHDRAWN, "the rules have changed", rule="network.allow")
        elif flow.life.cancelled_caught or total.cancelled_caught:
            problem = Refused(Reason.TOO_SLOW, "it took too long", status=504)
        refused = problem if isinstance(problem, Refused) else None
        if problem is not None and refused is None:
            refused = Refused(Reason.UNREACHABLE, "the server broke off", status=502)
        if refused is not None and refused.reason not in FAILURES:
            await self.record_refusal(flow.runtime, flow.named, refused)
        if flow.target is not None:
            await self._closed(flow, status, refused, seconds=self._clock.monotonic() - began)
        if refused is None or (flow.answered and refused.reason in IN_TUNNEL):
            await finish(client.connection)
        elif not flow.answered:
            if flow.named is not None and flow.named.tunnel:
                self._refusals.note(flow.runtime.id, flow.named, refused)
            await answer(client.connection, refused)
        # Otherwise it is broken off: half an answer must not look like a whole one.

    async def record_refusal(self, runtime: RuntimeRef, target: Target | None, refused: Refused) -> None:
        """What cannot be recorded is refused all the same."""
        if isinstance(refused, OverBudget) and not refused.first:
            return
        target = refused.target or target
        body: dict[str, object] = {"reason": refused.reason, "rule": refused.rule}
        if target is None or target.host != ANOTHER:
            body["words"] = refused.words
        if target is not None:
            body |= {"host": target.host[:253], "port": target.port}
        try:
            await self._records.write(runtime, REFUSED, body)
        except SpacesError as error:
            log.warning("a refusal of %s could not be recorded: %s", runtime.id, error.message)

    async def _pass(self, flow: Flow, client: Buffered) -> int | None:
        content = None
        with anyio.move_on_after(HEAD_S) as waited:
            if await client.begins():
                # Counted before it is read: what is no request leaves a record too.
                flow.spending.request()
                content = await client.head()
        if waited.cancelled_caught:
            raise Refused(Reason.TOO_SLOW, "the request did not arrive in time", status=408)
        return None if content is None else await self._request(flow, client, heads.request_head(content))

    async def _request(self, flow: Flow, client: Buffered, head: heads.RequestHead) -> int | None:
        if head.method == "CONNECT":
            return await self._tunnel(flow, client, read_tunnel(head, private=self._private))
        request = read_request(head, private=self._private)

        async def dial(to: Target) -> Connection:
            return await self._reach(flow, to, head.method)

        return await exchange(flow, client, request, lambda asked: self._ways.way(flow, asked, dial))

    async def _tunnel(self, flow: Flow, client: Buffered, target: Target) -> int | None:
        async def dial(to: Target) -> Connection:
            return await self._reach(flow, to, "CONNECT")

        if not await self._termination.ends_here(flow.runtime, target):
            return await tunnel(flow, client, target, private=self._private, dial=dial, ways=self._ways)
        await self._permit(flow, target, "CONNECT")

        async def dial_permitted(to: Target) -> Connection:
            is_same = (to.host, to.port) == (target.host, target.port)
            return await (self._reaching.connect(flow.runtime, to) if is_same else dial(to))

        return await self._termination.serve(flow, client, target, dial=dial_permitted)

    async def _reach(self, flow: Flow, target: Target, method: str) -> Connection:
        """Decide, record, then dial."""
        await self._permit(flow, target, method)
        return await self._reaching.connect(flow.runtime, target)

    async def _permit(self, flow: Flow, target: Target, method: str) -> None:
        """Decide and record. From the decision on, a change of the rules ends the flow."""
        access = self._accesses.access(flow.runtime)
        flow.named = self._narrowings.named(flow.runtime, target, access.grant.allow)
        try:
            rule = decide(access, target, self._private)
            check_blocked(flow.runtime, target)
            self._narrowings.check(flow.runtime, target, named=flow.named)
        except Refused as refused:
            refused.target = flow.named
            raise
        flow.target = target
        self._refusals.permitted(flow.runtime.id, flow.named)
        body = {"host": flow.named.host[:253], "port": target.port, "method": method, "rule": rule}
        try:
            await self._records.write(flow.runtime, ALLOWED, body)
        except SpacesError as error:
            raise Refused(Reason.NOT_RECORDED, "nothing can be recorded, so nothing is done", status=503) from error

    async def _closed(self, flow: Flow, status: int | None, refused: Refused | None, *, seconds: float) -> None:
        body: dict[str, object] = {
            "host": flow.named.host[:253] if flow.named else "",
            "port": flow.target.port if flow.target else 0,
            "up_bytes": flow.spending.up_bytes,
            "down_bytes": flow.spending.down_bytes,
            "seconds": round(seconds, 3),
        }
        if status is not None:
            body["status"] = status
        if refused is not None:
            body |= {"reason": refused.reason, "rule": refused.rule}
        try:
            await self._records.write(flow.runtime, CLOSED, body)
        except SpacesError as error:
            log.warning("the end of a connection of %s could not be recorded: %s", flow.runtime.id, error.message)
