"""Standard streams as commands need them: all three there, and quiet where nobody reads them any more (`… | head`).

Made of what every interpreter has loaded already: the shim comes by here, too.
"""

from __future__ import annotations

import io
import os
import sys

from mcp_spaces.cli.exits import UNREAD

TYPE_CHECKING = False  # type checkers know the name; importing typing would cost the shim more than all of this
if TYPE_CHECKING:
    from typing import Any, TextIO

STDIN, STDOUT, STDERR = 0, 1, 2


def open_closed() -> None:
    """Where a standard stream is closed (`>&-`), the next file or socket would take its number, and what is meant for
    people would be written there. So input is empty, errors go nowhere, and output has nobody who reads it."""
    for number in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            # What is opened gets the lowest number that is free, which is this one.
            if number == STDOUT:
                unread, end = os.pipe()
                os.dup2(end, unread)
                os.close(end)
            else:
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def end_unread() -> None:
    """From now on, a write to standard output or errors that nobody reads ends the command as SIGPIPE ends others."""
    sys.stdin = sys.stdin or io.TextIOWrapper(io.FileIO(STDIN, closefd=False))
    sys.stdout = _ending(STDOUT, like=sys.stdout)
    sys.stderr = _ending(STDERR, like=sys.stderr)


class _Ending(io.FileIO):
    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            # What is buffered cannot go anywhere either, and would be tried again at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            sys.exit(UNREAD)


def _ending(number: int, *, like: TextIO | None) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(_Ending(number, "w", closefd=False)),
        encoding=like.encoding if like else None,
        errors=like.errors if like else "backslashreplace",
        line_buffering=bool(like is None or like.line_buffering),
    )
