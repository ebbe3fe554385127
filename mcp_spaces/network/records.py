"""The gateway's decisions as events of runs, and how they are read again for one runtime."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mcp_spaces.core.journal import Journal
from mcp_spaces.network.model import RuntimeRef
from mcp_spaces.state.database import Database

EVENT_TYPES = ("network.allowed", "network.refused", "network.closed", "network.secret")


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


def read_log(database: Database, runtime_id: str, *, space_id: str, after: int, limit: int) -> list[Recorded]:
    """Oldest first. Runs are found by their space, events by their run."""
    rows = database.read(
        "SELECT events.seq, events.at, events.run_id, events.type, events.body FROM runs"
        " JOIN events ON events.run_id = runs.id WHERE runs.space_id = ? AND events.seq > ?"
        " AND events.type IN (?, ?, ?, ?) AND json_extract(events.body, '$.runtime') = ?"
        " ORDER BY events.seq LIMIT ?",
        (space_id, after, *EVENT_TYPES, runtime_id, limit),
    )
    return [Recorded(row["seq"], row["at"], row["run_id"], row["type"], json.loads(row["body"])) for row in rows]
