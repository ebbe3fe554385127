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
    """A master key that counts no more and may still be where it was; `before`: one before it that may be, too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source
    master_id: str
    before: Previous | None = None


class MasterRecord(BaseModel):
    """Which master key wraps the data key now, and where it is. `previous` until those are removed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source
    master_id: str
    stretching: Stretching | None = None
    previous: Previous | None = None
