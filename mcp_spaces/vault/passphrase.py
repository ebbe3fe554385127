"""A master key out of a passphrase."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from mcp_spaces.core.stretching import argon2id
from mcp_spaces.errors import InvalidInput
from mcp_spaces.vault.cipher import KEY_BYTES, MasterKey

PASSPHRASE_CHARACTERS_MIN: Final = 12


class Stretching(BaseModel):
    """Argon2id's parameters, stored with the vault. Weaker ones are refused, whoever wrote them (threat V15)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    salt: str = Field(pattern=r"^[0-9a-f]{32,128}$")
    memory_kib: int = Field(default=64 * 1024, ge=19 * 1024, le=4 * 1024 * 1024)
    iterations: int = Field(default=3, ge=2, le=100)
    lanes: int = Field(default=4, ge=1, le=64)


def stretched(passphrase: str, stretching: Stretching) -> MasterKey:
    """About half a second. Raises InvalidInput for a short passphrase."""
    if len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        raise InvalidInput("The passphrase is too short.", hint=f"Use at least {PASSPHRASE_CHARACTERS_MIN} characters.")
    return MasterKey(
        argon2id(
            passphrase,
            salt=bytes.fromhex(stretching.salt),
            length=KEY_BYTES,
            iterations=stretching.iterations,
            lanes=stretching.lanes,
            memory_kib=stretching.memory_kib,
        )
    )
