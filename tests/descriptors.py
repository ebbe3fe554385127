"""The files and sockets that this process has open.

What earlier tests left is closed whenever the garbage collector finds it, which may be in the middle of another test.
So nothing is counted: what matters is what there was not before.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def open_here(kind: str = "") -> set[tuple[int, str]]:
    """Each with its number and what it leads to: `socket:[123]`, a path. Of one `kind` (`socket:`), or all."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        # The folder itself is among them while it is read, and gone then.
        with suppress(FileNotFoundError):
            found.add((int(link.name), str(link.readlink())))
    return {one for one in found if one[1].startswith(kind)}
