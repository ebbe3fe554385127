"""Content on the local disk: `<root>/<tree>/ab/abcdef…`, temporary files in `<root>/.incoming`.

Written under a random name, fsynced, renamed, the folder fsynced; only then does a row name it (threat K16). Folders
are 0700, files 0600, and no sandbox can write here (threat S05).
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from anyio.to_thread import run_sync

from mcp_spaces.errors import Conflict, WrongState
from mcp_spaces.state.backup import cannot_write
from mcp_spaces.state.disk import translated
from mcp_spaces.storage.blob_files import FileBlobReader, FileBlobWriter, described, opened, sync_folder
from mcp_spaces.storage.port import Blob

_TREE = re.compile(r"(sp_[a-z2-7]{26}|shared\.[a-z0-9][a-z0-9._-]{0,62}|runs\.(sp_[a-z2-7]{26}|none))")
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
        _checked(_TREE, tree)

        async def place(blob: Blob) -> None:
            self._pin(tree, blob.sha256)
            await run_sync(self._place, writer.path, tree, blob.sha256)

        writer = FileBlobWriter(self.spool(), limit_bytes=limit_bytes, place=place)
        try:
            yield writer
        finally:
            if writer.blob is not None:
                self._unpin(tree, writer.blob.sha256)
            writer.close()

    @asynccontextmanager
    async def adopted(self, tree: str, path: Path, *, limit_bytes: int) -> AsyncIterator[Blob]:
        _checked(_TREE, tree)
        blob = await run_sync(described, path, limit_bytes)
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
        try:
            return opened(self._path(tree, sha256))
        except OSError as error:
            raise _missing() from error

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
        with translated():
            folder = target.parent
            for parent in (folder.parent, folder):
                if not parent.is_dir():
                    parent.mkdir(mode=0o700, exist_ok=True)
                    sync_folder(parent.parent)
            source.rename(target)
            sync_folder(folder)

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


def _checked(grammar: re.Pattern[str], name: str) -> str:
    # A name that is not ours can only come from a damaged row.
    if grammar.fullmatch(name) is None:
        raise _missing()
    return name


def _missing() -> WrongState:
    return WrongState("The stored content is missing.", hint="The operator restores the blobs from a backup.")
