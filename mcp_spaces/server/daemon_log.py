"""The log of a daemon that a client started: stderr is a file then, which nobody else would ever make smaller."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

FILE_BYTES_MAX = 10 << 20
"""Beyond, a new file is begun."""
OLD_FILES = 2
"""daemon.log.1 and daemon.log.2, the older one."""
OUTPUTS = (1, 2)


class DaemonLog(logging.StreamHandler):  # type: ignore[type-arg] # it is no generic class when it runs
    """Writes to stderr. Where that is the file `path`, a new one is begun when it has grown, and the oldest goes.

    The descriptors behind stdout and stderr are exchanged, so that tracebacks and what later children write go to the
    new file, too. A client that starts a daemon opens the file by its name, to append.
    """

    def __init__(self, path: Path, *, bytes_max: int = FILE_BYTES_MAX) -> None:
        super().__init__(sys.stderr)
        self._path = path
        self._bytes_max = bytes_max

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        # A log that cannot be turned over goes on as it is.
        with suppress(OSError):
            written = os.fstat(2)
            if written.st_size > self._bytes_max and os.path.samestat(written, self._path.stat()):
                self._turn_over()

    def _turn_over(self) -> None:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{age + 1}") for age in range(OLD_FILES))]
        for newer, older in reversed(list(pairwise(names))):
            if newer.exists():
                newer.replace(older)
        fresh = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        for output in OUTPUTS:
            os.dup2(fresh, output)
        os.close(fresh)
