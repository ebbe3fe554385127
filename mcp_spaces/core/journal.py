"""Run records, their events, and the audit rows: the intent before the effect, the outcome after it.

What cannot be recorded does not happen: `open` is committed before anything else, `close` before the answer. An outcome
for which there is no room is told as that, kept, and recorded ahead of the next intent.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.errors import Busy, DiskFull
from mcp_spaces.state.chain import Link
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Transaction

NO_ROOM = (DiskFull, Busy)
"""What passes: the same change may be made later."""
STRING_LIMIT = 1024
"""Characters of a text in a stored input or outcome; longer ones are kept as their size and hash."""
ITEM_LIMIT = 50
"""Members of a list in a stored input or outcome."""


class RunState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DENIED = "denied"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """The daemon died while it ran: the effect may or may not have happened."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened inside a run. `at` in seconds since 1970."""

    type: str
    at: float
    body: Mapping[str, object]


@dataclass(slots=True)
class Run:
    """One call under way. The pipeline fills in what it learns; nothing else writes here."""

    id: str
    operation: str
    principal_id: str
    parent_id: str | None
    started_at: float
    space_id: str | None = None
    runtime_id: str | None = None
    recorded: asyncio.Future[None] | None = None
    """Done when the intent is on the disk."""
    decision: Mapping[str, object] | None = None
    events: list[Event] = field(default_factory=list)
    """What happened inside; on the disk with the outcome."""
    redactions: Mapping[str, int] = field(default_factory=dict)
    """How often each secret was taken out of what this run answered, by name."""


class Journal:
    """Writes records. Reading them is the runs room's."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.on_closed: list[Callable[[str], None]] = []
        """Told the id of each run once its outcome is on the disk. Must not block or raise."""
        self._left: dict[str, Callable[[Transaction], Link]] = {}
        """By run: outcomes for which there was no room."""
        self._writing_left: asyncio.Future[None] | None = None

    def open(
        self, operation_id: str, *, principal_id: str, parent_id: str | None, space_id: str | None, arguments: object
    ) -> Run:
        """The intent, on its way to the disk. Nothing may be done before `run.recorded` has an answer, nor when that
        is DiskFull or Busy."""
        run = Run(new_id("run"), operation_id, principal_id, parent_id, self._clock.now(), space_id)
        stored_input = encode(shorten(arguments))
        intent = encode(
            {
                "operation": operation_id,
                "principal": principal_id,
                "parent": parent_id,
                "input_sha256": hashlib.sha256(stored_input.encode()).hexdigest(),
            }
        )

        def change(tx: Transaction) -> None:
            tx.execute(
                "INSERT INTO runs (id, parent_id, operation, principal_id, space_id, state, started_at, input)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run.id,
                    parent_id,
                    operation_id,
                    principal_id,
                    space_id,
                    RunState.RUNNING,
                    run.started_at,
                    stored_input,
                ),
            )
            tx.append_audit(at=run.started_at, kind="intent", run_id=run.id, body=intent)

        self._write_left()
        run.recorded = self._database.submit(change, brief=True)
        return run

    async def close(
        self,
        run: Run,
        state: RunState,
        *,
        outcome: object,
        error_code: str | None = None,
        also: Callable[[Transaction], None] | None = None,
    ) -> Link:
        """The outcome, on the disk, together with what `also` changes. Returns the chain's head with it.

        Raises DiskFull, Busy: both are made with the next `open` for which there is room.
        """
        ended_at = self._clock.now()
        stored_outcome = encode(shorten(outcome))
        decision = None if run.decision is None else encode(run.decision)
        body = encode(
            {
                "state": state,
                "error": error_code,
                "space": run.space_id,
                "runtime": run.runtime_id,
                "decision": run.decision,
                "outcome_sha256": hashlib.sha256(stored_outcome.encode()).hexdigest(),
                **({"redacted": run.redactions} if run.redactions else {}),
            }
        )

        def change(tx: Transaction) -> Link:
            if also is not None:
                also(tx)
            tx.execute(
                "UPDATE runs SET state = ?, ended_at = ?, outcome = ?, error_code = ?, decision = ?, space_id = ?,"
                " runtime_id = ? WHERE id = ?",
                (state, ended_at, stored_outcome, error_code, decision, run.space_id, run.runtime_id, run.id),
            )
            for event in run.events:
                _insert_event(tx, run.id, event)
            return tx.append_audit(at=ended_at, kind="outcome", run_id=run.id, body=body)

        try:
            link = await self._database.write(change, brief=True)
        except NO_ROOM:
            self._left[run.id] = change
            raise
        self._tell_closed(run.id)
        return link

    def _write_left(self) -> None:
        if not self._left or self._writing_left is not None:
            return
        left = dict(self._left)

        def change(tx: Transaction) -> None:
            for one in left.values():
                one(tx)

        def settled(written: asyncio.Future[None]) -> None:
            self._writing_left = None
            if written.cancelled() or isinstance(written.exception(), NO_ROOM):
                return
            for run_id in left:
                del self._left[run_id]
                if written.exception() is None:
                    self._tell_closed(run_id)

        self._writing_left = self._database.submit(change)
        self._writing_left.add_done_callback(settled)

    def _tell_closed(self, run_id: str) -> None:
        for told in self.on_closed:
            told(run_id)

    async def emit(self, run_id: str, event_type: str, body: Mapping[str, object]) -> int:
        """One more event of a run that is closed already, such as the end of a job; returns its cursor."""
        event = Event(event_type, self._clock.now(), body)
        return await self._database.write(lambda tx: _insert_event(tx, run_id, event))

    async def interrupt_open_runs(self) -> int:
        """At start: what was open when the last daemon died has an unknown outcome (threat K02)."""
        now = self._clock.now()

        def change(tx: Transaction) -> int:
            rows = tx.all("SELECT id FROM runs WHERE ended_at IS NULL")
            for row in rows:
                tx.execute(
                    "UPDATE runs SET state = ?, ended_at = ? WHERE id = ?", (RunState.INTERRUPTED, now, row["id"])
                )
                body = encode({"state": RunState.INTERRUPTED, "outcome": "unknown"})
                tx.append_audit(at=now, kind="outcome", run_id=row["id"], body=body)
            return len(rows)

        return await self._database.write(change)


def _insert_event(tx: Transaction, run_id: str, event: Event) -> int:
    cursor = tx.execute(
        "INSERT INTO events (run_id, at, type, body) VALUES (?, ?, ?, ?)",
        (run_id, event.at, event.type, encode(shorten(event.body))),
    )
    return cursor.lastrowid or 0


def encode(value: object) -> str:
    """Canonical JSON: sorted names, no spaces, ASCII only (so that a lone surrogate can be stored)."""
    return _ENCODER.encode(value)


# json.dumps would make one of these for every call.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str)


def shorten(value: object) -> object:
    """What is worth keeping of an input or outcome: long texts as size and hash, long lists cut."""
    if isinstance(value, str):
        if len(value) <= STRING_LIMIT:
            return value
        digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
        return {"characters": len(value), "sha256": digest, "start": value[:200]}
    if isinstance(value, Mapping):
        return {str(key)[:STRING_LIMIT]: shorten(item) for key, item in list(value.items())[:ITEM_LIMIT]}
    if isinstance(value, list | tuple):
        kept = [shorten(item) for item in value[:ITEM_LIMIT]]
        return kept if len(value) <= ITEM_LIMIT else [*kept, {"more": len(value) - ITEM_LIMIT}]
    return value
