"""Where bytes lie, and what other rooms may ask of storage.

A *tree* is the folder of one namespace (or of one space's artifacts): equal content is kept once inside a tree and
never shared between two, so that nobody learns what others keep (threat S17). Trees are named by us: `sp_…` for a
space's own files, `shared.<name>`, `runs.<space>`. Nothing that a caller wrote is ever part of a real path.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mcp_spaces.core.context import Context
    from mcp_spaces.storage.model import FileView

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """Immutable content. `sha256` in lower-case hexadecimal is its name."""

    sha256: str
    size_bytes: int


class BlobWriter(Protocol):
    """Content on its way in. Nothing is visible before `finish`."""

    async def write(self, chunk: bytes) -> None:
        """Raises QuotaExceeded as soon as the limit is passed, DiskFull."""

    async def finish(self) -> Blob:
        """On return the content is on the disk under its hash, folder entry included. Call it once."""

    @property
    def blob(self) -> Blob | None:
        """What `finish` returned; None before."""


class BlobReader(Protocol):
    """An open blob. It stays readable when the blob is removed meanwhile. Close it."""

    size_bytes: int

    async def read(self, offset: int, limit: int) -> bytes:
        """At most `limit` bytes; empty past the end."""

    def chunks(self) -> AsyncIterator[bytes]:
        """All of it in pieces of CHUNK_BYTES; closes the reader at its end."""

    def close(self) -> None: ...

    def __enter__(self) -> BlobReader: ...

    def __exit__(self, *_: object) -> None: ...


class Blobs(Protocol):
    """Immutable content by tree and hash: files here, a bucket elsewhere.

    Whoever stores a row that names a blob does so while the blob is *pinned*; whoever removes the last row calls
    `remove` afterwards, which does nothing while it is pinned. A kill in between leaves a blob without a row, which
    `reconcile` removes, and never a row without its blob (threat K16).
    """

    def spool(self) -> Path:
        """A fresh path on the same disk for a temporary file (see runs.port.Artifacts.spool)."""

    def writer(self, tree: str, *, limit_bytes: int) -> AbstractAsyncContextManager[BlobWriter]:
        """What was finished stays pinned until the context ends; what was not leaves nothing."""

    def adopted(self, tree: str, path: Path, *, limit_bytes: int) -> AbstractAsyncContextManager[Blob]:
        """Take over a file made at `spool()`, pinned until the context ends. The path is gone on entry.

        Raises WrongState unless it is a regular file of ours with one name (threat S05), QuotaExceeded, DiskFull;
        then the file stays where it was.
        """

    def pinned(self, tree: str, sha256: str) -> AbstractContextManager[None]:
        """Keeps `remove` away from a blob that is about to get one more row."""

    def open(self, tree: str, sha256: str) -> BlobReader:
        """Raises WrongState when the content is missing: the disk was changed behind our back."""

    def remove(self, tree: str, sha256: str) -> None:
        """Unless pinned. Removing what is not there is no error. Does not wait: callable between two awaits."""

    async def remove_tree(self, tree: str) -> None:
        """All of a tree at once. Idempotent."""

    async def reconcile(self, live: Callable[[str], Collection[str]]) -> int:
        """At start, before anything is written: remove temporary files, and blobs whose hash is not in
        `live(tree)`. Returns how many went. `live` is called in a worker thread."""

    async def copy_to(self, target: Path) -> int:
        """For a backup: every blob, below a new folder `target` (0700). Nothing is removed meanwhile. Returns the
        bytes. Raises Conflict when the target exists, DiskFull, or WrongState when it cannot be written; what was
        written until then is the caller's to remove."""

    def holding(self) -> AbstractContextManager[None]:
        """Nothing is removed inside; what should have been goes at the next `reconcile`."""


class StorageUse(Protocol):
    """What spaces use of storage."""

    def stored_bytes(self, space_id: str) -> int:
        """What the space's own files use of `storage_bytes`."""


class StorageControl(Protocol):
    """How spaces act on their files."""

    async def delete_namespace(self, space_id: str) -> None:
        """The space's own files, links and artifacts go for good. Idempotent."""

    async def expire(self, now: float) -> float | None:
        """Remove what is over by `now`; returns when the next file or link will be."""


class SpaceFiles(Protocol):
    """Files of namespaces for other rooms, as far as the scope of the call reaches."""

    async def keep(
        self,
        context: Context,
        chunks: AsyncIterator[bytes],
        *,
        namespace: str,
        path: str,
        source: str,
        overwrite: bool = False,
    ) -> FileView:
        """All or nothing. Raises NotFound or Denied (outside the scope), Conflict (it exists), QuotaExceeded, DiskFull."""

    def open(self, context: Context, *, namespace: str, path: str) -> tuple[FileView, BlobReader]:
        """Close the reader. Raises NotFound."""
