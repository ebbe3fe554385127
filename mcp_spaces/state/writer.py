"""The one writer, a thread of its own.

Changes that arrive while a commit is under way are committed together (group commit), each in a savepoint, so one that
fails takes nothing else with it. While nothing waits and the disk is quick, brief changes are made without the thread:
to wake it and be woken takes longer than they do (decision 0015).
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mcp_spaces.errors import WrongState
from mcp_spaces.state.chain import Anchor, Link, Sealer
from mcp_spaces.state.failures import error_name, translate
from mcp_spaces.state.transaction import Transaction

T = TypeVar("T")

GROUP_LIMIT = 64
QUICK_S = 0.001
"""What a commit takes at most, on average, where brief ones are made in the event loop: not longer than it stands still
for one large message."""
RECENT = 8
"""Commits that the average is over, the last ones counting most. One stall of 8 ms and they go to the thread again."""
UNDO_ONE = ("ROLLBACK TO change", "RELEASE change")
UNDO_ALL = ("ROLLBACK", "BEGIN IMMEDIATE")

log = logging.getLogger(__name__)

Made = tuple["_Change", Any, BaseException | None]
"""A change with its result, or with what went wrong."""


@dataclass(slots=True)
class _Change:
    """`function` is None for emptying the log, which happens between transactions."""

    function: Callable[[Transaction], Any] | None
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Writer:
    """Needs a running event loop. `connection` is its own from now on; `head` is the chain's."""

    def __init__(self, connection: sqlite3.Connection, *, sealer: Sealer, anchor: Anchor, head: Link) -> None:
        self.changes = 0
        """Counts the commits that may have changed anything but records, each before it is acknowledged."""
        self._connection = connection
        self._sealer = sealer
        self._anchor = anchor
        self._head = head
        self._changes: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self._waiting = 0
        """Changes that were given to the thread and are not acknowledged. Where there is none, it touches nothing."""
        self._typical_s = 2 * QUICK_S
        self._failed: str | None = None
        self._thread = threading.Thread(target=self._write_loop, name="sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, change: Callable[[Transaction], T], *, brief: bool = False) -> asyncio.Future[T]:
        """Changes are made in the order in which they were submitted. `brief` says that the change touches a few rows, so
        that it may be made here and now.

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

    def close(self) -> None:
        """Once what was submitted is made. Blocks."""
        self._changes.put(None)
        self._thread.join()
        try:
            self._anchor.sync()
        except OSError as error:
            log.error("the audit anchor could not be synced: %s", error.strerror)
        self._anchor.close()
        self._connection.close()

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
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
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
        transaction = Transaction(self._connection, self._sealer, self._head)
        made: list[Made] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for change in group:
                made.append((change, *self._attempt(transaction, change, alone=len(group) == 1)))
            self._connection.execute("COMMIT")
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
            self._connection.execute("SAVEPOINT change")
        try:
            result = change.function(transaction)
        except Exception as error:
            if not self._connection.in_transaction:
                raise
            for statement in UNDO_ALL if alone else UNDO_ONE:
                self._connection.execute(statement)
            transaction.head = head
            return None, translate(error) if isinstance(error, sqlite3.Error | UnicodeEncodeError) else error
        if not alone:
            self._connection.execute("RELEASE change")
        return result, None

    def _undo_all(self, error: Exception) -> None:
        # After a failed fsync the kernel may have dropped the pages: what a later commit says cannot be trusted.
        distrusted = error if error_name(error).startswith("SQLITE_IOERR") else None
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
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
