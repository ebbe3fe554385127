"""The operator's operations on what is kept: set, update, restore, delete, import. Agents have none of them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import Audience, Operation, always
from mcp_spaces.core.place import Everywhere
from mcp_spaces.core.redaction import MINIMUM_LENGTH
from mcp_spaces.errors import InvalidInput
from mcp_spaces.vault.imports import Format, read_export
from mcp_spaces.vault.model import (
    FIELDS,
    NOT_CONFIDENTIAL,
    Bindings,
    Entry,
    GivenSecret,
    HeaderName,
    Kind,
    Origin,
    OriginPattern,
    VaultPath,
)
from mcp_spaces.vault.service import Vault
from mcp_spaces.vault.views import EntryView, view
from mcp_spaces.vault.wanted import Wanted, amended, wanted_entry

BINDINGS = frozenset({"origins", "origin_patterns", "headers"})
"""The fields that say where a secret may go."""


class Secret(Everywhere):
    """The fields of all kinds; each kind has some of them."""

    label: str | None = Field(default=None, max_length=200)
    """For people."""
    username: GivenSecret | None = None
    password: GivenSecret | None = None
    totp: GivenSecret | None = None
    """An otpauth:// address or a base32 seed; never readable again."""
    value: GivenSecret | None = None
    token: GivenSecret | None = None
    notes: GivenSecret | None = None
    origins: tuple[Origin, ...] | None = Field(default=None, max_length=50)
    """Where it may be sent: https://api.example.com"""
    origin_patterns: tuple[OriginPattern, ...] | None = Field(default=None, max_length=20)
    """Sub-domains: https://*.example.com"""
    headers: tuple[HeaderName, ...] | None = Field(default=None, max_length=20)
    """Request headers that the gateway may put it in; left out: authorization."""

    def given_fields(self) -> dict[str, str | None]:
        """The secret fields that were named; None: cleared."""
        names = {name for kind in FIELDS.values() for name in kind} & self.model_fields_set
        return {name: None if (secret := getattr(self, name)) is None else secret.get_secret_value() for name in names}


class SetInput(Secret):
    path: VaultPath
    kind: Kind = Kind.VALUE


class UpdateInput(Secret):
    """Left out: unchanged; null: cleared."""

    path: VaultPath


class RestoreInput(Everywhere):
    path: VaultPath
    version: int = Field(ge=1)
    """One of those that are kept: the ten newest."""


class PathInput(Everywhere):
    path: VaultPath


class Deleted(BaseModel):
    deleted: str


class ImportInput(Everywhere):
    file: str = Field(max_length=4096)
    """Absolute, on the daemon's machine; at most 16 MiB."""
    prefix: VaultPath = "imported"
    format: Format = Format.AUTO
    dry_run: bool = False
    """Say what would be stored, and store nothing."""


class Imported(BaseModel):
    """`skipped` says which items were left out, and why; none of them holds a secret's value."""

    paths: list[str]
    skipped: list[str]
    dry_run: bool


async def set_secret(context: Context, wanted: SetInput) -> EntryView:
    fields = {name: text for name, text in wanted.given_fields().items() if text is not None}
    _learn(context, wanted.path, fields)
    secret = wanted_entry(
        wanted.path,
        wanted.kind,
        fields,
        label=wanted.label,
        bindings=Bindings(
            origins=wanted.origins or (), origin_patterns=wanted.origin_patterns or (), headers=wanted.headers or ()
        ),
        now=context.clock.now(),
    )
    (entry,) = await context.use(Vault).keeping.put([secret], run_id=context.run_id, action="set")
    return await view(context.use(Vault), entry, warnings=_unbound(entry) + _warnings(fields))


async def update_secret(context: Context, wanted: UpdateInput) -> EntryView:
    given = wanted.given_fields()
    texts = {name: text for name, text in given.items() if text is not None}
    _learn(context, wanted.path, texts)
    metadata = {name: getattr(wanted, name) for name in wanted.model_fields_set - {"path", *given}}
    now = context.clock.now()
    entry = await context.use(Vault).keeping.amend(
        wanted.path,
        lambda before, fields: amended(before, fields, given=given, metadata=metadata, now=now),
        run_id=context.run_id,
    )
    return await view(context.use(Vault), entry, warnings=_warnings(texts))


