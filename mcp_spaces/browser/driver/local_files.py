"""A local browser's own folder, read and swept by the daemon: whatever Chromium put there leads nowhere else."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from anyio.to_thread import run_sync

from mcp_spaces.errors import NotFound

PIECE_BYTES = 1 << 20
TRIES = 3


async def read(folder: Path, path: PurePosixPath) -> AsyncIterator[bytes]:
    """Raises NotFound for what is no regular file of the folder itself; links are never followed."""
    descriptor = await run_sync(_opened, folder, path)
    try:
        while piece := await run_sync(os.read, descriptor, PIECE_BYTES):
            yield piece
    finally:
        os.close(descriptor)


async def remove(folder: Path, path: PurePosixPath) -> None:
    """Idempotent."""
    await run_sync(_remove, folder, path)


def _opened(folder: Path, path: PurePosixPath) -> int:
    try:
        parent = _parent(folder, path)
        try:
            descriptor = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        finally:
            os.close(parent)
    except OSError:
        raise NotFound("The browser has no such file.", hint="browser_downloads lists what there is.") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotFound("The browser has no such file.", hint="browser_downloads lists what there is.")
    return descriptor


def _remove(folder: Path, path: PurePosixPath) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        parent = _parent(folder, path)
        try:
            if stat.S_ISDIR(os.stat(path.name, dir_fd=parent, follow_symlinks=False).st_mode):
                # Chromium may be removing the same files, or still be adding one.
                for _ in range(TRIES):
                    shutil.rmtree(path.name, ignore_errors=True, dir_fd=parent)
            else:
                os.unlink(path.name, dir_fd=parent)
        finally:
            os.close(parent)


def _parent(folder: Path, path: PurePosixPath) -> int:
    """A descriptor of the folder that holds it, found without following a link. Raises OSError."""
    if path.is_absolute() or not path.name or ".." in path.parts:
        raise FileNotFoundError(str(path))
    found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    for part in path.parent.parts:
        try:
            deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=found)
        finally:
            os.close(found)
        found = deeper
    return found
