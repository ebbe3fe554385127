"""What runs on this machine."""

from __future__ import annotations

from pathlib import Path


def processes(marker: str) -> list[str]:
    """Those of this machine whose command line is exactly this."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b" ".join(words[:-1]).decode(errors="replace") == marker:
            found.append(path.parent.name)
    return found
