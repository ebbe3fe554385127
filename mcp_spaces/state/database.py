"""The database as the rooms see it: `write` runs a change in the one writer, `read` asks without waiting for it.

The writer is a thread of its own. Changes that arrive while a commit is under way are committed together
(group commit), each in a savepoint, so one that fails takes nothing else with it. A change has happened when
`write` returns: WAL with synchronous=FULL has it on the disk. While nothing waits and the disk is quick, brief
changes are made without the thread: to wake it and be woken takes longer than they do (decision 0015).
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mcp_spaces.errors import Busy, DiskFull, InvalidInput, SpacesError, WrongState
from mcp_spaces.state.chain import START, Anchor, Link, Sealer
from mcp_spaces.state.migrations import migrate

T = TypeVar("T")
Row = sqlite3.Row

BUSY_TIMEOUT_MS = 1000
GROUP_LIMIT = 64
QUICK_S = 0.001
"""What a commit takes at most, on average, where brief ones are made in the event loop: not longer than it stands still
for one large message."""
RECENT = 8
"""Commits that the average is over, the last ones counting most. One stall of 8 ms and they go to the thread again."""
ANCHOR_NAME = "audit.head"
UNDO_ONE = ("ROLLBACK TO change", "RELEASE change")
UNDO_ALL = ("ROLLBACK", "BEGIN IMMEDIATE")
RECORDING = ("INSERT INTO runs ", "UPDATE runs ", "INSERT INTO events ")
"""How the statements begin that every call makes and that change nothing which a later call goes by."""

log = logging.getLogger(__name__)


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


Made = tuple["_Change", Any, BaseException | None]
"""A change with its result, or with what went wrong."""


@dataclass(slots=True)
class _Change:
    """`function` is None for emptying the log, which happens between transactions."""

    function: Callable[[Transaction], Any] | None
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Database:
    """Open with `Database.open`, inside a running event loop; close with `close`."""

    def __init__(
        self,
        path: Path,
        *,
        sealer: Sealer,
        writer: sqlite3.Connection,
        reader: sqlite3.Connection,
        anchor: Anchor,
        head: Link,
    ) -> None:
        self.path = path
        self.sealer = sealer
        self.changes = 0
        """Counts the commits that may have changed anything but records, each before it is acknowledged."""
        self._writer = writer
        self._anchor = anchor
        self._reader = reader
        self._head = head
        self._changes: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self._waiting = 0
        """Changes that were given to the thread and are not acknowledged. Where there is none, it touches nothing."""
        self._typical_s = 2 * QUICK_S
        self._failed: str | None = None
        self._thread = threading.Thread(target=self._write_loop, name="sqlite-writer", daemon=True)
        self._thread.start()

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
        return cls(path, sealer=sealer, writer=writer, reader=reader, anchor=anchor, head=head)

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
        if self._failed is not None:
            raise WrongState(
                f"The database accepts no changes: {self._failed}.",
                hint="Mend the disk and restart the daemon; reading still works.",
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        submitted = _Change(change, future, loop)
        if brief and not self._waiting and self._typical_s < QUICK_S:
            for made in self._commit([submitted]):
                _settle(*made)
        else:
            self._give(submitted)
        return future

    async def empty_log(self) -> None:
        """Move the write-ahead log into the database and cut it to nothing, so that what was deleted is in no file.

        Nothing is lost where a reader is in the way: the log is emptied another time.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._give(_Change(None, future, loop))
        await asyncio.shield(future)

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
        self._changes.put(None)
        self._thread.join()
        try:
            self._anchor.sync()
        except OSError as error:
            log.error("the audit anchor could not be synced: %s", error.strerror)
        self._anchor.close()
        self._reader.close()
        self._writer.close()

    def _give(self, change: _Change) -> None:
        self._waiting += 1
        self._changes.put(change)

    def _acknowledge(self, made: list[Made]) -> None:
        """From the thread. The last thing that it does with a group of changes."""

        def settle() -> None:
            self._waiting -= len(made)
            for each in made:
                _settle(*each)

        made[0][0].loop.call_soon_threadsafe(settle)

    def _write_loop(self) -> None:
        while True:
            first = self._changes.get()
            if first is None:
                return
            if first.function is None:
                self._empty_log(first)
                continue
            group, closing, emptying = [first], False, None
            while len(group) < GROUP_LIMIT:
                try:
                    more = self._changes.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    closing = True
                    break
                if more.function is None:
                    emptying = more
                    break
                group.append(more)
            self._acknowledge(self._commit(group))
            if emptying is not None:
                self._empty_log(emptying)
            if closing:
                return

    def _empty_log(self, asked: _Change) -> None:
        problem = None
        try:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            problem = translate(error)
        self._acknowledge([(asked, None, problem)])

    def _commit(self, group: list[_Change]) -> list[Made]:
        started = time.perf_counter()
        try:
            return self._committed(group)
        finally:
            self._typical_s += (time.perf_counter() - started - self._typical_s) / RECENT

    def _committed(self, group: list[_Change]) -> list[Made]:
        transaction = Transaction(self._writer, self.sealer, self._head)
        made: list[Made] = []
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for change in group:
                made.append((change, *self._attempt(transaction, change, alone=len(group) == 1)))
            self._writer.execute("COMMIT")
            self.changes += not transaction.only_records
        except Exception as error:  # noqa: BLE001 - see below
            # Whatever happened, nobody in this group may believe that their change is on the disk.
            self._undo_all(error)
            # To each its own: who is told completes it with what only concerns them.
            return [(change, None, translate(error) if isinstance(error, sqlite3.Error) else error) for change in group]
        self._head = transaction.head
        self._anchor_head()
        return made

    def _anchor_head(self) -> None:
        try:
            self._anchor.write(self._head)
        except OSError as error:
            # This change is on the disk; without an anchor nobody would see it cut off again.
            self._stop_accepting(f"the audit anchor cannot be written ({error.strerror})")

    def _attempt(self, transaction: Transaction, change: _Change, *, alone: bool) -> tuple[Any, BaseException | None]:
        """The change in its own savepoint; one that is `alone` has the transaction for itself and needs none.

        Re-raises only what ended the whole transaction.
        """
        assert change.function is not None  # noqa: S101 - the loop sorts those out
        head = transaction.head
        if not alone:
            self._writer.execute("SAVEPOINT change")
        try:
            result = change.function(transaction)
        except Exception as error:
            if not self._writer.in_transaction:
                raise
            for statement in UNDO_ALL if alone else UNDO_ONE:
                self._writer.execute(statement)
            transaction.head = head
            return None, translate(error) if isinstance(error, sqlite3.Error | UnicodeEncodeError) else error
        if not alone:
            self._writer.execute("RELEASE change")
        return result, None

    def _undo_all(self, error: Exception) -> None:
        # After a failed fsync the kernel may have dropped the pages: what a later commit says cannot be trusted.
        distrusted = error if _error_name(error).startswith("SQLITE_IOERR") else None
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error as left_open:
            # The thread lives on, to refuse: a change after this one would be part of the same transaction.
            distrusted = left_open
        if distrusted is not None:
            self._stop_accepting(str(distrusted))

    def _stop_accepting(self, reason: str) -> None:
        self._failed = reason
        log.critical("the database stopped accepting changes: %s", reason)


