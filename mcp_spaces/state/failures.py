"""sqlite3's errors, translated once."""

from __future__ import annotations

import sqlite3

from mcp_spaces.errors import Busy, Conflict, DiskFull, InvalidInput, SpacesError, WrongState


def error_name(error: Exception) -> str:
    """As SQLite has it, `SQLITE_BUSY` for example; empty where it is none of SQLite's."""
    return getattr(error, "sqlite_errorname", "") or ""


def translate(error: sqlite3.Error | UnicodeEncodeError) -> SpacesError:
    if isinstance(error, UnicodeEncodeError):
        return InvalidInput("A text holds half a character (a lone surrogate).", hint="Send valid Unicode.")
    name = error_name(error)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Busy("The database is locked by another program.", hint="Try again; close other users of the file.")
    if name.startswith("SQLITE_FULL"):
        return DiskFull("The disk is full: nothing was done.", hint="Free space on the state disk, then repeat.")
    if name.startswith("SQLITE_CONSTRAINT"):
        return Conflict("Something with this name is there already.", hint="Choose another name.")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return WrongState(
            f"The database is damaged: {name}.", hint="Put a backup in its place: docs/operations.md says how."
        )
    return WrongState(
        f"The database refused: {name or type(error).__name__}.",
        hint="The daemon's log says more; `mcp-spaces audit verify` finds what was altered.",
    )
