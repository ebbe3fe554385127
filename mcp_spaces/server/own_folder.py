"""A daemon whose state directory was deleted, moved or replaced has nothing to serve any more.

It would stay beside the one that is started in its place, with its containers, and write files by paths that are the
other's. So it looks now and then, and ends. The kernel's events (inotify) would tell it sooner, and not at all where
the folder lies on a network's file system; Python has none of them.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import anyio

LOOK_S = 5.0


def identity(path: Path) -> tuple[int, int] | None:
    """Which file stands there, whatever its name was before; None: none."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


async def until_taken_away(path: Path, ours: tuple[int, int] | None) -> None:
    """Return once another file than `ours` stands there, or none."""
    now = ours
    while now == ours:
        await anyio.sleep(LOOK_S)
        with suppress(OSError):  # a disk that cannot be read is no other folder
            now = identity(path)
