"""Content on the local disk: `<root>/<tree>/ab/abcdef…`, temporary files in `<root>/.incoming`.

Written under a random name, fsynced, renamed, the folder fsynced; only then does a row name it (threat K16). Folders
are 0700, files 0600, and no sandbox can write here (threat S05).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from anyio.to_thread import run_sync

from mcp_spaces.errors import Conflict, DiskFull, QuotaExceeded, SpacesError, WrongState
from mcp_spaces.state.backup import cannot_write
from mcp_spaces.storage.port import CHUNK_BYTES, Blob

_TREE = re.compile(r"(sp_[a-z2-7]{26}|shared\.[a-z0-9][a-z0-9._-]{0,62}|runs\.(sp_[a-z2-7]{26}|none))")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class FileBlobs:
    """Implements `Blobs`. One per state folder and process: pins live in memory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / ".incoming"
        self._pins: Counter[tuple[str, str]] = Counter()
        self._holds = 0
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)

    def spool(self) -> Path:
        return self._incoming / secrets.token_hex(16)

    @asynccontextmanager
    async def writer(self, tree: str, *, limit_bytes: int) -> AsyncIterator[FileBlobWriter]:
        writer = FileBlobWriter(self, _checked(_TREE, tree), self.spool(), limit_bytes)
        try:
            yield writer
        finally:
            writer.close()

    @asynccontextmanager
    async def adopted(self, tree: str, path: Path, *, limit_bytes: int) -> AsyncIterator[Blob]:
        _checked(_TREE, tree)
        blob = await run_sync(_describe, path, limit_bytes)
        with self.pinned(tree, blob.sha256):
            await run_sync(self._place, path, tree, blob.sha256)
            yield blob

    @contextmanager
    def pinned(self, tree: str, sha256: str) -> Iterator[None]:
        self._pin(tree, sha256)
        try:
            yield
        finally:
            self._unpin(tree, sha256)

    def open(self, tree: str, sha256: str) -> FileBlobReader:
        path = self._path(tree, sha256)
        try:
            descriptor = os.open(path, os.O_RDONLY | _OPEN)
        except OSError as error:
            raise _missing() from error
        try:
            size_bytes = _regular(descriptor).st_size
        except SpacesError:
            os.close(descriptor)
            raise
        return FileBlobReader(descriptor, size_bytes)

    def remove(self, tree: str, sha256: str) -> None:
        if self._holds == 0 and self._pins[tree, sha256] == 0:
            del self._pins[tree, sha256]
            self._path(tree, sha256).unlink(missing_ok=True)

    async def remove_tree(self, tree: str) -> None:
        path = self._root / _checked(_TREE, tree)
        if self._holds == 0:
            await run_sync(lambda: shutil.rmtree(path, ignore_errors=True))

    async def reconcile(self, live: Callable[[str], Collection[str]]) -> int:
        return await run_sync(self._reconcile, live)

    async def copy_to(self, target: Path) -> int:
        with self.holding():
            return await run_sync(self._copy_to, target)

    @contextmanager
    def holding(self) -> Iterator[None]:
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    def _path(self, tree: str, sha256: str) -> Path:
        return self._root / _checked(_TREE, tree) / _checked(_SHA256, sha256)[:2] / sha256

    def _pin(self, tree: str, sha256: str) -> None:
        self._pins[tree, sha256] += 1

    def _unpin(self, tree: str, sha256: str) -> None:
        self._pins[tree, sha256] -= 1
        if self._pins[tree, sha256] == 0:
            del self._pins[tree, sha256]

    def _place(self, source: Path, tree: str, sha256: str) -> None:
        """From its temporary name, already synced, to its own. Blocks."""
        target = self._path(tree, sha256)
        with _translated():
            folder = target.parent
            for parent in (folder.parent, folder):
                if not parent.is_dir():
                    parent.mkdir(mode=0o700, exist_ok=True)
                    _sync_folder(parent.parent)
            source.rename(target)
            _sync_folder(folder)

    def _reconcile(self, live: Callable[[str], Collection[str]]) -> int:
        removed = 0
        for left in self._incoming.iterdir():
            left.unlink()
            removed += 1
        for folder in self._root.iterdir():
            if _TREE.fullmatch(folder.name) is None:
                continue
            known = live(folder.name)
            for content in folder.glob("??/*"):
                if content.name not in known:
                    content.unlink()
                    removed += 1
            if not known:
                shutil.rmtree(folder, ignore_errors=True)
        return removed

    def _copy_to(self, target: Path) -> int:
        copied = 0
        try:
            target.mkdir(mode=0o700)
            for content in self._root.glob("*/??/*"):
                copy = target / content.relative_to(self._root)
                copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                shutil.copyfile(content, copy, follow_symlinks=False)
                copy.chmod(0o600)
                with copy.open("rb") as written:
                    os.fsync(written.fileno())
                copied += copy.stat().st_size
        except FileExistsError as error:
            raise Conflict(f"{target} exists already.", hint="Name a folder that does not exist yet.") from error
        except OSError as error:
            raise cannot_write(target, error) from error
        return copied


class FileBlobWriter:
    """Implements `BlobWriter`; gathers small chunks, so that a thread is asked once for each CHUNK_BYTES."""

    def __init__(self, blobs: FileBlobs, tree: str, path: Path, limit_bytes: int) -> None:
        self.blob: Blob | None = None
        self._blobs = blobs
        self._tree = tree
        self._path = path
        self._limit_bytes = limit_bytes
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
        self._blobs._pin(self._tree, sha256)
        await run_sync(self._blobs._place, self._path, self._tree, sha256)
        return blob

    def close(self) -> None:
        """Unpins, and removes what was not finished."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self.blob is not None:
            self._blobs._unpin(self._tree, self.blob.sha256)
        self._path.unlink(missing_ok=True)

    def _flush(self) -> None:
        with _translated():
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o600)
            self._hash.update(self._pending)
            view = memoryview(self._pending)
            while view:
                view = view[os.write(self._descriptor, view) :]
            view.release()
        self._pending = bytearray()

    def _finish(self) -> str:
        self._flush()
        assert self._descriptor is not None  # noqa: S101 - _flush opened it
        with _translated():
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


def _checked(grammar: re.Pattern[str], name: str) -> str:
    # A name that is not ours can only come from a damaged row.
    if grammar.fullmatch(name) is None:
        raise _missing()
    return name


def _describe(path: Path, limit_bytes: int) -> Blob:
    """Hash and sync a file that is about to be taken over. Blocks."""
    with _translated():
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


def _regular(descriptor: int) -> os.stat_result:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
        raise WrongState("The stored content is not a plain file of ours.", hint="Restore the blobs from a backup.")
    return found


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated() -> Iterator[None]:
    """The one place where the file system's errors become ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("The disk is full: nothing was kept.", hint="Free space on the state disk.") from error
        raise WrongState(
            f"The state folder cannot be written: {error.strerror}.", hint="The operator has to mend it."
        ) from error


def _too_large(limit_bytes: int) -> QuotaExceeded:
    return QuotaExceeded(
        f"The content is larger than the {limit_bytes:,} bytes that are free here.",
        hint="Delete files (storage_delete), or store less.",
    )


def _missing() -> WrongState:
    return WrongState("The stored content is missing.", hint="The operator restores the blobs from a backup.")
