"""One writer, group commits, and a chain whose head is anchored outside."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from mcp_spaces.errors import Busy, Conflict, SpacesError, WrongState
from mcp_spaces.state import writer
from mcp_spaces.state.chain import Anchor, Sealer
from mcp_spaces.state.database import ANCHOR_NAME, Database
from mcp_spaces.state.failures import translate
from mcp_spaces.state.transaction import Transaction

pytestmark = pytest.mark.anyio

SEALER = Sealer(b"k" * 32)
ROOT = Path(__file__).resolve().parents[2]


def setting(name: str, value: str) -> tuple[str, tuple[str, str]]:
    return "INSERT INTO settings (name, value) VALUES (?, ?)", (name, value)


async def test_a_change_is_there_for_readers_when_write_returns(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state.db", sealer=SEALER)
    await database.write(lambda tx: tx.execute(*setting("a", "1")))
    assert database.read("SELECT value FROM settings")[0]["value"] == "1"
    database.close()


@pytest.mark.parametrize("left", ["nothing of the kind", "half of it"])
async def test_a_damaged_database_is_answered_with_the_backup_and_not_with_a_command_that_needs_it(
    tmp_path: Path, left: str
) -> None:
    path = tmp_path / "state.db"
    Database.open(path, sealer=SEALER).close()
    path.write_bytes(b"garbage" if left == "nothing of the kind" else path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WrongState, match="damaged") as refused:
        Database.open(path, sealer=SEALER)
    assert "docs/operations.md" in refused.value.hint and "audit verify" not in refused.value.hint


async def test_a_database_that_could_not_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    Database.open(path, sealer=SEALER).close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WrongState) as refused:
        Database.open(path, sealer=SEALER)
    assert refused.value.hint
    assert not [file.path for file in psutil.Process().open_files() if Path(file.path).is_relative_to(tmp_path)]


class CannotRollBack(sqlite3.Connection):
    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "ROLLBACK":
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *parameters)


async def test_after_a_change_that_cannot_be_undone_every_other_is_refused_and_none_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=CannotRollBack))
    database = Database.open(tmp_path / "state.db", sealer=SEALER)

    def half(tx: Transaction) -> None:
        tx.execute(*setting("half", "1"))
        raise ValueError

    with anyio.fail_after(30):
        with pytest.raises((ValueError, SpacesError)):
            await database.write(half)
        with pytest.raises(WrongState, match="accepts no changes"):
            await database.write(lambda tx: tx.execute(*setting("after", "1")))
    assert database.read("SELECT * FROM settings") == []
    database.close()
    monkeypatch.undo()
    again = Database.open(tmp_path / "state.db", sealer=SEALER)
    assert again.read("SELECT * FROM settings") == []
    again.close()


async def test_the_database_is_strict_wal_and_full(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state.db", sealer=SEALER)
    pragmas = await database.write(
        lambda tx: [tx.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    )
    assert pragmas == ["wal", 2]
    loose = database.read(
        "SELECT name FROM pragma_table_list WHERE strict = 0 AND type = 'table' AND name NOT LIKE 'sqlite_%'"
        " AND name NOT LIKE '_sqlite_migrations'"
    )
    assert [row["name"] for row in loose] == []
    database.close()


async def test_a_failing_change_takes_nothing_else_of_its_group_with_it(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state.db", sealer=SEALER)
    await database.write(lambda tx: tx.execute(*setting("taken", "0")))
    failed: list[str] = []

    async def one(number: int) -> None:
        name = "taken" if number % 2 else f"n{number}"

        def change(tx: Transaction) -> None:
            tx.append_audit(at=0.0, kind="intent", run_id=str(number), body="{}")
            tx.execute(*setting(name, "1"))

        try:
            await database.write(change)
        except Conflict:
            failed.append(name)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(one, number)
    assert len(failed) == 10
    assert database.read("SELECT count(*) AS n FROM settings")[0]["n"] == 11
    rows = database.read("SELECT seq FROM audit ORDER BY seq")
    assert [row["seq"] for row in rows] == list(range(1, 11))
    database.close()


async def test_the_anchor_follows_the_chain(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state.db", sealer=SEALER)
    link = await database.write(lambda tx: tx.append_audit(at=1.0, kind="intent", run_id="r", body="{}"))
    assert Anchor.read(tmp_path / ANCHOR_NAME) == link
    database.close()
    again = Database.open(tmp_path / "state.db", sealer=SEALER)
    second = await again.write(lambda tx: tx.append_audit(at=2.0, kind="outcome", run_id="r", body="{}"))
    assert second.seq == 2
    again.close()


async def test_k08_a_locked_database_is_busy_and_nothing_is_lost(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state.db", sealer=SEALER)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with anyio.fail_after(10), pytest.raises(Busy) as caught:
        await database.write(lambda tx: tx.execute(*setting("a", "1")))
    assert caught.value.retryable
    other.execute("ROLLBACK")
    other.close()
    await database.write(lambda tx: tx.execute(*setting("a", "1")))
    database.close()


async def test_changes_that_fail_together_are_each_told_on_their_own(tmp_path: Path) -> None:
    """Callers complete what they are told, with their run's id for one; one error for all would mix them up."""
    database = Database.open(tmp_path / "state.db", sealer=SEALER)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    futures = [database.submit(lambda tx: tx.execute(*setting("a", "1"))) for _ in range(8)]
    with anyio.fail_after(30):
        told = await asyncio.gather(*futures, return_exceptions=True)
    assert all(isinstance(error, Busy) for error in told)
    assert len({id(error) for error in told}) == len(futures)
    other.close()
    database.close()


