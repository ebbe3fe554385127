"""File rows: found, put, removed and expired, with the namespace's counters in the same transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio

from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import Conflict, NotFound, QuotaExceeded
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Row, Transaction
from mcp_spaces.storage.model import Description, StoredFile
from mcp_spaces.storage.names import is_within, skeleton
from mcp_spaces.storage.port import Blob, Blobs, BlobWriter

SHARED_BYTES_MAX = 10 << 30
"""A shared namespace: it belongs to no space, so no space's limit bounds it."""
FILES_MAX = 100_000
"""Files in one namespace."""
BATCH = 500
"""Rows in one transaction when many go, so that nobody else waits for long."""

_FILES = "SELECT namespace, path, blob, size_bytes, version, expires_at, body FROM files WHERE "


class FileStore:
    """Implements `StorageUse` and `StorageControl`. `on_deleted` is told of each space whose files went."""

    def __init__(self, database: Database, blobs: Blobs, clock: Clock) -> None:
        self.blobs = blobs
        self.on_deleted: list[Callable[[str], Awaitable[None]]] = []
        self._database = database
        self._clock = clock

    def owners(self) -> list[str]:
        """The ids of the spaces that ever kept a file of their own, deleted ones included."""
        return [row["name"] for row in self._database.read("SELECT name FROM namespaces WHERE name GLOB 'sp_*'")]

    def find(self, tree: str, path: str) -> StoredFile | None:
        """None also for a file that has expired."""
        row = self._database.read_one(_FILES + "namespace = ? AND path = ?", (tree, path))
        return None if row is None or self._is_over(row) else _file(row)

    def get(self, tree: str, path: str) -> StoredFile:
        file = self.find(tree, path)
        if file is None:
            raise no_such_file()
        return file

    def page(self, tree: str, *, prefix: str, after: str, limit: int) -> list[StoredFile]:
        """In the order of their paths' bytes: what is `prefix` or below it, and comes behind `after`."""
        sql = _FILES + "namespace = ? AND (expires_at IS NULL OR expires_at > ?) AND "
        order = " ORDER BY path LIMIT ?"
        now = self._clock.now()
        if prefix == "":
            rows = self._database.read(sql + "path > ?" + order, (tree, now, after, limit))
        else:
            # `0` is the character behind `/`.
            below = (tree, now, max(after, prefix + "/"), prefix + "0", limit)
            rows = self._database.read(sql + "path = ? AND path > ?" + order, (tree, now, prefix, after, limit))
            rows += self._database.read(sql + "path > ? AND path < ?" + order, below)
        return [_file(row) for row in rows[:limit]]

    def stored_bytes(self, tree: str) -> int:
        row = self._database.read_one("SELECT stored_bytes FROM namespaces WHERE name = ?", (tree,))
        return 0 if row is None else row["stored_bytes"]

    @asynccontextmanager
    async def incoming(self, tree: str, *, limit_bytes: int) -> AsyncIterator[BlobWriter]:
        """A writer for content that `put` is to name before the context ends; otherwise nothing is left of it."""
        finished: Blob | None = None
        try:
            async with self.blobs.writer(tree, limit_bytes=limit_bytes) as writer:
                try:
                    yield writer
                finally:
                    finished = writer.blob
        finally:
            if finished is not None:
                self._sweep(tree, finished.sha256)

    async def put(
        self,
        tree: str,
        path: str,
        blob: Blob,
        *,
        description: Description,
        limit_bytes: int,
        expires_at: float | None = None,
        overwrite: bool = False,
        if_version: int | None = None,
    ) -> StoredFile:
        """Name a blob that the caller holds pinned. `if_version` 0 means that there must be no such file yet.

        Raises Conflict (it exists, has another version, or its name looks like another's), QuotaExceeded.
        """
        now = self._clock.now()
        replaced: list[str] = []

        def change(tx: Transaction) -> StoredFile:
            old = _row(tx, tree, path)
            if old is not None and self._is_over(old):
                replaced.append(_drop(tx, old))
                old = None
            _check_version(old, overwrite=overwrite, if_version=if_version)
            key = skeleton(path)
            twin = _twin(tx, tree, path, key)
            if twin is not None and self._is_over(twin):
                replaced.append(_drop(tx, twin))
            elif twin is not None:
                raise _looks_alike(path, twin["path"])
            added = blob.size_bytes - (0 if old is None else old["size_bytes"])
            version = _count(tx, tree, added, 1 if old is None else 0, limit_bytes)
            created_at = now if old is None else _file(old).description.created_at
            file = StoredFile(
                tree=tree,
                path=path,
                sha256=blob.sha256,
                size_bytes=blob.size_bytes,
                version=version,
                expires_at=expires_at,
                description=description.model_copy(update={"created_at": created_at, "updated_at": now}),
            )
            if old is not None:
                replaced.append(old["blob"])
            tx.execute(
                "INSERT INTO files (namespace, path, skeleton, blob, size_bytes, version, expires_at, body)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (namespace, path) DO UPDATE SET blob = excluded.blob,"
                " size_bytes = excluded.size_bytes, version = excluded.version, expires_at = excluded.expires_at,"
                " body = excluded.body",
                (tree, path, key, blob.sha256, blob.size_bytes, version, expires_at,
                 file.description.model_dump_json()),
            )  # fmt: skip
            return file

        # The blob has to stay pinned until the change is settled, whoever is cancelled meanwhile.
        with anyio.CancelScope(shield=True):
            file = await self._database.write(change)
        for sha256 in replaced:
            self._sweep(tree, sha256)
        return file

    async def remove(self, tree: str, path: str, *, if_version: int | None = None) -> StoredFile:
        """Raises NotFound, or Conflict when it has another version."""

        def change(tx: Transaction) -> StoredFile:
            row = _row(tx, tree, path)
            if row is None or self._is_over(row):
                raise no_such_file()
            if if_version is not None:
                _check_version(row, overwrite=True, if_version=if_version)
            _drop(tx, row)
            return _file(row)

        with anyio.CancelScope(shield=True):
            file = await self._database.write(change)
        self._sweep(tree, file.sha256)
        return file

    async def delete_namespace(self, space_id: str) -> None:
        while await self._remove_rows("namespace = ?", (space_id,)):
            pass

        def forget(tx: Transaction) -> None:
            tx.execute("DELETE FROM links WHERE namespace = ?", (space_id,))
            tx.execute("DELETE FROM namespaces WHERE name = ?", (space_id,))

        await self._database.write(forget)
        await self.blobs.remove_tree(space_id)
        for told in self.on_deleted:
            await told(space_id)

    async def expire(self, now: float) -> float | None:
        while await self._remove_rows("expires_at <= ?", (now,)):
            pass
        await self._database.write(lambda tx: tx.execute("DELETE FROM links WHERE expires_at <= ?", (now,)))
        return self.next_expiry()

    def next_expiry(self) -> float | None:
        """Of files and links; None when nothing will."""
        row = self._database.read_one(
            "SELECT min(coalesce((SELECT min(expires_at) FROM files WHERE expires_at IS NOT NULL), 9e99),"
            " coalesce((SELECT min(expires_at) FROM links), 9e99)) AS at"
        )
        return None if row is None or row["at"] >= 9e99 else row["at"]

    def live(self, tree: str) -> set[str]:
        """The hashes that rows of a tree name, for `Blobs.reconcile`. Callable in any thread."""
        reader = self._database.reader()
        try:
            return {row["blob"] for row in reader.execute("SELECT blob FROM files WHERE namespace = ?", (tree,))}
        finally:
            reader.close()

    async def _remove_rows(self, where: str, parameters: Sequence[object]) -> int:
        sql = f"{_FILES}{where} LIMIT {BATCH}"

        def change(tx: Transaction) -> list[tuple[str, str]]:
            return [(row["namespace"], _drop(tx, row)) for row in tx.all(sql, parameters)]

        with anyio.CancelScope(shield=True):
            gone = await self._database.write(change)
        for tree, sha256 in gone:
            self._sweep(tree, sha256)
        return len(gone)

    def _sweep(self, tree: str, sha256: str) -> None:
        """Remove a blob that no row names. No await between the question and the removal: nothing can come between."""
        rows = self._database.read("SELECT 1 FROM files WHERE namespace = ? AND blob = ? LIMIT 1", (tree, sha256))
        if not rows:
            self.blobs.remove(tree, sha256)

    def _is_over(self, row: Row) -> bool:
        return row["expires_at"] is not None and row["expires_at"] <= self._clock.now()


