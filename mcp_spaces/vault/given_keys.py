"""Master keys and passphrases that the environment gives: read once, and erased from it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Final

KEY_VARIABLE: Final = "MCP_SPACES_MASTER_KEY"
NEXT_KEY_VARIABLE: Final = "MCP_SPACES_NEXT_MASTER_KEY"
PASSPHRASE_VARIABLE: Final = "MCP_SPACES_PASSPHRASE"  # noqa: S105 - a name
NEXT_PASSPHRASE_VARIABLE: Final = "MCP_SPACES_NEXT_PASSPHRASE"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class Given:
    """What the environment held, taken out of it."""

    key: str | None = field(default=None, repr=False)
    next_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    next_passphrase: str | None = field(default=None, repr=False)


def taken_from(environment: MutableMapping[str, str]) -> Given:
    """Read the four variables once and remove them, also from what /proc shows of this process (threat V14)."""
    names = (KEY_VARIABLE, NEXT_KEY_VARIABLE, PASSPHRASE_VARIABLE, NEXT_PASSPHRASE_VARIABLE)
    values = [environment.get(name) or None for name in names]
    for name in names:
        if name in environment:
            if environment is os.environ:
                _erase(name)
            del environment[name]
    return Given(*values)


def _erase(name: str) -> None:
    library = ctypes.CDLL(None)
    library.getenv.restype = ctypes.c_void_p
    address = library.getenv(name.encode())
    if address:
        ctypes.memset(address, 0, len(ctypes.string_at(address)))
