"""Artifact rows. Their content lies in a tree of its own for each space, beside the space's files."""

from __future__ import annotations

from pathlib import Path

import anyio

from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.runs.model import Artifact
from mcp_spaces.runs.port import ARTIFACT_BYTES_MAX
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Row, Transaction
from mcp_spaces.storage.port import BlobReader, Blobs

NAME_CHARACTERS_MAX = 200
SPACE_BYTES_MAX = 2 << 30
"""All artifacts of one space. Above it the oldest go: they are by-products, and no call fails for want of room."""
BATCH = 100

_ARTIFACTS = "SELECT id, run_id, space_id, name, content_type, size_bytes, blob, created_at FROM artifacts WHERE "


class ArtifactStore:
    """Implements `Artifacts`."""

    def __init__(
        self, database: Database, blobs: Blobs, clock: Clock, *, space_bytes_max: int = SPACE_BYTES_MAX
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._space_bytes_max = space_bytes_max

    def spool(self) -> Path:
        return self._blobs.spool()

    async def keep(self, *, run_id: str, space_id: str, name: str, content_type: str, path: Path) -> Artifact:
        touched: list[str] = []
        try:
            # The row has to be settled while the blob is pinned, whoever is cancelled meanwhile.
            with anyio.CancelScope(shield=True):
                async with self._blobs.adopted(tree_of(space_id), path, limit_bytes=ARTIFACT_BYTES_MAX) as blob:
                    touched.append(blob.sha256)
                    artifact = Artifact(
                        id=new_id("art"),
                        run_id=run_id,
                        space_id=space_id,
                        name=plain_name(name),
                        content_type=content_type,
                        size_bytes=blob.size_bytes,
                        sha256=blob.sha256,
                        created_at=self._clock.now(),
                    )
                    touched += await self._database.write(lambda tx: self._add(tx, artifact))
        finally:
            for sha256 in touched:
                self._sweep(space_id, sha256)
        return artifact

    def get(self, artifact_id: str) -> Artifact | None:
        row = self._database.read_one(_ARTIFACTS + "id = ?", (artifact_id,))
        return None if row is None else _artifact(row)

    def of_run(self, run_id: str, *, limit: int = 100) -> list[Artifact]:
        rows = self._database.read(_ARTIFACTS + "run_id = ? ORDER BY rowid LIMIT ?", (run_id, limit))
        return [_artifact(row) for row in rows]

    def open(self, artifact: Artifact) -> BlobReader:
        """Raises WrongState when the content is missing."""
        return self._blobs.open(tree_of(artifact.space_id), artifact.sha256)

    async def delete_space(self, space_id: str) -> None:
        """What the space's runs produced goes for good; their records stay. Idempotent."""

        def change(tx: Transaction) -> int:
            tx.execute("DELETE FROM namespaces WHERE name = ?", (tree_of(space_id),))
            return tx.execute(
                "DELETE FROM artifacts WHERE rowid IN (SELECT rowid FROM artifacts WHERE space_id = ? LIMIT ?)",
                (space_id, BATCH),
            ).rowcount

        while await self._database.write(change) == BATCH:
            pass
        await self._blobs.remove_tree(tree_of(space_id))

    def live(self, tree: str) -> set[str]:
        """The hashes that rows of a tree name, for `Blobs.reconcile`. Callable in any thread."""
        space_id = tree.removeprefix("runs.").removeprefix("none") if tree.startswith("runs.") else None
        reader = self._database.reader()
        try:
            return {row["blob"] for row in reader.execute("SELECT blob FROM artifacts WHERE space_id = ?", (space_id,))}
        finally:
            reader.close()

    def _add(self, tx: Transaction, artifact: Artifact) -> list[str]:
        """Store a row and make room; returns the blobs of the rows that went."""
        tx.execute(
            "INSERT INTO artifacts (id, run_id, space_id, name, content_type, size_bytes, blob, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (artifact.id, artifact.run_id, artifact.space_id, artifact.name, artifact.content_type,
             artifact.size_bytes, artifact.sha256, artifact.created_at),
        )  # fmt: skip
        stored = self._count(tx, artifact.space_id, artifact.size_bytes, 1)
        gone: list[str] = []
        while stored > self._space_bytes_max:
            oldest = tx.one(
                _ARTIFACTS + "space_id = ? AND id <> ? ORDER BY rowid LIMIT 1", (artifact.space_id, artifact.id)
            )
            if oldest is None:
                break
            tx.execute("DELETE FROM artifacts WHERE id = ?", (oldest["id"],))
            stored = self._count(tx, artifact.space_id, -oldest["size_bytes"], -1)
            gone.append(oldest["blob"])
        return gone

    def _count(self, tx: Transaction, space_id: str, added_bytes: int, added_files: int) -> int:
        row = tx.one(
            "INSERT INTO namespaces (name, stored_bytes, file_count) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
            " SET stored_bytes = stored_bytes + excluded.stored_bytes, file_count = file_count + excluded.file_count"
            " RETURNING stored_bytes",
            (tree_of(space_id), added_bytes, added_files),
        )
        return 0 if row is None else int(row["stored_bytes"])

    def _sweep(self, space_id: str, sha256: str) -> None:
        rows = self._database.read(
            "SELECT 1 FROM artifacts WHERE space_id = ? AND blob = ? LIMIT 1", (space_id, sha256)
        )
        if not rows:
            self._blobs.remove(tree_of(space_id), sha256)


def tree_of(space_id: str) -> str:
    return f"runs.{space_id or 'none'}"


def plain_name(name: str) -> str:
    """What is shown to people: no escape sequence or line break gets through (threat S19)."""
    shown = "".join(char if char.isprintable() and char not in "/\\" else "_" for char in name)
    return shown[:NAME_CHARACTERS_MAX].strip() or "artifact"


def _artifact(row: Row) -> Artifact:
    return Artifact(
        id=row["id"],
        run_id=row["run_id"],
        space_id=row["space_id"],
        name=row["name"],
        content_type=row["content_type"],
        size_bytes=row["size_bytes"],
        sha256=row["blob"],
        created_at=row["created_at"],
    )
