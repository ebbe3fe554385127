"""What is told of a secret without opening it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel

from mcp_spaces.core.facts import SecretUse
from mcp_spaces.vault.model import Entry, Kind
from mcp_spaces.vault.service import Vault


class EntryView(BaseModel):
    """`fields` are names; `versions` those that are kept, newest first."""

    path: str
    kind: Kind
    label: str | None = None
    fields: list[str]
    origins: list[str]
    origin_patterns: list[str] | None = None
    headers: list[str] | None = None
    version: int
    versions: list[int]
    created_at: str
    updated_at: str
    last_used_at: str | None = None
    last_purpose: SecretUse | None = None
    uses: int = 0
    warnings: list[str] | None = None


async def view(vault: Vault, entry: Entry, *, warnings: Sequence[str] = ()) -> EntryView:
    use = await vault.last_use(entry.path)
    return EntryView(
        path=entry.path,
        kind=entry.kind,
        label=entry.label or None,
        fields=list(entry.fields),
        origins=list(entry.bindings.origins),
        origin_patterns=list(entry.bindings.origin_patterns) or None,
        headers=list(entry.bindings.headers) or None,
        version=entry.version,
        versions=vault.versions(entry.path),
        created_at=_iso(entry.created_at),
        updated_at=_iso(entry.updated_at),
        last_used_at=None if use is None else _iso(use.last_used_at),
        last_purpose=None if use is None else use.purpose,
        uses=0 if use is None else use.uses,
        warnings=list(warnings) or None,
    )


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
