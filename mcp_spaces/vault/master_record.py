"""Which master key counts, as the database has it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from mcp_spaces.vault.passphrase import Stretching


class Source(StrEnum):
    KEYRING = "keyring"
    FILE = "file"
    ENVIRONMENT = "environment"
    PASSPHRASE = "passphrase"  # noqa: S105 - a name


class Previous(BaseModel):
    """A master key that counts no more and may still be where it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source
    master_id: str


class MasterRecord(BaseModel):
    """Which master key wraps the data key now, and where it is. `previous` until that one is removed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source
    master_id: str
    stretching: Stretching | None = None
    previous: Previous | None = None
