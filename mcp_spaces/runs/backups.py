"""A copy of the database with the files that its rows name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anyio.to_thread import run_sync

from mcp_spaces.errors import Conflict
from mcp_spaces.state.backup import backup
from mcp_spaces.state.database import Database
from mcp_spaces.storage.port import Blobs


@dataclass(frozen=True, slots=True)
class Backup:
    """`keep_as_well` says in words what is not in the copy and is needed to use it."""

    size_bytes: int
    files_path: Path | None
    files_bytes: int | None
    keep_as_well: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Backups:
    """`key_path` and `blobs_path` are only named, never read: a key beside its data by accident protects nothing.

    `master_key` says where the vault's key is, None where there is no vault.
    """

    database: Database
    blobs: Blobs
    key_path: Path
    blobs_path: Path
    master_key: Callable[[], str | None] = lambda: None

    async def make(self, target: Path, *, include_files: bool) -> Backup:
        """Raises Conflict when something is there already, WrongState when it cannot be written."""
        files_path = target.with_name(target.name + ".blobs") if include_files else None
        if files_path is not None and files_path.exists():
            raise Conflict(f"{files_path} exists already.", hint="Name a file that does not exist yet.")
        files_bytes = None
        # The rows first; nothing that they name may go before it is copied too.
        with self.blobs.holding():
            size_bytes = await run_sync(backup, self.database, target)
            if files_path is not None:
                files_bytes = await self.blobs.copy_to(files_path)
        needed = [f"{self.key_path}: the key that proves the records and grants; store it apart from the copy"]
        if vault := self.master_key():
            needed.append(f"{vault}: the vault's master key; without it the secrets in the copy are lost")
        if files_path is None:
            needed.append(f"{self.blobs_path}: the stored files and artifacts")
        return Backup(size_bytes, files_path, files_bytes, tuple(needed))
