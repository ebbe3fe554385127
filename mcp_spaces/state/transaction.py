"""What a change of the database may do: statements, and rows of the audit chain."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mcp_spaces.state.chain import Link, Sealer

Row = sqlite3.Row

RECORDING = ("INSERT INTO runs ", "UPDATE runs ", "INSERT INTO events ")
"""How the statements begin that every call makes and that change nothing which a later call goes by."""


class Transaction:
    """What a change may do. Lives only inside one call of `Database.write`."""

    def __init__(self, connection: sqlite3.Connection, sealer: Sealer, head: Link) -> None:
        self._connection = connection
        self._sealer = sealer
        self.head = head
        self.only_records = True

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        if self.only_records and not sql.startswith(RECORDING):
            self.only_records = False
        return self._connection.execute(sql, parameters)

    def one(self, sql: str, parameters: Sequence[object] = ()) -> Row | None:
        row: Row | None = self._connection.execute(sql, parameters).fetchone()
        return row

    def all(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        return self._connection.execute(sql, parameters).fetchall()

    def append_audit(self, *, at: float, kind: str, run_id: str, body: str) -> Link:
        """One more row of the chain. What is not in the chain did not happen."""
        link = self._sealer.next_link(self.head, at=at, kind=kind, run_id=run_id, body=body)
        self._connection.execute(
            "INSERT INTO audit (seq, at, kind, run_id, body, mac) VALUES (?, ?, ?, ?, ?, ?)",
            (link.seq, at, kind, run_id, body, link.mac),
        )
        self.head = link
        return link
