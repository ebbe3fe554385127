"""The gateway: the only way out of any runtime. Decides anew for each connection, records, dials, and closes what a
change of the rules no longer permits.

Who asks is known by the stream that a connection came through. Whatever fails here, fails closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskStatus

from mcp_spaces.core.changes import Changes
from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import RuntimeUnavailable, SpacesError, WrongState
from mcp_spaces.network import addresses
from mcp_spaces.network import head as heads
from mcp_spaces.network.budgets import Budgets, OverBudget
from mcp_spaces.network.connect import read_tunnel, tunnel
from mcp_spaces.network.flow import Buffered, Flow
from mcp_spaces.network.http_proxy import exchange, read_request
from mcp_spaces.network.model import FAILURES, PrivateHosts, Reason, Refused, RuntimeRef, Target
from mcp_spaces.network.narrowing import ANOTHER, Narrow, Narrowings
from mcp_spaces.network.port import Accesses, Dialer, Neighbours, NetworkLog, Resolver
from mcp_spaces.network.proxies import Proxies
from mcp_spaces.network.reaching import Reaching
from mcp_spaces.network.refusals import Refusals
from mcp_spaces.network.refusing import answer, finish, first_cause
from mcp_spaces.network.rules import check_blocked, decide
from mcp_spaces.network.termination import Termination
from mcp_spaces.network.ways import Ways
from mcp_spaces.sandbox.port import PROXY_PORT, Connection, Sandbox

log = logging.getLogger(__name__)

HEAD_S = 10.0
CLOSING_S = 10.0
"""How long the connections that are cut off by narrowing may take to be gone."""
HERE = "localhost,127.0.0.1,::1"
PROXIED = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
IN_TUNNEL = frozenset({Reason.NO_TLS, Reason.OTHER_NAME, Reason.HIDDEN_NAME, Reason.TOO_SLOW})
ALLOWED, REFUSED, CLOSED = "network.allowed", "network.refused", "network.closed"


class Gateway:
    """Implements `RuntimeGateway`. Run `watch` as long as it lives; `aclose` it before the sandboxes go."""

    def __init__(
        self,
        *,
        accesses: Accesses,
        neighbours: Neighbours,
        records: NetworkLog,
        resolver: Resolver,
        dialer: Dialer,
        private_hosts: PrivateHosts,
        budgets: Budgets,
        clock: Clock,
        ways: Ways,
        termination: Termination,
        proxies: Proxies | None = None,
        is_own: Callable[[str], bool] = addresses.is_own,
    ) -> None:
        self._accesses = accesses
        self._records = records
        self._private = private_hosts
        self._budgets = budgets
        self._clock = clock
        self._ways = ways
        self._termination = termination
        self._proxies = proxies or Proxies({})
        self._reaching = Reaching(
            neighbours=neighbours,
            resolver=resolver,
            dialer=dialer,
            private=private_hosts,
            proxies=self._proxies,
            is_own=is_own,
        )
        self._admitted: set[str] = set()
        self._flows: dict[str, set[Flow]] = {}
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._narrowings = Narrowings()
        self._refusals = Refusals()

    # Runtimes

    async def attach(self, runtime: RuntimeRef, sandbox: Sandbox) -> None:
        ports: list[int] = []

        def environment() -> Mapping[str, str]:
            return self.environment(runtime, ports[0]) if ports else {}

        self.admit(runtime)
        try:
            ports.append(
                await sandbox.offer_proxy(
                    lambda connection: self.accept(runtime, connection), environment=environment, port=PROXY_PORT
                )
            )
        except WrongState as error:
            log.info("runtime %s has no network: %s", runtime.id, error.message)
            return
        await self._termination.prepare(runtime, sandbox)

    def admit(self, runtime: RuntimeRef) -> None:
        self._admitted.add(runtime.id)

    def detach(self, runtime_id: str) -> None:
        self._admitted.discard(runtime_id)
        self._ways.injection.forget(runtime_id)
        self._termination.forget(runtime_id)
        self._refusals.forget(runtime_id)
        for task, of in list(self._tasks.items()):
            if of == runtime_id:
                task.cancel()

    async def aclose(self) -> None:
        self._admitted.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def proxies(self) -> Collection[str]:
        """Names of those that the operator has."""
        return self._proxies.by_name.keys()

    @property
    def open_connections(self) -> int:
        return len(self._tasks)

    def environment(self, runtime: RuntimeRef, port: int) -> dict[str, str]:
        """What a command's programs have to know, where nothing is reached too: the gateway says why, in words."""
        proxy = f"http://127.0.0.1:{port}"
        # Node reads the others only when this is set.
        known = {**dict.fromkeys(PROXIED, proxy), "NO_PROXY": HERE, "no_proxy": HERE, "NODE_USE_ENV_PROXY": "1"}
        return known | self._termination.environment(runtime)

    # Changes of the rules

    async def watch(self, changes: Changes, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """For ever: each change of a space, a principal or the vault is applied to the connections that are open."""
        async with changes.subscribe() as announced:
            task_status.started()
            # Whatever it is: of a listener that is behind, changes are dropped, and the next one stands for them.
            async for _ in announced:
                await self.recheck()

    async def recheck(self) -> None:
        """Close every connection that would not be permitted now."""
        for flows in list(self._flows.values()):
            access = None
            for flow in list(flows):
                if flow.target is None:
                    continue
                access = access or self._accesses.access(flow.runtime)
                try:
                    decide(access, flow.target, self._private)
                except Refused:
                    flow.withdraw()
        for flow in [flow for flows in self._flows.values() for flow in flows]:
            await flow.recheck_secrets()

    @asynccontextmanager
    async def narrowed(self, runtime_id: str, permits: Callable[[Target], bool]) -> AsyncIterator[Narrow]:
        with self._narrowings.entered(runtime_id, permits) as narrow:
            others = [
                flow for flow in self._flows.get(runtime_id, ()) if flow.target is not None and not permits(flow.target)
            ]
            for flow in others:
                flow.withdraw()
            with anyio.move_on_after(CLOSING_S):
                for flow in others:
                    await flow.ended.wait()
            if not all(flow.ended.is_set() for flow in others):
                raise RuntimeUnavailable("A connection to another host does not close.", hint="Try again.")
            yield narrow

    def refusal(self, runtime_id: str, host: str, port: int) -> Refused | None:
        return self._refusals.of(runtime_id, host, port)

    # Connections

    def accept(self, runtime: RuntimeRef, connection: Connection) -> None:
        if runtime.id not in self._admitted:
            connection.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(runtime, connection))
        self._tasks[task] = runtime.id
        task.add_done_callback(self._tasks.pop)
        # Also of one that was cancelled before it began.
        task.add_done_callback(lambda _: connection.close())

    async def _serve(self, runtime: RuntimeRef, connection: Connection) -> None:
        try:
            await self._count_and_serve(runtime, connection)
        except SpacesError as error:
            log.debug("a connection of %s ended: %s", runtime.id, error.message)
        except Exception:
            # One connection may fail in a way nobody thought of; the others, and the daemon, go on.
            log.exception("a connection of %s failed", runtime.id)

    async def _count_and_serve(self, runtime: RuntimeRef, connection: Connection) -> None:
        try:
            spending = self._budgets.open(runtime.space_id)
        except OverBudget as refused:
            await self._refuse(runtime, None, refused)
            await answer(connection, refused)
            return
        flow = Flow(runtime, spending, idle_s=self._budgets.budget.idle_s, clock=self._clock)
        flows = self._flows.setdefault(runtime.id, set())
        flows.add(flow)
        try:
            await self._serve_flow(flow, Buffered(connection))
        finally:
            spending.close()
            flow.ended.set()
            flows.discard(flow)
            if not flows and self._flows.get(runtime.id) is flows:
                del self._flows[runtime.id]

    async def _serve_flow(self, flow: Flow, client: Buffered) -> None:
        began, problem, status = self._clock.monotonic(), None, None
        with anyio.move_on_after(self._budgets.budget.total_s) as total, flow.life:
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
            await self._refuse(flow.runtime, flow.named, refused)
        if flow.target is not None:
            await self._closed(flow, status, refused, seconds=self._clock.monotonic() - began)
        if refused is None or (flow.answered and refused.reason in IN_TUNNEL):
            await finish(client.connection)
        elif not flow.answered:
            if flow.named is not None and flow.named.tunnel:
                self._refusals.note(flow.runtime.id, flow.named, refused)
            await answer(client.connection, refused)
        # Otherwise it is broken off: half an answer must not look like a whole one.

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

    # Records

    async def _refuse(self, runtime: RuntimeRef, target: Target | None, refused: Refused) -> None:
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
