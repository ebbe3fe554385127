"""The operator's operations on principals and keys."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from mcp_spaces.core.active import WORKING, ActiveCalls, leaves_less
from mcp_spaces.core.caller import Kind
from mcp_spaces.core.changes import Change, Changes
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import AnyOperation, Audience, Operation, always
from mcp_spaces.core.patterns import operation_covers
from mcp_spaces.core.pipeline import Pipeline
from mcp_spaces.core.place import Everywhere
from mcp_spaces.core.policy import load_preset, policy_excess, policy_from
from mcp_spaces.core.scope import EVERYTHING, OperationPattern, Scope
from mcp_spaces.core.scope_request import ScopeRequest
from mcp_spaces.core.spelling import NAME
from mcp_spaces.core.tasks import shielded
from mcp_spaces.errors import InvalidInput
from mcp_spaces.identity.model import AGENT_POLICY, AGENT_SCOPE, LOCAL_AGENT, OPERATOR, Key, Principal, new_token
from mcp_spaces.identity.store import Identity
from mcp_spaces.spaces.port import Spaces

SPACES_PAGE = 200
Preset = Literal["restrictive", "standard", "permissive"]


class NoInput(Everywhere):
    """Nothing to say."""


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


class NewKey(BaseModel):
    """`token` is shown this once and kept nowhere."""

    id: str
    token: str
    principal: str
    spaces: list[str] | None
    expires_at: float | None


class KeyView(BaseModel):
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


class KeyList(BaseModel):
    keys: list[KeyView]


class KeyRevokeInput(Everywhere):
    key: str = Field(max_length=64)


class PrincipalView(BaseModel):
    id: str
    name: str
    kind: Kind
    policy: str
    scope: Scope


class PrincipalList(BaseModel):
    principals: list[PrincipalView]


class PrincipalAddInput(Everywhere):
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"), NAME]
    kind: Kind = Kind.AGENT


class PrincipalGrantInput(Everywhere):
    principal: str = Field(max_length=200)
    scope: ScopeRequest = ScopeRequest()
    """Parts that are left out stay as they are."""
    policy: Preset | None = None
    """The widest preset that it may choose from now on; spaces that are wider stay so, and the answer names them."""


class WiderSpace(BaseModel):
    id: str
    name: str
    preset: str
    wider: list[str]
    """The keys of its policy in which it is wider than the principal may choose now."""


class Granted(PrincipalView):
    wider_spaces: list[WiderSpace] | None = None
    """Of the principal's own, where a policy was given."""
    hint: str | None = None


async def create_key(context: Context, wanted: KeyCreateInput) -> NewKey:
    identity = context.use(Identity)
    # Nobody approves their own call: an operator's key that stood for the agent could not answer what the agent asks.
    principal = identity.get(wanted.principal or (OPERATOR if wanted.operator else LOCAL_AGENT))
    if wanted.operator and (wanted.spaces is not None or wanted.operations is not None):
        raise InvalidInput("An operator's key is not bound to spaces or operations.", hint="Leave them out.")
    spaces = None if wanted.spaces is None else _space_ids(context, wanted.spaces)
    _check_operations(context, wanted.operations or ())
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


async def list_keys(context: Context, _: NoInput) -> KeyList:
    return KeyList(keys=[_view(context, key) for key in context.use(Identity).all_keys()])


async def revoke_key(context: Context, wanted: KeyRevokeInput) -> KeyView:
    key = await context.use(Identity).revoke(wanted.key)
    context.use(ActiveCalls).cancel_where(lambda call: call.caller.key_id == key.id, reason="the key was revoked")
    context.use(Changes).announce(Change("keys", principal_id=key.principal_id))
    return _view(context, key)


async def list_principals(context: Context, _: NoInput) -> PrincipalList:
    return PrincipalList(principals=[_principal_view(one) for one in context.use(Identity).principals()])


async def add_principal(context: Context, wanted: PrincipalAddInput) -> PrincipalView:
    principal = await context.use(Identity).add(wanted.name, kind=wanted.kind, scope=AGENT_SCOPE, policy=AGENT_POLICY)
    return _principal_view(principal)