def test_t10_every_transaction_that_writes_begins_as_a_writer() -> None:
    """One that reads first and writes later would be refused in between, or see what is over."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "mcp_spaces").rglob("*.py"):
        if begun := re.findall(r"""["'](BEGIN\b[^"']*)""", path.read_text("utf-8")):
            found[str(path.relative_to(ROOT))] = set(begun)
    # The audit's is a snapshot of a connection that cannot write.
    assert found == {"mcp_spaces/state/writer.py": {"BEGIN IMMEDIATE"}, "mcp_spaces/runs/audit.py": {"BEGIN"}}
    assert "?mode=ro" in (ROOT / "mcp_spaces/runs/audit.py").read_text("utf-8")


async def test_a_cancelled_writer_still_gets_its_change(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state.db", sealer=SEALER)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await database.write(lambda tx: tx.execute(*setting("a", "1")))
    await database.write(lambda tx: tx.execute(*setting("b", "1")))
    assert [row["name"] for row in database.read("SELECT name FROM settings ORDER BY name")] == ["a", "b"]
    database.close()


@pytest.mark.parametrize(
    "kind", [one for one in vars(sqlite3).values() if isinstance(one, type) and issubclass(one, sqlite3.Error)]
)
def test_every_error_of_sqlite_becomes_one_of_ours(kind: type[sqlite3.Error]) -> None:
    ours = translate(kind("some text with a secret"))
    assert isinstance(ours, SpacesError)
    assert "secret" not in ours.message
    assert ours.hint


async def test_a_brief_change_is_made_at_once_while_the_disk_is_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUICK_S", 60.0)
    database = Database.open(tmp_path / "state.db", sealer=SEALER)
    await fall_quick(database)
    made = database.submit(lambda tx: tx.append_audit(at=1.0, kind="intent", run_id="r", body="{}"), brief=True)
    assert made.done()
    assert Anchor.read(tmp_path / ANCHOR_NAME) == made.result()
    failed = database.submit(lambda tx: tx.execute("INSERT INTO settings (name) VALUES ('a')"), brief=True)
    with pytest.raises(Conflict):
        failed.result()
    later = await database.write(lambda tx: tx.append_audit(at=2.0, kind="outcome", run_id="r", body="{}"))
    assert later.seq == made.result().seq + 1
    database.close()


async def test_a_brief_change_waits_for_those_that_were_submitted_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUICK_S", 60.0)
    database = Database.open(tmp_path / "state.db", sealer=SEALER)
    await fall_quick(database)
    first = database.submit(lambda tx: tx.append_audit(at=1.0, kind="intent", run_id="first", body="{}"))
    second = database.submit(lambda tx: tx.append_audit(at=1.0, kind="intent", run_id="second", body="{}"), brief=True)
    assert not second.done()
    assert (await second).seq == (await first).seq + 1
    database.close()


async def test_after_a_stall_of_the_disk_brief_changes_are_the_writers_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUICK_S", 0.05)
    database = Database.open(tmp_path / "state.db", sealer=SEALER)
    await fall_quick(database)
    await database.write(lambda _tx: time.sleep(1.0))
    after = database.submit(lambda tx: tx.execute(*setting("a", "1")), brief=True)
    assert not after.done()
    await after
    assert len(database.read("SELECT value FROM settings")) == 1
    database.close()


async def fall_quick(database: Database) -> None:
    """Commit until brief changes are made at once."""
    for _ in range(1_000):
        made = database.submit(lambda _tx: None, brief=True)
        if made.done():
            return
        await made
    raise AssertionError("brief changes never were made at once")
