"""Looking through folders while others still write in them, passing over what vanishes; and disks that are full."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """In no order. `Path.rglob` would raise when a folder goes while it is being read."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_file():
                yield path


def content_of(path: Path, *, most_bytes: int | None = None) -> bytes:
    """Empty when it is gone, or holds more than that."""
    try:
        return b"" if most_bytes is not None and path.stat().st_size > most_bytes else path.read_bytes()
    except FileNotFoundError:
        return b""


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """What a full disk does to who writes; this process writes no larger file meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def small_disk(folder: Path, *, mib: int = 4) -> Iterator[Path]:
    """The folder, made here, is a file system of that size."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> Path:
    """To the last byte, with the file that is returned."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while file.write(b"x" * size):
                    pass
    return ballast
