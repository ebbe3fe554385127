"""The operator's PIN, as a person types it."""

from __future__ import annotations

import getpass
import os

TERMINAL = "/dev/tty"


def asked(words: str = "PIN: ") -> str | None:
    """From the terminal, without echo, whatever standard input is: a program that calls us has none. None: no terminal,
    or nothing was typed."""
    try:
        os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return None
    try:
        return getpass.getpass(words) or None
    except EOFError:
        return None
