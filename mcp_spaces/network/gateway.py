"""The gateway: the only way out of any runtime. Knows whose connections are served and which are open, and closes what a
change of the rules no longer permits; how one passes is in `passage.py`.

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
from mcp_spaces.network.budgets import Budgets, OverBudget
from mcp_spaces.network.flow import Buffered, Flow
from mcp_spaces.network.model import PrivateHosts, Refused, RuntimeRef, Target
from mcp_spaces.network.narrowing import Narrow, Narrowings
from mcp_spaces.network.passage import Passage
from mcp_spaces.network.port import Accesses, Dialer, Neighbours, NetworkLog, Resolver
from mcp_spaces.network.proxies import Proxies
from mcp_spaces.network.reaching import Reaching
from mcp_spaces.network.refusals import Refusals
from mcp_spaces.network.refusing import answer
from mcp_spaces.network.rules import decide
from mcp_spaces.network.termination import Termination
from mcp_spaces.network.ways import Ways
from mcp_spaces.sandbox.port import PROXY_PORT, Connection, Sandbox

log = logging.getLogger(__name__)

CLOSING_S = 10.0
"""How long the connections that are cut off by narrowing may take to be gone."""
HERE = "localhost,127.0.0.1,::1"
PROXIED = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


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
        self._private = private_hosts
        self._budgets = budgets
        self._clock = clock
        self._ways = ways
        self._termination = termination
        self._proxies = proxies or Proxies({})
        self._narrowings = Narrowings()
        self._refusals = Refusals()
        self._passage = Passage(
            accesses=accesses,
            records=records,
            reaching=Reaching(
                neighbours=neighbours,
                resolver=resolver,
                dialer=dialer,
                private=private_hosts,
                proxies=self._proxies,
                is_own=is_own,
            ),
            narrowings=self._narrowings,
            refusals=self._refusals,
            ways=ways,
            termination=termination,
            private=private_hosts,
            total_s=budgets.budget.total_s,
            clock=clock,
        )
        self._admitted: set[str] = set()
        self._flows: dict[str, set[Flow]] = {}
        self._tasks: dict[asyncio.Task[None], str] = {}

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
            await self._passage.record_refusal(runtime, None, refused)
            await answer(connection, refused)
            return
        flow = Flow(runtime, spending, idle_s=self._budgets.budget.idle_s, clock=self._clock)
        flows = self._flows.setdefault(runtime.id, set())
        flows.add(flow)
        try:
            await self._passage.serve(flow, Buffered(connection))
        finally:
            spending.close()
            flow.ended.set()
            flows.discard(flow)
            if not flows and self._flows.get(runtime.id) is flows:
                del self._flows[runtime.id]
