"""Whether `run.list` and `space.get` stay as fast when there are many run records."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import anyio

from benchmarks import in_process
from benchmarks.clients import RawClient
from benchmarks.daemons import running, state_directory
from benchmarks.measure import WARM_UP, Line, Series, Target, timed
from mcp_spaces.core.ids import new_id
from mcp_spaces.core.journal import RunState, encode
from mcp_spaces.spaces.store import SpaceStore
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Transaction

SIZES = (10, 1_000, 100_000)
ROUNDS = 10
CALLS = 15
FLAT = 1.5
"""How many times the cost at 10 runs still counts as flat, with the noise of a shared machine."""


def lines() -> Iterator[Line]:
    with ExitStack() as stack:
        clients: dict[int, RawClient] = {}
        for size in SIZES:
            state = stack.enter_context(state_directory())
            anyio.run(_fill, state, size)
            clients[size] = stack.enter_context(stack.enter_context(running(state, pool_size=0)).client())
        for tool, arguments in (("run_list", {"space": "bench"}), ("run_list", {}), ("space_get", {"space": "bench"})):
            found = _in_turns(clients, tool, arguments)
            for size in SIZES:
                first = size == SIZES[0]
                yield Line(
                    what=f"{tool}{'' if arguments else ' everywhere'} at {size:,} runs",
                    unit="ms",
                    ours=found[size],
                    baseline=None if first else found[SIZES[0]],
                    against="" if first else f"the same at {SIZES[0]} runs",
                    targets=[] if first else [Target(FLAT, of_baseline=True)],
                )


def _in_turns(clients: dict[int, RawClient], tool: str, arguments: dict[str, str]) -> dict[int, Series]:
    calls = {size: partial(client.call, tool, **arguments) for size, client in clients.items()}
    found: dict[int, list[float]] = {size: [] for size in calls}
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    for _ in range(ROUNDS):
        for size, call in calls.items():
            found[size] += [timed(call) for _ in range(CALLS)]
    return {size: Series(values) for size, values in found.items()}


async def _fill(state: Path, size: int) -> None:
    """Records as the journal writes them, in one transaction: 100,000 calls would take minutes."""
    async with in_process.app(state) as app:
        agent = app.local_agent()
        await app.pipeline.call(agent, "space.create", {"name": "bench"})
        space = app.services.use(SpaceStore).resolve(agent, "bench")
        began = time.time() - size

        def records(tx: Transaction) -> None:
            for number in range(size):
                run_id, at = new_id("run"), began + number
                tx.execute(
                    "INSERT INTO runs (id, operation, principal_id, space_id, state, started_at, ended_at, input,"
                    " outcome) VALUES (?, 'sandbox.shell', ?, ?, ?, ?, ?, ?, ?)",
                    (
                        run_id,
                        agent.principal_id,
                        space.id,
                        RunState.SUCCEEDED,
                        at,
                        at + 0.001,
                        encode({"space": "bench", "command": "true"}),
                        encode({"exit_code": 0, "stdout": "", "duration_ms": 1.0}),
                    ),
                )
                tx.append_audit(at=at, kind="intent", run_id=run_id, body="{}")
                tx.append_audit(at=at, kind="outcome", run_id=run_id, body="{}")

        await app.services.use(Database).write(records)