def no_such_file() -> NotFound:
    return NotFound(
        "No such file in this namespace.",
        hint="storage_browse shows what there is; storage_collect stores a sandbox's file.",
    )


def _file(row: Row) -> StoredFile:
    return StoredFile(
        tree=row["namespace"],
        path=row["path"],
        sha256=row["blob"],
        size_bytes=row["size_bytes"],
        version=row["version"],
        expires_at=row["expires_at"],
        description=Description.model_validate_json(row["body"]),
    )


def _row(tx: Transaction, tree: str, path: str) -> Row | None:
    return tx.one(_FILES + "namespace = ? AND path = ?", (tree, path))


def _check_version(row: Row | None, *, overwrite: bool, if_version: int | None) -> None:
    present = 0 if row is None else row["version"]
    if if_version is not None:
        if present != if_version:
            raise Conflict(
                f"The file has version {present}, not {if_version}." if row else "There is no such file any more.",
                hint="Read it again, then write with if_version of what you read.",
            )
    elif row is not None and not overwrite:
        raise Conflict("The file exists already.", hint="Pass overwrite=true to replace it.")


def _twin(tx: Transaction, tree: str, path: str, key: str) -> Row | None:
    return tx.one(_FILES + "namespace = ? AND skeleton = ? AND path <> ?", (tree, key, path))


