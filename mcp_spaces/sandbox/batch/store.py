"""Batches that wait for a person, on the disk: a repeat of the same call goes on where the batch stands.

A row is claimed by one repeat at a time. A claim whose run is no longer under way was interrupted with its daemon;
what it had begun is unknown, so it is told and given up, never redone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from mcp_spaces.core.approvals import LIFETIME_S
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.journal import encode
from mcp_spaces.sandbox.batch.events import Event
from mcp_spaces.state.database import Database, Transaction


class BatchRow(BaseModel):
    """`position` counts operations that are done; `events` are theirs. `claimed_by`: the run that goes on with it.
    `expires_at`: with the question that it waits for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    position: int
    events: tuple[Event, ...]
    claimed_by: str | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class NotPaused:
    """No such batch waits: it begins."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """This run goes on with it, and nobody else."""

    row: BatchRow


@dataclass(frozen=True, slots=True)
class Taken:
    """Another run goes on with it right now."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Its daemon died while it went on. The row is gone: the next repeat begins anew."""

    row: BatchRow
    run_id: str


Claim = NotPaused | Resumed | Taken | Interrupted


def batch_fingerprint(*, principal_id: str, runtime_id: str, operations: object, mode: str) -> str:
    return hashlib.sha256(encode([principal_id, runtime_id, operations, mode]).encode()).hexdigest()


class PausedBatches:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def claim(self, fingerprint: str, *, run_id: str) -> Claim:
        """In one transaction, so that of two repeats one goes on."""

        now = self._clock.now()

        def change(tx: Transaction) -> Claim:
            tx.execute("DELETE FROM batches WHERE body ->> 'claimed_by' IS NULL AND body ->> 'expires_at' <= ?", (now,))
            found = tx.one("SELECT body FROM batches WHERE fingerprint = ?", (fingerprint,))
            if found is None:
                return NotPaused()
            row = BatchRow.model_validate_json(found["body"])
            if row.claimed_by is None:
                claimed = row.model_copy(update={"claimed_by": run_id}).model_dump_json()
                tx.execute("UPDATE batches SET body = ? WHERE fingerprint = ?", (claimed, fingerprint))
                return Resumed(row)
            run = tx.one("SELECT ended_at FROM runs WHERE id = ?", (row.claimed_by,))
            if run is not None and run["ended_at"] is None:
                return Taken(row.claimed_by)
            tx.execute("DELETE FROM batches WHERE fingerprint = ?", (fingerprint,))
            return Interrupted(row, row.claimed_by)

        return await self._database.write(change)

    async def pause(self, fingerprint: str, *, run_id: str, space_id: str, row: BatchRow) -> None:
        """Keep it for the next repeat."""
        expires_at = self._clock.now() + LIFETIME_S
        body = row.model_copy(update={"claimed_by": None, "expires_at": expires_at}).model_dump_json()
        await self._database.write(
            lambda tx: tx.execute(
                "INSERT INTO batches (id, fingerprint, space_id, body) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (fingerprint) DO UPDATE SET body = excluded.body",
                (run_id, fingerprint, space_id, body),
            )
        )

    async def end(self, fingerprint: str) -> None:
        await self._database.write(lambda tx: tx.execute("DELETE FROM batches WHERE fingerprint = ?", (fingerprint,)))
