"""What the gateway recorded for one runtime, as `network.log` reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_spaces.core.ids import Clock
from mcp_spaces.core.journal import Journal
from mcp_spaces.network.budgets import Spent
from mcp_spaces.network.model import RuntimeRef
from mcp_spaces.network.records import RecordedLog, spent_since
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Transaction
from tests.network.test_access import launched
from tests.security.app import World, open_world

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


async def run_of(world: World) -> str:
    """The newest run there is."""
    return str(world.use(Database).read("SELECT id FROM runs ORDER BY seq DESC LIMIT 1")[0]["id"])


async def test_the_log_of_a_runtime_is_read_page_by_page_and_holds_no_other_s(world: World) -> None:
    runtime = await launched(world)
    other = await world.govern("sandbox.launch", space="net", alias="other")
    run = await run_of(world)
    log = RecordedLog(world.use(Journal), lambda _: run)
    for host in ("a.com", "b.com", "c.com"):
        await log.write(runtime, "network.allowed", {"host": host})
        await log.write(RuntimeRef(other.id, runtime.space_id, "other"), "network.refused", {"host": "other.com"})
    # Of another room, with the runtime's name in it.
    await world.use(Journal).emit(run, "job.started", {"runtime": runtime.id})
    first = await world.govern("network.log", space="net", runtime=runtime.alias, limit=2)
    assert [(line.run, line.type, line.body) for line in first.lines] == [
        (run, "network.allowed", {"host": "a.com"}),
        (run, "network.allowed", {"host": "b.com"}),
    ]
    assert first.next_cursor == first.lines[-1].cursor
    rest = await world.govern("network.log", space="net", runtime=runtime.alias, cursor=first.next_cursor, limit=1)
    # As many as were asked for, and no more.
    assert ([line.body for line in rest.lines], rest.next_cursor) == ([{"host": "c.com"}], None)
    last = rest.lines[-1].cursor
    again = await world.govern("network.log", space="net", runtime=runtime.alias, cursor=last)
    assert (again.lines, again.next_cursor) == ((), None)
    await log.write(runtime, "network.allowed", {"host": "d.com"})
    news = await world.govern("network.log", space="net", runtime=runtime.alias, cursor=last)
    assert [line.body for line in news.lines] == [{"host": "d.com"}]
    events = (await world.govern("run.get", run=run, events_limit=100)).events
    times = {one.cursor: one.at for one in events}
    assert [line.at for line in news.lines] == [times[line.cursor] for line in news.lines], "as runs tell it"


async def test_the_cost_of_a_runtime_s_log_does_not_grow_with_what_its_space_did(world: World) -> None:
    """Counted in steps of SQLite's machine: time is the machine's."""
    runtime = await launched(world)
    database, run = world.use(Database), await run_of(world)
    log = RecordedLog(world.use(Journal), lambda _: run)
    for _ in range(5):
        await log.write(runtime, "network.allowed", {"host": "a.com"})

    def much(tx: Transaction) -> None:
        for number in range(2_000):
            tx.execute(
                "INSERT INTO runs (id, operation, principal_id, space_id, state, started_at, input)"
                " VALUES (?, 'bulk', 'pr_one', ?, 'succeeded', 1.0, '{}')",
                (f"run_{number}", runtime.space_id),
            )
            tx.execute(
                "INSERT INTO events (run_id, at, type, body) VALUES (?, 1.0, 'network.allowed', ?)",
                (f"run_{number}", '{"runtime":"rt_other","host":"a.com"}'),
            )

    steps: list[int] = []
    for more in (False, True):
        if more:
            await database.write(much)
        counted = [0]

        def step(counted: list[int] = counted) -> None:
            counted[0] += 1

        database._reader.set_progress_handler(step, 1)
        found = await world.govern("network.log", space="net", runtime=runtime.alias)
        database._reader.set_progress_handler(None, 1)
        assert len(found.lines) == 5
        steps.append(counted[0])
    assert 0 < steps[1] < steps[0] * 1.2


async def test_n15_what_a_space_spent_today_is_what_the_records_of_today_say(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    async with open_world(tmp_path, clock=Clock(now=lambda: now[0])) as world:
        runtime = await launched(world)
        run, journal = await run_of(world), world.use(Journal)
        log = RecordedLog(journal, lambda _: run)
        for _ in range(2):
            now[0] += 86_400
            for kind in ("network.allowed", "network.refused", "network.secret"):
                await log.write(runtime, kind, {"host": "a.com"})
            await log.write(runtime, "network.closed", {"up_bytes": 5, "down_bytes": 7})
            await journal.emit(run, "job.ended", {"up_bytes": 100})
        database = world.use(Database)
        assert spent_since(database, now[0]) == {runtime.space_id: Spent(2, 5, 7)}
        assert spent_since(database, 0) == {runtime.space_id: Spent(4, 10, 14)}
