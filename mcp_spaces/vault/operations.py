"""The vault's operations. Secrets come in from the operator only; agents use them, and rarely see one."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Facts, SecretFacts, SecretUse
from mcp_spaces.core.operation import AnyOperation, Audience, Operation
from mcp_spaces.core.place import Everywhere, InSpace
from mcp_spaces.core.redaction import MINIMUM_LENGTH
from mcp_spaces.core.scope import Scope
from mcp_spaces.errors import InvalidInput
from mcp_spaces.vault.entry_operations import REQUEST_ENTRY, WAIT_ENTRY
from mcp_spaces.vault.imports import Format, read_export
from mcp_spaces.vault.master_key import Source
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

PAGE_MAX = 500


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


class OfSecret(InSpace):
    path: VaultPath


class ListInput(InSpace):
    prefix: VaultPath | None = None
    """Whole segments."""
    cursor: str = Field(default="", max_length=512)
    limit: int = Field(default=100, ge=1, le=PAGE_MAX)


class SecretPage(BaseModel):
    """`total` counts what may be used here, below the prefix."""

    secrets: list[EntryView]
    total: int
    next_cursor: str | None = None


class GetInput(OfSecret):
    field: str | None = Field(default=None, pattern=r"^[a-z]{1,20}$")
    """Left out: password, value or token."""


class Shown(BaseModel):
    path: str
    field: str
    version: int
    value: str


class CodeView(BaseModel):
    path: str
    code: str
    expires_in_s: float


class PathInput(Everywhere):
    path: VaultPath


class Deleted(BaseModel):
    deleted: str


class NoInput(Everywhere):
    """Nothing to say."""


class Rotated(BaseModel):
    """`boxes`: versions of secrets that were encrypted again."""

    boxes: int


class RekeyInput(Everywhere):
    to: Source | None = None
    """Where the new master key is kept; left out: where the old one was."""


class Rekeyed(BaseModel):
    source: Source
    where: str


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
    return await _viewed(context, entry, warnings=_warnings(fields))


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
    return await _viewed(context, entry, warnings=_warnings(texts))


async def restore_secret(context: Context, wanted: RestoreInput) -> EntryView:
    """Raises NotFound: no such path, or a version that is not kept."""
    entry = await context.use(Vault).keeping.restore(wanted.path, wanted.version, run_id=context.run_id)
    return await _viewed(context, entry)


async def describe_secret(context: Context, wanted: OfSecret) -> EntryView:
    entry = await context.use(Vault).find(wanted.path, scope=context.scope.vault)
    return await _viewed(context, entry)


async def list_secrets(context: Context, wanted: ListInput) -> SecretPage:
    prefix = wanted.prefix
    entries = [
        entry
        for entry in await context.use(Vault).entries(scope=context.scope.vault)
        if prefix is None or entry.path == prefix or entry.path.startswith(f"{prefix}/")
    ]
    rest = [entry for entry in entries if entry.path > wanted.cursor]
    page = rest[: wanted.limit]
    return SecretPage(
        secrets=[await _viewed(context, entry) for entry in page],
        total=len(entries),
        next_cursor=page[-1].path if len(rest) > len(page) else None,
    )


async def get_secret(context: Context, wanted: GetInput) -> Shown:
    secret = await context.use(Vault).read_raw(
        wanted.path, wanted.field, scope=context.scope.vault, run_id=context.run_id
    )
    value = secret.value.reveal()
    _learn(context, secret.path, {secret.field: value})
    return Shown(path=secret.path, field=secret.field, version=secret.version, value=value)


async def totp(context: Context, wanted: OfSecret) -> CodeView:
    code = await context.use(Vault).code(wanted.path, scope=context.scope.vault, run_id=context.run_id)
    value = code.value.reveal()
    context.redactor.learn(value, name=code.value.name)
    return CodeView(path=wanted.path, code=value, expires_in_s=round(code.ends_at - context.clock.now(), 1))


async def delete_secret(context: Context, wanted: PathInput) -> Deleted:
    await context.use(Vault).keeping.delete(wanted.path, run_id=context.run_id)
    return Deleted(deleted=wanted.path)


async def rotate(context: Context, _: NoInput) -> Rotated:
    return Rotated(boxes=await context.use(Vault).keys.rotate(run_id=context.run_id))


async def rekey(context: Context, wanted: RekeyInput) -> Rekeyed:
    keys = context.use(Vault).keys
    record = await keys.rekey(wanted.to, run_id=context.run_id)
    return Rekeyed(source=record.source, where=keys.where(record.source))


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


async def _viewed(context: Context, entry: Entry, *, warnings: list[str] | None = None) -> EntryView:
    vault = context.use(Vault)
    return view(entry, use=await vault.last_use(entry.path), versions=vault.versions(entry.path), warnings=warnings)


def _learn(context: Context, path: str, fields: dict[str, str]) -> None:
    for name, text in fields.items():
        if name not in NOT_CONFIDENTIAL:
            context.redactor.learn(text, name=path)


def _warnings(fields: dict[str, str]) -> list[str] | None:
    short = [name for name, text in fields.items() if name not in NOT_CONFIDENTIAL and len(text) < MINIMUM_LENGTH]
    return [
        f"{name} has fewer than {MINIMUM_LENGTH} characters: it cannot be redacted, and is never shown raw"
        for name in short
    ] or None


def _needs_vault(scope: Scope) -> str | None:
    return None if scope.vault.allow else "scope.vault"


def _needs_raw_reads(scope: Scope) -> str | None:
    return _needs_vault(scope) or (None if scope.vault.allow_raw_reads else "scope.vault.allow_raw_reads")


def _raw_read(wanted: GetInput) -> Facts:
    return SecretFacts(wanted.path, SecretUse.RAW_READ)


def _code(wanted: OfSecret) -> Facts:
    return SecretFacts(wanted.path, SecretUse.TOTP_FILL)


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
    summary="Change parts of a secret; what is left out stays, null clears.",
    input=UpdateInput,
    output=EntryView,
    effect=Effect.WRITES,
    audience=Audience.OPERATOR,
    handler=update_secret,
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
    listed=False,
    example={"path": "prod/github", "version": 3},
)
DESCRIBE = Operation(
    id="vault.describe",
    summary="What is known of a secret: kind, fields, where it may go, when it was used. Never its value.",
    input=OfSecret,
    output=EntryView,
    effect=Effect.OBSERVES,
    handler=describe_secret,
    refused_by=_needs_vault,
    operator_anywhere=True,
    idempotent=True,
    listed=False,
    example={"path": "prod/github"},
)
LIST = Operation(
    id="vault.list",
    summary="The secrets that may be used here; never their values.",
    input=ListInput,
    output=SecretPage,
    effect=Effect.OBSERVES,
    handler=list_secrets,
    refused_by=_needs_vault,
    operator_anywhere=True,
    idempotent=True,
    listed=False,
    example={"prefix": "prod"},
)
GET = Operation(
    id="vault.get",
    summary="Show a field of a secret, where mount and policy both allow raw reads.",
    input=GetInput,
    output=Shown,
    effect=Effect.READS,
    idempotent=True,
    handler=get_secret,
    facts=_raw_read,
    refused_by=_needs_raw_reads,
    operator_anywhere=True,
    shows_keys=True,
    listed=False,
    example={"path": "prod/github", "field": "token"},
)
TOTP = Operation(
    id="vault.totp",
    summary="A one-time code of a login, given out once; never its seed.",
    input=OfSecret,
    output=CodeView,
    effect=Effect.READS,
    handler=totp,
    facts=_code,
    refused_by=_needs_vault,
    operator_anywhere=True,
    shows_keys=True,
    listed=False,
    example={"path": "prod/salesforce"},
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
ROTATE = Operation(
    id="vault.rotate",
    summary="Make a new data key and encrypt every secret again under it.",
    input=NoInput,
    output=Rotated,
    effect=Effect.GOVERNS,
    audience=Audience.OPERATOR,
    handler=rotate,
    listed=False,
)
REKEY = Operation(
    id="vault.rekey",
    summary="Give the vault a new master key; the old one opens nothing any more but older backups.",
    input=RekeyInput,
    output=Rekeyed,
    effect=Effect.GOVERNS,
    audience=Audience.OPERATOR,
    handler=rekey,
    listed=False,
    example={"to": "file"},
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

OPERATIONS: tuple[AnyOperation, ...] = (
    SET, UPDATE, RESTORE, DESCRIBE, LIST, GET, TOTP, REQUEST_ENTRY, WAIT_ENTRY, DELETE, ROTATE, REKEY, IMPORT
)  # fmt: skip
