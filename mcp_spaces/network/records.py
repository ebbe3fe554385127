"""The gateway's decisions as events of runs, and how they are read again for one runtime."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mcp_spaces.core.journal import Journal
from mcp_spaces.network.budgets import Spent
from mcp_spaces.network.model import ALLOWED, CLOSED, REFUSED, USED, RuntimeRef
from mcp_spaces.state.database import Database


class RecordedLog:
    """`run_of` is the run that caused a connection: the only one at work in the runtime, else the one that launched
    it, since a sandbox's processes cannot be told apart from outside."""

    def __init__(self, journal: Journal, run_of: Callable[[RuntimeRef], str]) -> None:
        self._journal = journal
        self.run_of = run_of

    async def write(self, runtime: RuntimeRef, event_type: str, body: Mapping[str, object]) -> None:
        await self._journal.emit(self.run_of(runtime), event_type, {"runtime": runtime.id, **body})


@dataclass(frozen=True, slots=True)
class Recorded:
    cursor: int
    at: float
    run_id: str
    type: str
    body: dict[str, object]


def read_log(database: Database, runtime_id: str, *, after: int, limit: int) -> list[Recorded]:
    """Oldest first."""
    rows = database.read(
        "SELECT seq, at, run_id, type, body FROM events WHERE type GLOB 'network.*'"
        " AND CASE WHEN json_valid(body) THEN json_extract(body, '$.runtime') END = ? AND seq > ?"
        " AND type IN (?, ?, ?, ?) ORDER BY seq LIMIT ?",
        (runtime_id, after, ALLOWED, REFUSED, CLOSED, USED, limit),
    )
    return [Recorded(row["seq"], row["at"], row["run_id"], row["type"], json.loads(row["body"])) for row in rows]


def spent_since(database: Database, midnight: float) -> dict[str, Spent]:
    """By space, as recorded. What connections had passed that were open when a daemon was killed is not among it."""
    # Backwards from the newest event: as far as today's go, and no further.
    before = database.read_one("SELECT seq FROM events WHERE at < ? ORDER BY seq DESC LIMIT 1", (midnight,))
    rows = database.read(
        "SELECT runs.space_id AS space_id, sum(events.type <> ?) AS requests,"
        " coalesce(sum(json_extract(events.body, '$.up_bytes')), 0) AS up_bytes,"
        " coalesce(sum(json_extract(events.body, '$.down_bytes')), 0) AS down_bytes"
        " FROM events JOIN runs ON runs.id = events.run_id WHERE events.seq > ? AND runs.space_id IS NOT NULL"
        " AND events.type IN (?, ?, ?) GROUP BY runs.space_id",
        (CLOSED, 0 if before is None else before["seq"], ALLOWED, REFUSED, CLOSED),
    )
    return {row["space_id"]: Spent(row["requests"], row["up_bytes"], row["down_bytes"]) for row in rows}