async def grant_principal(context: Context, wanted: PrincipalGrantInput) -> Granted:
    identity = context.use(Identity)
    before: list[Principal] = []
    # What is there from before may be of another version of mcp-spaces.
    kept = identity.get(wanted.principal).scope.operations
    _check_operations(context, (one for one in wanted.scope.operations or () if one not in kept))

    def change(principal: Principal) -> Principal:
        before.append(principal)
        scope = wanted.scope.over(principal.scope)
        return principal.model_copy(update={"scope": scope, "policy": wanted.policy or principal.policy})

    async def announced() -> Principal:
        changed = await identity.change(identity.get(wanted.principal).id, change)
        changes = (Change("tools", principal_id=changed.id), Change("context", principal_id=changed.id))
        context.use(Changes).announce(*changes)
        return changed

    # It happens even when the caller gives up, and then what is open has to end too.
    changed = await shielded(announced())
    scope, lowered = changed.scope, leaves_less(changed.scope, before[-1].scope)
    await context.use(ActiveCalls).end_where(
        lambda call: (
            call.caller.principal_id == changed.id
            and call.run.id != context.run_id
            # A call that only passes on another one is judged by that one, which may be this very call.
            and call.run.operation != "operation.call"
            and ((lowered and call.effect in WORKING) or not scope.permits_operation(call.run.operation))
        ),
        reason="the principal's scope was lowered",
    )
    wider = [] if wanted.policy is None else _wider_spaces(context, changed)
    return Granted(
        **dict(_principal_view(changed)),
        wider_spaces=wider or None,
        hint=f"These keep their policies. To narrow one: {_narrowing(wider[0], changed)}" if wider else None,
    )


def _wider_spaces(context: Context, principal: Principal) -> list[WiderSpace]:
    """A scope counts at every call, so lowering it lowers what is there. A space's policy is its own: an operator may
    have set it wider than its owner could, and it is not taken back unsaid."""
    most, owner, spaces = load_preset(principal.policy), context.use(Identity).caller(principal), context.use(Spaces)
    found: list[WiderSpace] = []
    after = ""
    while page := spaces.visible(owner, after=after, limit=SPACES_PAGE):
        after = page[-1].id
        for space in page:
            choice = space.requested.policy
            if wider := policy_excess(most, policy_from(choice.preset, choice.overrides)):
                found.append(WiderSpace(id=space.id, name=space.requested.name, preset=choice.preset, wider=wider))
    return found


def _narrowing(space: WiderSpace, principal: Principal) -> str:
    patch = {"policy": {"preset": principal.policy, "overrides": None}}
    return f"mcp-spaces space update {space.id} --patch '{json.dumps(patch)}'"


def _check_operations(context: Context, patterns: Iterable[str]) -> None:
    """Whoever misspells an operation would learn it from an agent that may do nothing. Raises InvalidInput."""
    known = context.use(Pipeline).operations
    for pattern in patterns:
        if not any(operation_covers(pattern, one) for one in known):
            raise InvalidInput(
                f"No operation fits {pattern!r}.", hint="docs/reference/README.md lists every operation."
            )


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


def _principal_view(principal: Principal) -> PrincipalView:
    return PrincipalView(
        id=principal.id, name=principal.name, kind=principal.kind, policy=principal.policy, scope=principal.scope
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
    input=NoInput,
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
PRINCIPAL_LIST = Operation(
    id="principal.list",
    summary="Who may call, and with what scope.",
    input=NoInput,
    output=PrincipalList,
    effect=Effect.OBSERVES,
    audience=Audience.OPERATOR,
    handler=list_principals,
    idempotent=True,
)
PRINCIPAL_ADD = Operation(
    id="principal.add",
    summary="Add an agent or a person, with the local agent's default scope.",
    input=PrincipalAddInput,
    output=PrincipalView,
    effect=Effect.GOVERNS,
    audience=Audience.OPERATOR,
    handler=add_principal,
    example={"name": "ci"},
)
PRINCIPAL_GRANT = Operation(
    id="principal.grant",
    summary="Set parts of a principal's scope: what its spaces may mount and use at most.",
    input=PrincipalGrantInput,
    output=Granted,
    effect=Effect.GOVERNS,
    audience=Audience.OPERATOR,
    handler=grant_principal,
    needs_pin=always,
    idempotent=True,
    example={"principal": "local-agent", "scope": {"storage": [{"namespace": "shared-exports", "mode": "rw"}]}},
)

OPERATIONS: tuple[AnyOperation, ...] = (
    KEY_CREATE,
    KEY_LIST,
    KEY_REVOKE,
    PRINCIPAL_LIST,
    PRINCIPAL_ADD,
    PRINCIPAL_GRANT,
)
