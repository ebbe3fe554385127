"""A state directory is opened: its database, the key that seals it, and the id that it is known by."""

from __future__ import annotations

import logging
import os
import secrets
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mcp_spaces.app.state_files import DATABASE_NAME, KEY_NAME, refuse_other_kinds
from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.errors import WrongState
from mcp_spaces.runs.audit import Audit
from mcp_spaces.runs.rollback import refuse_rollback
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Transaction

log = logging.getLogger(__name__)

KEY_BYTES = 32


@asynccontextmanager
async def open_state(state_dir: Path, clock: Clock, *, accept_rollback: bool) -> AsyncIterator[Database]:
    """The database, once it is known to be the newest that there was. Raises as `open_app` says."""
    refuse_other_kinds(state_dir)
    database = Database.open(state_dir / DATABASE_NAME, sealer=Sealer(sealing_key(state_dir)))
    try:
        await refuse_rollback(database, clock, accepted=accept_rollback)
        report = await Audit.of(database).verify_tail()
        if not report.intact:
            log.critical("the audit log was changed outside of mcp-spaces: %s", report.meaning)
        yield database
    finally:
        database.close()


async def instance_id(database: Database) -> str:
    """The id of this state directory, made with it: containers of another one are never touched."""

    def change(tx: Transaction) -> str:
        tx.execute("INSERT OR IGNORE INTO settings (name, value) VALUES ('instance_id', ?)", (new_id("in"),))
        row = tx.one("SELECT value FROM settings WHERE name = 'instance_id'")
        return str(row["value"]) if row is not None else ""

    return await database.write(change)


def sealing_key(state_dir: Path) -> bytes:
    """The key for the audit chain and for rows that grant something: beside the database, 0600, made once.

    Raises WrongState when it is damaged, readable by others, somebody else's, cannot be written, or gone although there
    is a database.
    """
    path = state_dir / KEY_NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return _new_key(path)
    except OSError as error:
        raise WrongState(
            f"{path} cannot be read: {error.strerror}.", hint="It has to be a file of the daemon's user, and no link."
        ) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise WrongState(
                f"{path} is no plain file of this user.",
                hint="Put the file back that was there, or make it this user's.",
            )
        if found.st_mode & 0o077:
            raise WrongState(f"{path} can be read by others.", hint=f"Run: chmod 600 {path}")
        key = os.read(descriptor, KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(key) != KEY_BYTES:
        raise WrongState(f"{path} is damaged.", hint="Restore it from where you keep it apart from the backups.")
    return key


def _new_key(path: Path) -> bytes:
    if (path.parent / DATABASE_NAME).exists():
        raise WrongState(f"{path} is gone, so nothing in the database can be trusted.", hint="Restore the file.")
    key = secrets.token_bytes(KEY_BYTES)
    try:
        _write(path, key)
    except OSError as error:
        raise WrongState(f"{path} cannot be written: {error.strerror}.", hint="Free space, or mend the disk.") from None
    return key


def _write(path: Path, key: bytes) -> None:
    """Appears whole or not at all, and stays through a power cut: the database without it would be nobody's."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
