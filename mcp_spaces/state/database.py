"""The database as the rooms see it: `write` runs a change in the one writer, `read` asks without waiting for it.

A change has happened when `write` returns: WAL with synchronous=FULL has it on the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeVar

from mcp_spaces.state.chain import START, Anchor, Link, Sealer
from mcp_spaces.state.failures import translate
from mcp_spaces.state.migrations import migrate
from mcp_spaces.state.transaction import Row, Transaction
from mcp_spaces.state.writer import Writer

T = TypeVar("T")

BUSY_TIMEOUT_MS = 1000
ANCHOR_NAME = "audit.head"


class Database:
    """Open with `Database.open`, inside a running event loop; close with `close`."""

    def __init__(self, path: Path, *, sealer: Sealer, writer: Writer, reader: sqlite3.Connection) -> None:
        self.path = path
        self.sealer = sealer
        self._writer = writer
        self._reader = reader

    @classmethod
    def open(cls, path: Path, *, sealer: Sealer) -> Database:
        """Creates and migrates the database where needed. Raises Busy, DiskFull, or WrongState where it is damaged."""
        with ExitStack() as undone:
            try:
                writer = undone.enter_context(closing(_connect(path)))
                migrate(writer)
                reader = undone.enter_context(closing(_connect(path, read_only=True)))
                head = last_link(writer)
            except sqlite3.Error as error:
                raise translate(error) from error
            anchor = undone.enter_context(closing(Anchor(path.parent / ANCHOR_NAME)))
            if head == START and anchor.is_new:
                # On the disk before the first row is: after a power cut, an empty anchor beside rows tells of a cut tail.
                anchor.write(START)
                anchor.sync()
            undone.pop_all()
        return cls(path, sealer=sealer, writer=Writer(writer, sealer=sealer, anchor=anchor, head=head), reader=reader)

    @property
    def changes(self) -> int:
        """Counts the commits that may have changed anything but records, each before it is acknowledged."""
        return self._writer.changes

    async def write(self, change: Callable[[Transaction], T], *, brief: bool = False) -> T:
        """Run `change` in a transaction and return its result once it is on the disk.

        The change happens even when the caller is cancelled while it waits. An exception of `change` undoes it.
        Raises Busy, DiskFull, or WrongState after the disk failed to sync (then nothing more is accepted).
        """
        return await asyncio.shield(self.submit(change, brief=brief))

    def submit(self, change: Callable[[Transaction], T], *, brief: bool = False) -> asyncio.Future[T]:
        """`write`, to be waited for later: changes are made in the order in which they were submitted. `brief` says that
        the change touches a few rows, so that it may be made here and now.

        Wait for the future through `asyncio.shield`, so that a cancellation does not make it lose the answer.
        """
        return self._writer.submit(change, brief=brief)

    async def empty_log(self) -> None:
        """Move the write-ahead log into the database and cut it to nothing, so that what was deleted is in no file.

        Nothing is lost where a reader is in the way: the log is emptied another time.
        """
        await self._writer.empty_log()

    def read(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """For questions that an index answers; long ones belong in a thread with `reader`."""
        try:
            return self._reader.execute(sql, parameters).fetchall()
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise translate(error) from error

    def read_one(self, sql: str, parameters: Sequence[object] = ()) -> Row | None:
        rows = self.read(sql, parameters)
        return rows[0] if rows else None

    def reader(self) -> sqlite3.Connection:
        """A further read-only connection, for a worker thread. The caller closes it."""
        return _connect(self.path, read_only=True)

    def close(self) -> None:
        # The last connection to close empties the write-ahead log, which one that only reads cannot.
        self._reader.close()
        self._writer.close()


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    mode = "ro" if read_only else "rwc"
    connection = sqlite3.connect(
        f"file:{path}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_TIMEOUT_MS / 1000,
    )
    try:
        connection.row_factory = sqlite3.Row
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def last_link(connection: sqlite3.Connection) -> Link:
    row = connection.execute("SELECT seq, mac FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    return START if row is None else Link(seq=row["seq"], mac=row["mac"])
