"""The file of one blob: written under a name that says nothing, taken over, read. Where it then lies is `blobs.py`."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from anyio.to_thread import run_sync

from mcp_spaces.errors import QuotaExceeded, SpacesError, WrongState
from mcp_spaces.state.disk import translated
from mcp_spaces.storage.port import CHUNK_BYTES, Blob

_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class FileBlobWriter:
    """Implements `BlobWriter`; gathers small chunks, so that a thread is asked once for each CHUNK_BYTES."""

    def __init__(self, path: Path, *, limit_bytes: int, place: Callable[[Blob], Awaitable[None]]) -> None:
        """Writes to `path`, which is not there yet; `place` takes the whole file from there."""
        self.blob: Blob | None = None
        self.path = path
        self._limit_bytes = limit_bytes
        self._place = place
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._pending = bytearray()
        self._descriptor: int | None = None

    async def write(self, chunk: bytes) -> None:
        self._size_bytes += len(chunk)
        if self._size_bytes > self._limit_bytes:
            raise _too_large(self._limit_bytes)
        self._pending += chunk
        if len(self._pending) >= CHUNK_BYTES:
            await run_sync(self._flush)

    async def finish(self) -> Blob:
        sha256 = await run_sync(self._finish)
        self.blob = blob = Blob(sha256, self._size_bytes)
        await self._place(blob)
        return blob

    def close(self) -> None:
        """Removes what was not finished."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        with translated():
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o600)
            self._hash.update(self._pending)
            view = memoryview(self._pending)
            while view:
                view = view[os.write(self._descriptor, view) :]
            view.release()
        self._pending = bytearray()

    def _finish(self) -> str:
        self._flush()
        assert self._descriptor is not None  # noqa: S101 - _flush opened it
        with translated():
            os.fsync(self._descriptor)
        return self._hash.hexdigest()


class FileBlobReader:
    """Implements `BlobReader`."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._descriptor = descriptor
        self._open = True

    async def read(self, offset: int, limit: int) -> bytes:
        return await run_sync(os.pread, self._descriptor, limit, offset)

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            offset = 0
            while chunk := await self.read(offset, CHUNK_BYTES):
                offset += len(chunk)
                yield chunk
        finally:
            self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._descriptor)

    def __del__(self) -> None:
        # An answer that was given up before its first chunk.
        self.close()

    def __enter__(self) -> FileBlobReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def described(path: Path, limit_bytes: int) -> Blob:
    """Hash and sync a file that is about to be taken over. Blocks."""
    with translated():
        descriptor = os.open(path, os.O_RDONLY | _OPEN)
        try:
            size_bytes = _regular(descriptor).st_size
            if size_bytes > limit_bytes:
                raise _too_large(limit_bytes)
            digest, read = hashlib.sha256(), 0
            while chunk := os.pread(descriptor, CHUNK_BYTES, read):
                digest.update(chunk)
                read += len(chunk)
            if read != size_bytes:
                raise WrongState("The file changed while it was taken over.", hint="Close it before.")
            os.fchmod(descriptor, 0o600)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return Blob(digest.hexdigest(), size_bytes)


def opened(path: Path) -> FileBlobReader:
    """Raises OSError, and WrongState for what is no plain file of ours."""
    descriptor = os.open(path, os.O_RDONLY | _OPEN)
    try:
        size_bytes = _regular(descriptor).st_size
    except SpacesError:
        os.close(descriptor)
        raise
    return FileBlobReader(descriptor, size_bytes)


def _regular(descriptor: int) -> os.stat_result:
    found = os.fstat(descriptor)
    # It has none where it was written anew, or removed, since it was opened.
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_uid != os.geteuid():
        raise WrongState("The stored content is not a plain file of ours.", hint="Restore the blobs from a backup.")
    return found


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _too_large(limit_bytes: int) -> QuotaExceeded:
    return QuotaExceeded(
        f"The content is larger than the {limit_bytes:,} bytes that are free here.",
        hint="Delete files (storage_delete), or store less.",
    )
