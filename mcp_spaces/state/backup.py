"""A consistent copy of the database while it is in use, and what belongs to it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from mcp_spaces.errors import Conflict, WrongState
from mcp_spaces.state.database import Database, translate


def backup(database: Database, target: Path) -> int:
    """Copy the database to `target` (a new file, 0600) with SQLite's online backup; returns its size in bytes.

    Appears whole or not at all. Raises Conflict when the target exists, WrongState when the copy is not sound.
    Blocks: call it in a worker thread.
    """
    if target.exists():
        raise Conflict(f"{target} exists already.", hint="Name a file that does not exist yet.")
    partial = target.with_name(target.name + ".partial")
    source = database.reader()
    try:
        # Created by us before SQLite opens it, so that it is never readable by others.
        os.close(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        copy = sqlite3.connect(partial)
        try:
            source.backup(copy)
            if copy.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
                raise WrongState("The copy is not sound.", hint="Run `mcp-spaces audit verify`.")
        finally:
            copy.close()
        descriptor = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
        os.fsync(descriptor)
        os.close(descriptor)
        partial.rename(target)
    except sqlite3.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise WrongState(f"Cannot write {target}: {error.strerror}.", hint="Choose a writable folder.") from error
    finally:
        source.close()
        partial.unlink(missing_ok=True)
    return target.stat().st_size
