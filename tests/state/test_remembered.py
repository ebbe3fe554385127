"""What is answered from memory is what the database would say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_spaces.core.ids import Clock
from mcp_spaces.core.journal import Journal, RunState
from mcp_spaces.errors import NotFound
from mcp_spaces.state import remembered
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.database import Database
from mcp_spaces.state.remembered import Remembered
from mcp_spaces.state.transaction import Transaction

pytestmark = pytest.mark.anyio


class Settings:
    """A table, and how often it was asked."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.asked = 0
        self.value = Remembered(database, self._value)

    def _value(self, name: str) -> str:
        self.asked += 1
        row = self.database.read_one("SELECT value FROM settings WHERE name = ?", (name,))
        if row is None:
            raise NotFound("No such setting.", hint="Set it.")
        return str(row["value"])

    async def set(self, name: str, value: str) -> None:
        await self.database.write(
            lambda tx: tx.execute(
                "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )
        )


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Settings]:
    database = Database.open(tmp_path / "state.db", sealer=Sealer(b"k" * 32))
    yield Settings(database)
    database.close()


async def test_it_asks_once_until_something_was_changed(settings: Settings) -> None:
    await settings.set("a", "1")
    assert [settings.value("a"), settings.value("a"), settings.asked] == ["1", "1", 1]
    await settings.set("a", "2")
    assert settings.value("a") == "2"


async def test_the_records_of_calls_change_nothing_that_is_remembered(settings: Settings) -> None:
    await settings.set("a", "1")
    settings.value("a")
    journal = Journal(settings.database, Clock())
    run = journal.open("space.get", principal_id="pr", parent_id=None, space_id=None, arguments={})
    await journal.close(run, RunState.SUCCEEDED, outcome={})
    await journal.emit(run.id, "job.ended", {})
    assert settings.value("a") == "1"
    assert settings.asked == 1


async def test_what_could_not_be_answered_is_asked_again(settings: Settings) -> None:
    for _ in range(2):
        with pytest.raises(NotFound):
            settings.value("a")
    assert settings.asked == 2


async def test_a_change_that_was_undone_may_be_forgotten_for_but_not_answered_with(settings: Settings) -> None:
    await settings.set("a", "1")
    settings.value("a")

    with pytest.raises(RuntimeError):
        await settings.database.write(undone)
    assert settings.value("a") == "1"


def undone(tx: Transaction) -> None:
    tx.execute("UPDATE settings SET value = '2'")
    raise RuntimeError


async def test_it_keeps_no_more_than_its_limit(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST", 3)
    for name in "abcd":
        await settings.set(name, name)
    for name in "abcda":
        assert settings.value(name) == name
    assert settings.asked == 5
