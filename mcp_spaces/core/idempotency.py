"""The same key and the same body give the same answer; the same key with another body is a conflict."""

from __future__ import annotations

from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import Busy, Conflict
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Transaction

LIFETIME_S = 24 * 3600
MAXIMUM_KEY_LENGTH = 200


class Idempotency:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def reserve(self, principal_id: str, key: str, *, fingerprint: str, run_id: str) -> str | None:
        """None when the call is to be made now; the stored output (JSON) when it was made before.

        Raises Conflict for another body, and for a first call whose outcome is unknown; Busy while it still runs.
        """
        now = self._clock.now()

        def change(tx: Transaction) -> str | None:
            tx.execute("DELETE FROM idempotency WHERE expires_at <= ?", (now,))
            row = tx.one(
                "SELECT fingerprint, run_id, output FROM idempotency WHERE principal_id = ? AND key = ?",
                (principal_id, key),
            )
            if row is None:
                tx.execute(
                    "INSERT INTO idempotency (principal_id, key, fingerprint, run_id, expires_at)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (principal_id, key, fingerprint, run_id, now + LIFETIME_S),
                )
                return None
            if row["fingerprint"] != fingerprint:
                raise Conflict("This idempotency key came with another body before.", hint="Use a new key.")
            if row["output"] is not None:
                output: str = row["output"]
                return output
            first = tx.one("SELECT ended_at FROM runs WHERE id = ?", (row["run_id"],))
            if first is not None and first["ended_at"] is None:
                raise Busy("The first call with this key is still running.", hint=f"Wait for {row['run_id']}.")
            raise Conflict(
                f"The outcome of the first call with this key is unknown ({row['run_id']}).",
                hint="Look at what it did, then use a new key.",
            )

        return await self._database.write(change)

    # Only of the run that took the key: one that ran for longer than LIFETIME_S may find it taken by another.

    @staticmethod
    def keep(tx: Transaction, principal_id: str, key: str, output: str, *, run_id: str) -> None:
        """With the closing of the run, so that both are on the disk or neither."""
        tx.execute(
            "UPDATE idempotency SET output = ? WHERE principal_id = ? AND key = ? AND run_id = ?",
            (output, principal_id, key, run_id),
        )

    @staticmethod
    def release(tx: Transaction, principal_id: str, key: str, *, run_id: str) -> None:
        """The call did nothing, so it may be made again."""
        tx.execute(
            "DELETE FROM idempotency WHERE principal_id = ? AND key = ? AND run_id = ? AND output IS NULL",
            (principal_id, key, run_id),
        )