async def restore_secret(context: Context, wanted: RestoreInput) -> EntryView:
    """Raises NotFound: no such path, or a version that is not kept."""
    entry = await context.use(Vault).keeping.restore(wanted.path, wanted.version, run_id=context.run_id)
    return await view(context.use(Vault), entry)


async def delete_secret(context: Context, wanted: PathInput) -> Deleted:
    await context.use(Vault).keeping.delete(wanted.path, run_id=context.run_id)
    return Deleted(deleted=wanted.path)


async def import_secrets(context: Context, wanted: ImportInput) -> Imported:
    export = await read_export(Path(wanted.file), chosen=wanted.format, prefix=wanted.prefix)
    secrets: list[Wanted] = []
    now = context.clock.now()
    for item in export.items:
        try:
            secrets.append(
                wanted_entry(item.path, item.kind, item.fields, label=item.label, bindings=item.bindings, now=now)
            )
        except (InvalidInput, ValidationError) as problem:
            why = problem.message if isinstance(problem, InvalidInput) else "a field does not fit"
            raise InvalidInput(f"Item {item.number}: {why}", hint="Mend or remove it; nothing was stored.") from None
    if not wanted.dry_run and secrets:
        await context.use(Vault).keeping.put(secrets, run_id=context.run_id, action="import", new_only=True)
    return Imported(paths=[item.path for item in export.items], skipped=export.skipped, dry_run=wanted.dry_run)


def _learn(context: Context, path: str, fields: dict[str, str]) -> None:
    for name, text in fields.items():
        if name not in NOT_CONFIDENTIAL:
            context.redactor.learn(text, name=path)


def _unbound(entry: Entry) -> list[str]:
    """A value may be for a command's environment; a login or an API key is of no use to anybody then."""
    if entry.kind is Kind.VALUE or entry.bindings.origins or entry.bindings.origin_patterns:
        return []
    return [f"it goes nowhere without an origin: mcp-spaces vault update {entry.path} --origins https://…"]


def _warnings(fields: dict[str, str]) -> list[str]:
    short = [name for name, text in fields.items() if name not in NOT_CONFIDENTIAL and len(text) < MINIMUM_LENGTH]
    return [
        f"{name} has fewer than {MINIMUM_LENGTH} characters: it cannot be redacted, and is never shown raw"
        for name in short
    ]


SET = Operation(
    id="vault.set",
    summary="Store a secret: a value, a login or an API key; an older version is kept.",
    input=SetInput,
    output=EntryView,
    effect=Effect.WRITES,
    audience=Audience.OPERATOR,
    handler=set_secret,
    listed=False,
    example={"path": "prod/github", "kind": "api_key", "origins": ["https://api.github.com"]},
)
UPDATE = Operation(
    id="vault.update",
    summary="Change parts of a secret; what is left out stays, null clears (in a command '', and --no-notes).",
    input=UpdateInput,
    output=EntryView,
    effect=Effect.WRITES,
    audience=Audience.OPERATOR,
    handler=update_secret,
    needs_pin=lambda given: not BINDINGS.isdisjoint(given.model_fields_set),
    listed=False,
    example={"path": "prod/github", "label": "CI", "origins": ["https://api.github.com"]},
)
RESTORE = Operation(
    id="vault.restore",
    summary="Make a kept version of a secret the newest again, with its label and origins of then.",
    input=RestoreInput,
    output=EntryView,
    effect=Effect.WRITES,
    audience=Audience.OPERATOR,
    handler=restore_secret,
    # Its origins of then come back, which a person may have taken away since.
    needs_pin=always,
    listed=False,
    example={"path": "prod/github", "version": 3},
)
DELETE = Operation(
    id="vault.delete",
    summary="Delete a secret with all its versions for good.",
    input=PathInput,
    output=Deleted,
    effect=Effect.DELETES,
    audience=Audience.OPERATOR,
    handler=delete_secret,
    listed=False,
    example={"path": "prod/github"},
)
IMPORT = Operation(
    id="vault.import",
    summary="Store the secrets of a Bitwarden or 1Password export: all of them, or none.",
    input=ImportInput,
    output=Imported,
    effect=Effect.WRITES,
    audience=Audience.OPERATOR,
    handler=import_secrets,
    listed=False,
    example={"file": "/home/me/bitwarden.json", "prefix": "personal", "dry_run": True},
)
