"""Random handles and the clock: both come in as values, so that tests choose them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

ID_PATTERN = r"^[a-z]{2,4}_[a-z2-7]{26}$"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def new_id(prefix: str) -> str:
    """`sp_…`: 130 random bits, so that a handle cannot be guessed. It is still no authority (threat T02)."""
    return f"{prefix}_{''.join([_ALPHABET[byte & 31] for byte in secrets.token_bytes(26)])}"


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` in seconds since 1970 for what is stored; `monotonic` in seconds for what is measured."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
