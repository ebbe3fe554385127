"""The operator's operations on principals."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from mcp_spaces.core.active import WORKING, ActiveCalls, leaves_less
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.caller import Kind
from mcp_spaces.core.changes import Change, Changes
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import AnyOperation, Audience, Operation, always
from mcp_spaces.core.place import Everywhere
from mcp_spaces.core.policy import load_preset, policy_excess, policy_from
from mcp_spaces.core.scope import Scope
from mcp_spaces.core.scope_request import ScopeRequest
from mcp_spaces.core.spelling import NAME
from mcp_spaces.core.tasks import shielded
from mcp_spaces.identity.known_operations import check_patterns
from mcp_spaces.identity.model import AGENT_POLICY, AGENT_SCOPE, Principal
from mcp_spaces.identity.store import Identity
from mcp_spaces.spaces.port import Spaces

SPACES_PAGE = 200
Preset = Literal["restrictive", "standard", "permissive"]


class PrincipalView(Answer):
    id: str
    name: str
    kind: Kind
    policy: str
    scope: Scope


class PrincipalList(Answer):
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


class WiderSpace(Answer):
    id: str
    name: str
    preset: str
    wider: list[str]
    """The keys of its policy in which it is wider than the principal may choose now."""


class Granted(PrincipalView):
    wider_spaces: list[WiderSpace] | None = None
    """Of the principal's own, where a policy was given."""
    hint: str | None = None


async def list_principals(context: Context, _: Everywhere) -> PrincipalList:
    return PrincipalList(principals=[_view(one) for one in context.use(Identity).principals()])


async def add_principal(context: Context, wanted: PrincipalAddInput) -> PrincipalView:
    principal = await context.use(Identity).add(wanted.name, kind=wanted.kind, scope=AGENT_SCOPE, policy=AGENT_POLICY)
    return _view(principal)


async def grant_principal(context: Context, wanted: PrincipalGrantInput) -> Granted:
    identity = context.use(Identity)
    before: list[Principal] = []
    # What is there from before may be of another version of mcp-spaces.
    kept = identity.get(wanted.principal).scope.operations
    check_patterns(context, (one for one in wanted.scope.operations or () if one not in kept))

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
        **dict(_view(changed)),
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


def _view(principal: Principal) -> PrincipalView:
    return PrincipalView(
        id=principal.id, name=principal.name, kind=principal.kind, policy=principal.policy, scope=principal.scope
    )


PRINCIPAL_LIST = Operation(
    id="principal.list",
    summary="Who may call, and with what scope.",
    input=Everywhere,
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


OPERATIONS: tuple[AnyOperation, ...] = (PRINCIPAL_LIST, PRINCIPAL_ADD, PRINCIPAL_GRANT)
