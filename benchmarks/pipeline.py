"""What the nine steps cost around an operation that does nothing, beside two bare commits of SQLite."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
from pydantic import BaseModel

from benchmarks import in_process
from benchmarks.daemons import state_directory
from benchmarks.measure import WARM_UP, Line, Series, Target, timed
from mcp_spaces.core.approvals import Approvals
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import ShellFacts
from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.core.journal import Journal
from mcp_spaces.core.operation import Operation
from mcp_spaces.core.pipeline import Pipeline
from mcp_spaces.core.place import InRuntime
from mcp_spaces.spaces.model import Runtime, RuntimeKind, RuntimeState
from mcp_spaces.spaces.port import Runtimes
from mcp_spaces.spaces.store import SpaceStore
from mcp_spaces.state.database import Database

ROUNDS = 10
CALLS = 100
ROW = "x" * 400


class Answer(BaseModel):
    exit_code: int = 0
    stdout: str = ""


async def nothing(_context: Context, _given: InRuntime) -> Answer:
    return Answer()


NOTHING = Operation(
    id="sandbox.nothing",
    summary="As many steps as sandbox.shell has, and no sandbox.",
    input=InRuntime,
    output=Answer,
    effect=Effect.EXECUTES,
    facts=lambda _given: ShellFacts("true"),
    handler=nothing,
    needs_running_space=True,
)


def lines() -> Iterator[Line]:
    with state_directory() as state:
        ours, baseline = anyio.run(_measured, state)
    yield Line(
        what="a call through the pipeline in process, both audit rows",
        unit="ms",
        ours=ours,
        baseline=baseline,
        against="2 commits of SQLite, WAL and FULL",
        targets=[Target(1)],
    )


async def _measured(state: Path) -> tuple[Series, Series]:
    ours: list[float] = []
    baseline: list[float] = []
    async with in_process.app(state) as app:
        agent = app.local_agent()
        created = await app.pipeline.call(agent, "space.create", {"name": "bench"})
        space = app.services.use(SpaceStore).resolve(agent, created.output.model_dump()["id"])
        runtime = Runtime(
            id=new_id("rt"),
            space_id=space.id,
            kind=RuntimeKind.SANDBOX,
            alias="main",
            state=RuntimeState.ACTIVE,
            ceiling=space.ceiling,
            created_at=time.time(),
        )
        await app.services.use(Runtimes).add(runtime, space_version=space.version)
        database, clock = app.services.use(Database), Clock()
        pipeline = Pipeline(
            [NOTHING],
            database=database,
            places=app.services.use(SpaceStore),
            services=app.services,
            clock=clock,
            journal=Journal(database, clock),
            approvals=Approvals(database, clock),
        )
        with closing(bare_database(state / "bare.db")) as bare:
            for _ in range(WARM_UP):
                await pipeline.call(agent, NOTHING.id, {"space": "bench"})
            for _ in range(ROUNDS):
                for _ in range(CALLS):
                    started = time.perf_counter()
                    await pipeline.call(agent, NOTHING.id, {"space": "bench"})
                    ours.append((time.perf_counter() - started) * 1000)
                baseline += [timed(lambda: commits(bare, 2)) for _ in range(CALLS)]
    return Series(ours), Series(baseline)


def bare_database(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT)")
    return database


def commits(database: sqlite3.Connection, number: int) -> None:
    for _ in range(number):
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO rows (body) VALUES (?)", (ROW,))
        database.execute("COMMIT")
