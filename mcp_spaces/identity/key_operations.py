"""The operator's operations on keys."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mcp_spaces.core.active import ActiveCalls
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.changes import Change, Changes
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import AnyOperation, Audience, Operation
from mcp_spaces.core.place import Everywhere
from mcp_spaces.core.scope import EVERYTHING, OperationPattern
from mcp_spaces.core.tasks import shielded
from mcp_spaces.errors import InvalidInput
from mcp_spaces.identity.known_operations import check_patterns
from mcp_spaces.identity.model import LOCAL_AGENT, OPERATOR, Key, new_token
from mcp_spaces.identity.store import Identity
from mcp_spaces.spaces.port import Spaces


class KeyCreateInput(Everywhere):
    label: str = Field(min_length=1, max_length=100)
    """What it is for."""
    principal: str | None = Field(default=None, min_length=1, max_length=200)
    """Name or id of who it stands for; left out: local-agent, or operator for an operator's key."""
    spaces: list[str] | None = Field(default=None, max_length=100)
    """Only these spaces, by id or name; left out: all that the principal may see."""
    operations: list[OperationPattern] | None = Field(default=None, max_length=100)
    """Only these, such as sandbox.* or run.get."""
    expires_in_s: float | None = Field(default=90 * 86400, gt=0, le=10 * 365 * 86400)
    """Seconds, 90 days where it is left out; null: no end."""
    operator: bool = False
    """A key for people who administer; it may do everything."""


class NewKey(Answer):
    """`token` is shown this once and kept nowhere."""

    id: str
    token: str
    principal: str
    spaces: list[str] | None
    expires_at: float | None


class KeyView(Answer):
    id: str
    label: str
    principal_id: str
    principal: str
    """Its name."""
    state: Literal["valid", "expired", "revoked"]
    spaces: list[str] | None
    operations: list[str] | None
    operator: bool
    created_at: float
    expires_at: float | None
    revoked_at: float | None


class KeyList(Answer):
    keys: list[KeyView]


class KeyRevokeInput(Everywhere):
    key: str = Field(max_length=64)


async def create_key(context: Context, wanted: KeyCreateInput) -> NewKey:
    identity = context.use(Identity)
    # Nobody approves their own call: an operator's key that stood for the agent could not answer what the agent asks.
    principal = identity.get(wanted.principal or (OPERATOR if wanted.operator else LOCAL_AGENT))
    if wanted.operator and (wanted.spaces is not None or wanted.operations is not None):
        raise InvalidInput("An operator's key is not bound to spaces or operations.", hint="Leave them out.")
    spaces = None if wanted.spaces is None else _space_ids(context, wanted.spaces)
    check_patterns(context, wanted.operations or ())
    now, fresh = context.clock.now(), new_token()
    key = Key(
        id=fresh.key_id,
        principal_id=principal.id,
        label=wanted.label,
        secret_sha256=fresh.secret_sha256,
        spaces=spaces,
        # Nothing else of today's scope: what the principal is granted later reaches its keys, too.
        scope=None
        if wanted.operations is None
        else EVERYTHING.model_copy(update={"operations": tuple(wanted.operations)}),
        operator=wanted.operator,
        created_at=now,
        expires_at=None if wanted.expires_in_s is None else now + wanted.expires_in_s,
    )
    await identity.add_key(key)
    # The token has to reach the caller, so it is the one thing that redaction lets through.
    return NewKey(
        id=key.id,
        token=fresh.token,
        principal=principal.name,
        spaces=None if spaces is None else list(spaces),
        expires_at=key.expires_at,
    )


def _space_ids(context: Context, references: list[str]) -> tuple[str, ...]:
    """Raises NotFound or Ambiguous: a key for a space that is not there would see nothing, and not say why."""
    return tuple(dict.fromkeys(context.use(Spaces).resolve(context.caller, one).id for one in references))


async def list_keys(context: Context, _: Everywhere) -> KeyList:
    return KeyList(keys=[_view(context, key) for key in context.use(Identity).all_keys()])


async def revoke_key(context: Context, wanted: KeyRevokeInput) -> KeyView:
    async def revoked() -> Key:
        key = await context.use(Identity).revoke(wanted.key)
        context.use(ActiveCalls).cancel_where(lambda call: call.caller.key_id == key.id, reason="the key was revoked")
        context.use(Changes).announce(Change("keys", principal_id=key.principal_id))
        return key

    # It happens even when the caller gives up, and then what the key opened has to end too.
    return _view(context, await shielded(revoked()))


def _view(context: Context, key: Key) -> KeyView:
    principal = context.use(Identity).find(key.principal_id)
    over = key.expires_at is not None and key.expires_at <= context.clock.now()
    return KeyView(
        id=key.id,
        label=key.label,
        principal_id=key.principal_id,
        principal=key.principal_id if principal is None else principal.name,
        state="revoked" if key.revoked_at is not None else "expired" if over else "valid",
        spaces=None if key.spaces is None else list(key.spaces),
        operations=None if key.scope is None else list(key.scope.operations),
        operator=key.operator,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
    )


KEY_CREATE = Operation(
    id="key.create",
    summary="Make a bearer key for HTTP; it is shown once.",
    input=KeyCreateInput,
    output=NewKey,
    effect=Effect.GOVERNS,
    audience=Audience.OPERATOR,
    handler=create_key,
    shows_keys=True,
    example={"label": "ci"},
)
KEY_LIST = Operation(
    id="key.list",
    summary="The keys there are; never their secrets.",
    input=Everywhere,
    output=KeyList,
    effect=Effect.OBSERVES,
    audience=Audience.OPERATOR,
    handler=list_keys,
    idempotent=True,
)
KEY_REVOKE = Operation(
    id="key.revoke",
    summary="End a key; calls that it is making end too.",
    input=KeyRevokeInput,
    output=KeyView,
    effect=Effect.GOVERNS,
    audience=Audience.OPERATOR,
    handler=revoke_key,
    idempotent=True,
    example={"key": "key_aaaaaaaaaaaaaaaaaaaaaaaaaa"},
)

OPERATIONS: tuple[AnyOperation, ...] = (KEY_CREATE, KEY_LIST, KEY_REVOKE)
