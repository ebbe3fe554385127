"""Looking through folders while others still write in them: what vanishes meanwhile is passed over."""

from __future__ import annotations

import os
from collections.abc import Iterator
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
