"""Time-based one-time codes: RFC 6238 over RFC 4226, and the `otpauth://` addresses and seeds that sites hand out.

Our own lines, since pyotp refuses the classic seeds of 80 bits (threat V20).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from mcp_spaces.errors import InvalidInput

ALGORITHMS: Final = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256, "SHA512": hashlib.sha512}
SEED_BYTES_MIN: Final = 10
SEED_BYTES_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Seed:
    key: bytes = field(repr=False)
    algorithm: str = "SHA1"
    digits: int = 6
    period_s: int = 30

    def step_at(self, now: float) -> int:
        return int(now // self.period_s)

    def code(self, step: int) -> str:
        """RFC 4226, section 5.3, over the step's number."""
        digest = hmac.digest(self.key, step.to_bytes(8, "big"), ALGORITHMS[self.algorithm])
        offset = digest[-1] & 0x0F
        number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
        return str(number % 10**self.digits).zfill(self.digits)


def parse_seed(text: str) -> Seed:
    """An `otpauth://totp/…` address, or a seed in base32: with or without padding, spaces and hyphens, in any case.

    Raises InvalidInput, which never repeats the seed.
    """
    stripped = text.strip()
    if not stripped.lower().startswith("otpauth:"):
        return Seed(_base32(stripped))
    try:
        address = urlsplit(stripped)
    except ValueError:
        raise _refused("it is no address") from None
    if address.netloc.lower() != "totp":
        raise _refused("only time-based codes (otpauth://totp/…) are supported")
    pairs = parse_qsl(address.query, keep_blank_values=True)
    values = {name.lower(): value for name, value in pairs}
    if len(values) != len(pairs):
        raise _refused("a parameter is there twice")
    algorithm = values.get("algorithm", "SHA1").upper().replace("-", "")
    if algorithm not in ALGORITHMS:
        raise _refused("its algorithm is none of SHA1, SHA256, SHA512")
    return Seed(
        _base32(values.get("secret", "")),
        algorithm=algorithm,
        digits=_number(values.get("digits", "6"), 6, 8, "digits"),
        period_s=_number(values.get("period", "30"), 5, 300, "period"),
    )


def _base32(text: str) -> bytes:
    letters = "".join(text.split()).replace("-", "").rstrip("=").upper()
    try:
        key = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except (binascii.Error, ValueError):
        raise _refused("it is not base32") from None
    if not SEED_BYTES_MIN <= len(key) <= SEED_BYTES_MAX:
        raise _refused(f"it has to have {SEED_BYTES_MIN} to {SEED_BYTES_MAX} bytes")
    return key


def _number(text: str, low: int, high: int, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and low <= int(text) <= high):
        raise _refused(f"{name} has to be {low} to {high}")
    return int(text)


def _refused(why: str) -> InvalidInput:
    return InvalidInput(
        f"The one-time seed cannot be used: {why}.", hint="Give the otpauth:// address or the base32 text."
    )
