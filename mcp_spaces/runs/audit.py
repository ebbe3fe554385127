"""Does the audit chain still say what was written? A walk over every row, and over the newest ones at each start.

What is found: an edited row or a removed one breaks the MACs behind it; rows in another order break their numbers; a
cut tail breaks with the anchor, which lies outside of the database (threat K12). An older copy of the database put
back looks like a cut tail, and is one (threat K13).
"""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Literal

from anyio.to_thread import run_sync

from mcp_spaces.core.answer import Answer
from mcp_spaces.state.chain import START, Anchor, Link, Sealer
from mcp_spaces.state.database import ANCHOR_NAME, Database

BATCH = 5_000
TAIL_ROWS = 1_000

Finding = Literal["edited", "missing", "cut", "anchor", "unpaired", "unreadable"]


class AuditReport(Answer):
    """`broken_seq` is the first row that is wrong, where there is one. `open_runs` have no outcome yet: calls under
    way now, or a daemon that died (its next start says `interrupted`)."""

    intact: bool
    rows: int
    head: str
    open_runs: int
    finding: Finding | None = None
    broken_seq: int | None = None
    meaning: str
    duration_s: float


class _Broken(Exception):
    def __init__(self, finding: Finding, seq: int | None, meaning: str) -> None:
        super().__init__(meaning)
        self.finding: Finding = finding
        self.seq = seq
        self.meaning = meaning


class Audit:
    """The chain of one database, whose anchor lies beside it."""

    def __init__(self, database_path: Path, sealer: Sealer) -> None:
        self._path = database_path
        self._sealer = sealer
        self._anchor_path = database_path.parent / ANCHOR_NAME

    @classmethod
    def of(cls, database: Database) -> Audit:
        return cls(database.path, database.sealer)

    async def verify(self) -> AuditReport:
        """The whole chain, in a worker thread, against one snapshot. Never raises for what it finds."""
        return await run_sync(self._verify, None)

    async def verify_tail(self, rows: int = TAIL_ROWS) -> AuditReport:
        """The newest `rows` rows and the anchor: what a start can afford.

        Before the first write after a start: the next commit moves the anchor, and with it the proof of a cut tail.
        """
        return await run_sync(self._verify, rows)

    def _verify(self, tail: int | None) -> AuditReport:
        started = perf_counter()
        walk = _Walk(self._sealer)
        broken: _Broken | None = None
        try:
            # Before the snapshot, so that the rows are never behind it unless some were removed.
            anchor = _read_anchor(self._anchor_path)
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as connection:
                connection.execute("BEGIN")
                walk.follow(connection, anchor=anchor, tail=tail)
        except _Broken as found:
            broken = found
        except (sqlite3.Error, TypeError, AttributeError, ValueError, OverflowError) as error:
            broken = _Broken("unreadable", walk.head.seq + 1, f"The database cannot be read: {type(error).__name__}.")
        return AuditReport(
            intact=broken is None,
            rows=walk.rows,
            head=walk.head.receipt,
            open_runs=len(walk.open_runs),
            finding=broken.finding if broken else None,
            broken_seq=broken.seq if broken else None,
            meaning=broken.meaning if broken else "Every row is as it was written, and none is missing.",
            duration_s=round(perf_counter() - started, 3),
        )


class _Walk:
    def __init__(self, sealer: Sealer) -> None:
        self.rows = 0
        self.head = START
        self.open_runs: set[str] = set()
        self._sealer = sealer

    def follow(self, connection: sqlite3.Connection, *, anchor: Link | None, tail: int | None) -> None:
        """Raises _Broken at the first row that is wrong."""
        whole = tail is None
        if tail is not None:
            self._begin_at(connection, tail)
            whole = self.head.seq == 0
        anchored = anchor is None
        if anchor is not None and anchor.seq <= self.head.seq:
            anchored = True
            self._check_old_anchor(connection, anchor)
        for seq, at, kind, run_id, body, mac in _batches(connection, self.head.seq):
            if seq != self.head.seq + 1:
                raise _Broken(
                    "missing", self.head.seq + 1, f"Row {self.head.seq + 1} is missing: it was removed or renumbered."
                )
            link = self._sealer.next_link(self.head, at=at, kind=kind, run_id=run_id, body=body)
            if not hmac.compare_digest(link.mac, mac):
                raise _Broken("edited", seq, f"Row {seq} is not what was written there: edited, moved or replaced.")
            self.head = link
            self.rows += 1
            self._pair(seq, kind, run_id, whole=whole)
            if anchor is not None and seq == anchor.seq:
                anchored = True
                if not hmac.compare_digest(mac, anchor.mac):
                    raise _Broken("anchor", seq, f"The anchor names another row {seq}: the chain was written anew.")
        if not anchored and anchor is not None:
            raise _Broken(
                "cut",
                self.head.seq + 1,
                f"The anchor stands at row {anchor.seq}, the chain ends at {self.head.seq}: its newest rows were"
                " removed, or an older copy of the database was put back.",
            )
        if anchor is None and self.head.seq > 0:
            raise _Broken("anchor", None, "The anchor file is missing or empty: a cut tail could not be seen.")

    def _begin_at(self, connection: sqlite3.Connection, tail: int) -> None:
        row = connection.execute("SELECT seq, mac FROM audit ORDER BY seq DESC LIMIT 1 OFFSET ?", (tail,)).fetchone()
        if row is not None:
            self.head = Link(seq=row[0], mac=bytes(row[1]))

    def _check_old_anchor(self, connection: sqlite3.Connection, anchor: Link) -> None:
        row = connection.execute("SELECT mac FROM audit WHERE seq = ?", (anchor.seq,)).fetchone()
        if anchor.seq > 0 and (row is None or not hmac.compare_digest(bytes(row[0]), anchor.mac)):
            raise _Broken("anchor", anchor.seq, f"The anchor names another row {anchor.seq}.")

    def _pair(self, seq: int, kind: str, run_id: str, *, whole: bool) -> None:
        if kind == "intent":
            self.open_runs.add(run_id)
        elif kind == "outcome":
            if run_id not in self.open_runs and whole:
                raise _Broken("unpaired", seq, f"Row {seq} is an outcome without an intent.")
            self.open_runs.discard(run_id)


def _batches(connection: sqlite3.Connection, after: int) -> Iterator[tuple[int, float, str, str, str, bytes]]:
    cursor = connection.execute(
        "SELECT seq, at, kind, run_id, body, mac FROM audit WHERE seq > ? ORDER BY seq", (after,)
    )
    while rows := cursor.fetchmany(BATCH):
        yield from rows


def _read_anchor(path: Path) -> Link | None:
    try:
        return Anchor.read(path)
    except (ValueError, OSError):
        raise _Broken("anchor", None, "The anchor file is damaged: a cut tail could not be seen.") from None
