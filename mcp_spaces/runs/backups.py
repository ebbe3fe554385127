"""A copy of the database with the files that its rows name. It gets its name when it is whole, and not before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from mcp_spaces.errors import Conflict
from mcp_spaces.state.backup import cannot_write, copy_database
from mcp_spaces.state.database import Database
from mcp_spaces.storage.port import Blobs

PARTIAL = ".partial"
"""Behind the name of what is being written. Only a kill leaves it; the next backup of that name replaces it."""


@dataclass(frozen=True, slots=True)
class Backup:
    """`keep_as_well` says in words what is not in the copy and is needed to use it."""

    size_bytes: int
    files_path: Path | None
    files_bytes: int | None
    keep_as_well: tuple[str, ...]


async def _by_nothing() -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Backups:
    """`key_path` and `blobs_path` are only named, never read: a key beside its data by accident protects nothing.

    `master_key` says where the vault's key is, None where there is no vault; `locked_by` why it opens nothing.
    """

    database: Database
    blobs: Blobs
    key_path: Path
    blobs_path: Path
    master_key: Callable[[], str | None] = lambda: None
    locked_by: Callable[[], Awaitable[str | None]] = _by_nothing
    one_at_a_time: anyio.Lock = field(default_factory=anyio.Lock)

    async def make(self, target: Path, *, include_files: bool) -> Backup:
        """All of it appears under its names at the end, or none.

        Raises Conflict when something is there already, DiskFull, or WrongState when it cannot be written.
        """
        whole = [target]
        files_path = _behind(target, ".blobs") if include_files else None
        if files_path is not None:
            # Before the database: where that is, there is all of it.
            whole.insert(0, files_path)
        needed, files_bytes = self._needed(files_path), None
        async with self.one_at_a_time:
            _refuse_what_is_there(*whole)
            try:
                await run_sync(_remove, whole)
                # The rows first; nothing that they name may go before it is copied too.
                with self.blobs.holding():
                    size_bytes = await run_sync(copy_database, self.database, _behind(target, PARTIAL))
                    if files_path is not None:
                        files_bytes = await self.blobs.copy_to(_behind(files_path, PARTIAL))
                await run_sync(_name, whole)
            finally:
                with anyio.CancelScope(shield=True):
                    await run_sync(_remove, whole)
        return Backup(size_bytes, files_path, files_bytes, needed)

    def _needed(self, files_path: Path | None) -> tuple[str, ...]:
        needed = [f"{self.key_path}: the key that proves the records and grants; store it apart from the copy"]
        if vault := self.master_key():
            needed.append(f"{vault}: the vault's master key; without it the secrets in the copy are lost")
        if files_path is None:
            needed.append(f"{self.blobs_path}: the stored files and artifacts")
        return tuple(needed)


def _behind(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


def _refuse_what_is_there(*paths: Path) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise Conflict(f"{path} exists already.", hint="Name a file that does not exist yet.")


def _name(whole: list[Path]) -> None:
    """What is written gets its names, in this order, or none of them."""
    _refuse_what_is_there(*whole)
    named: list[Path] = []
    try:
        for path in whole:
            _behind(path, PARTIAL).rename(path)
            named.append(path)
        folder = os.open(whole[0].parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        for path in reversed(named):
            path.rename(_behind(path, PARTIAL))
        raise cannot_write(whole[-1], error) from error


def _remove(whole: list[Path]) -> None:
    """What goes by a partial name, also SQLite's journal of a copy that was killed. No error: writing has its own."""
    for path in whole:
        partial = _behind(path, PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        for one in (partial, _behind(partial, "-journal"), _behind(partial, "-wal"), _behind(partial, "-shm")):
            with suppress(OSError):
                one.unlink()
