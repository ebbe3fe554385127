"""The writer's thread: what waits in it is done before it ends, and the log is emptied in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Transaction

pytestmark = pytest.mark.anyio

SEALER = Sealer(b"k" * 32)
PATIENCE_S = 30


class Gate:
    """A change that holds the writer up until it is let go."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self, _tx: Transaction) -> bool:
        self.reached.set()
        return self.open.wait(PATIENCE_S)


def storing(name: str) -> Callable[[Transaction], object]:
    return lambda tx: tx.execute("INSERT INTO settings (name, value) VALUES (?, '1')", (name,))


def stored(database: Database) -> list[str]:
    return [row["name"] for row in database.read("SELECT name FROM settings ORDER BY name")]


async def held_up(database: Database, gate: Gate) -> None:
    """Until the writer's thread is at the gate."""
    database.submit(gate)
    with anyio.fail_after(PATIENCE_S):
        while not gate.reached.is_set():  # noqa: ASYNC110 - another thread is waited for
            await anyio.sleep(0.001)


async def waiting_in(database: Database, count: int) -> None:
    while database._writer._changes.qsize() < count:  # noqa: ASYNC110 - another thread is waited for
        await anyio.sleep(0.001)


async def test_the_log_is_emptied_once_what_waits_before_it_is_done(tmp_path: Path) -> None:
    database, gate = Database.open(tmp_path / "state.db", sealer=SEALER), Gate()
    await held_up(database, gate)
    waiting = [database.submit(storing(name)) for name in "ab"]
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(database.empty_log)
            await waiting_in(database, 3)
            gate.open.set()
    assert all(one.done() for one in waiting) and stored(database) == ["a", "b"]
    assert (tmp_path / "state.db-wal").stat().st_size == 0
    await database.write(storing("c"))
    assert stored(database) == ["a", "b", "c"]
    database.close()


async def test_what_was_submitted_before_the_end_is_on_the_disk(tmp_path: Path) -> None:
    database, gate = Database.open(tmp_path / "state.db", sealer=SEALER), Gate()
    await held_up(database, gate)
    for name in "abc":
        database.submit(storing(name))
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(anyio.to_thread.run_sync, database.close, abandon_on_cancel=True))
            await waiting_in(database, 4)
            gate.open.set()
    again = Database.open(tmp_path / "state.db", sealer=SEALER)
    assert stored(again) == ["a", "b", "c"]
    again.close()
