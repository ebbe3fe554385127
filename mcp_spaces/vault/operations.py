"""The vault's operations; here those that use a secret. Secrets come in from people only, and agents rarely see one."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Facts, SecretFacts, SecretUse
from mcp_spaces.core.operation import AnyOperation, Operation, always
from mcp_spaces.core.place import InSpace
from mcp_spaces.core.scope import Scope
from mcp_spaces.core.spelling import Spelled
from mcp_spaces.vault.entry_operations import REQUEST_ENTRY, WAIT_ENTRY
from mcp_spaces.vault.keeping_operations import DELETE, IMPORT, RESTORE, SET, UPDATE
from mcp_spaces.vault.key_operations import REKEY, ROTATE
from mcp_spaces.vault.model import NOT_CONFIDENTIAL, VaultPath
from mcp_spaces.vault.service import Vault
from mcp_spaces.vault.views import EntryView, view

PAGE_MAX = 500


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
    field: Annotated[str, StringConstraints(pattern=r"^[a-z]{1,20}$"), Spelled("a field, such as token")] | None = None
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


async def describe_secret(context: Context, wanted: OfSecret) -> EntryView:
    entry = await context.use(Vault).find(wanted.path, scope=context.scope.vault)
    return await view(context.use(Vault), entry)


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
        secrets=[await view(context.use(Vault), entry) for entry in page],
        total=len(entries),
        next_cursor=page[-1].path if len(rest) > len(page) else None,
    )


async def get_secret(context: Context, wanted: GetInput) -> Shown:
    secret = await context.use(Vault).read_raw(
        wanted.path, wanted.field, scope=context.scope.vault, run_id=context.run_id
    )
    value = secret.value.reveal()
    if secret.field not in NOT_CONFIDENTIAL:
        context.redactor.learn(value, name=secret.path)
    return Shown(path=secret.path, field=secret.field, version=secret.version, value=value)


async def totp(context: Context, wanted: OfSecret) -> CodeView:
    code = await context.use(Vault).code(wanted.path, scope=context.scope.vault, run_id=context.run_id)
    value = code.value.reveal()
    context.redactor.learn(value, name=code.value.name)
    return CodeView(path=wanted.path, code=value, expires_in_s=round(code.ends_at - context.clock.now(), 1))


def _needs_vault(scope: Scope) -> str | None:
    return None if scope.vault.allow else "scope.vault"


def _needs_raw_reads(scope: Scope) -> str | None:
    return _needs_vault(scope) or (None if scope.vault.allow_raw_reads else "scope.vault.allow_raw_reads")


def _raw_read(wanted: GetInput) -> Facts:
    return SecretFacts(wanted.path, SecretUse.RAW_READ)


def _code(wanted: OfSecret) -> Facts:
    return SecretFacts(wanted.path, SecretUse.TOTP_FILL)


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
    needs_pin=always,
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

OPERATIONS: tuple[AnyOperation, ...] = (
    SET, UPDATE, RESTORE, DESCRIBE, LIST, GET, TOTP, REQUEST_ENTRY, WAIT_ENTRY, DELETE, ROTATE, REKEY, IMPORT
)  # fmt: skip