def _looks_alike(path: str, twin: str) -> Conflict:
    # A twin in a folder of another spelling may lie outside of what the caller may see.
    name = repr(twin) if is_within(twin, path.rpartition("/")[0]) else "another file"
    return Conflict(f"This name looks like {name}, which is there already.", hint="Choose another name.")


def _count(tx: Transaction, tree: str, added_bytes: int, added_files: int, limit_bytes: int) -> int:
    """Move the namespace's counters; returns the version of this change. Raises QuotaExceeded."""
    tx.execute("INSERT INTO namespaces (name) VALUES (?) ON CONFLICT DO NOTHING", (tree,))
    use = tx.one("SELECT stored_bytes, file_count, changes FROM namespaces WHERE name = ?", (tree,))
    assert use is not None  # noqa: S101 - inserted above
    stored, count = use["stored_bytes"] + added_bytes, use["file_count"] + added_files
    if stored > limit_bytes and added_bytes > 0:
        raise QuotaExceeded(
            f"The namespace would hold {stored:,} of {limit_bytes:,} bytes; it holds {use['stored_bytes']:,}.",
            hint="Delete files (storage_delete), or ask for a higher limits.storage_bytes.",
        )
    if count > FILES_MAX:
        raise QuotaExceeded(f"The namespace holds {FILES_MAX:,} files, which is the limit.", hint="Delete some.")
    tx.execute(
        "UPDATE namespaces SET stored_bytes = ?, file_count = ?, changes = changes + 1 WHERE name = ?",
        (stored, count, tree),
    )
    return int(use["changes"]) + 1


def _drop(tx: Transaction, row: Row) -> str:
    """Remove a row, move the counters, and say which blob it named."""
    tx.execute("DELETE FROM files WHERE namespace = ? AND path = ?", (row["namespace"], row["path"]))
    tx.execute(
        "UPDATE namespaces SET stored_bytes = stored_bytes - ?, file_count = file_count - 1, changes = changes + 1"
        " WHERE name = ?",
        (row["size_bytes"], row["namespace"]),
    )
    blob: str = row["blob"]
    return blob
