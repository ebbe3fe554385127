"""The file system's errors below the state folder, translated once."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from mcp_spaces.errors import DiskFull, WrongState


@contextmanager
def translated() -> Iterator[None]:
    """Around the writing of a file that is removed when it fails. Raises DiskFull or WrongState for an OSError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("The disk is full: nothing was kept.", hint="Free space on the state disk.") from error
        raise WrongState(
            f"The state folder cannot be written: {error.strerror}.", hint="The operator has to mend it."
        ) from error
