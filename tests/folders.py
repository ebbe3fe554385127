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


def content_of(path: Path) -> bytes:
    """Empty when it is gone."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