def _settle(change: _Change, result: object, problem: BaseException | None) -> None:
    if change.future.cancelled():
        return
    if problem is None:
        change.future.set_result(result)
    else:
        change.future.set_exception(problem)


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


def _error_name(error: Exception) -> str:
    return getattr(error, "sqlite_errorname", "") or ""


def translate(error: sqlite3.Error | UnicodeEncodeError) -> SpacesError:
    """The one place where sqlite3's errors become ours."""
    if isinstance(error, UnicodeEncodeError):
        return InvalidInput("A text holds half a character (a lone surrogate).", hint="Send valid Unicode.")
    name = _error_name(error)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Busy("The database is locked by another program.", hint="Try again; close other users of the file.")
    if name.startswith("SQLITE_FULL"):
        return DiskFull("The disk is full: nothing was done.", hint="Free space on the state disk, then repeat.")
    if name.startswith("SQLITE_CONSTRAINT"):
        from mcp_spaces.errors import Conflict

        return Conflict("Something with this name is there already.", hint="Choose another name.")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return WrongState(
            f"The database is damaged: {name}.", hint="Put a backup in its place: docs/operations.md says how."
        )
    return WrongState(
        f"The database refused: {name or type(error).__name__}.",
        hint="The daemon's log says more; `mcp-spaces audit verify` finds what was altered.",
    )
