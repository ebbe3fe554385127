"""A consistent copy of the database while it is in use."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from mcp_spaces.errors import DiskFull, SpacesError, WrongState
from mcp_spaces.state.database import Database
from mcp_spaces.state.failures import translate


def copy_database(database: Database, target: Path) -> int:
    """Copy the database to `target` (a new file, 0600) with SQLite's online backup; returns its size in bytes once it
    is on the disk. What an error or a kill leaves at `target` is the caller's to remove.

    Raises DiskFull, or WrongState when it cannot be written or is not sound. Blocks: call it in a worker thread.
    """
    source = database.reader()
    try:
        # Created by us before SQLite opens it, so that it is never readable by others.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        copy = sqlite3.connect(target)
        try:
            source.backup(copy)
            if copy.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
                raise WrongState("The copy is not sound.", hint="Run `mcp-spaces audit verify`.")
        finally:
            copy.close()
        descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return target.stat().st_size
    except sqlite3.Error as error:
        ours = translate(error)
        raise no_room(target) if isinstance(ours, DiskFull) else ours from error
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        source.close()


def cannot_write(target: Path, error: OSError) -> SpacesError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_room(target)
    return WrongState(f"Cannot write {target}: {error.strerror}.", hint="Choose a writable folder.")


def no_room(target: Path) -> DiskFull:
    return DiskFull(
        f"The disk of {target.parent} is full: there is no backup.", hint="Free space there, or choose another disk."
    )
