"""Agent Context: the document that tells an agent where it is and what it may do.

The list of operations comes from the same predicates that the pipeline applies, over each operation's example where
facts are needed: what is listed would succeed now, what is not listed would be refused (threat T14).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, Field

from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.json_schema import input_schema
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InSpace
from mcp_spaces.core.policy import Allow, Ask, Deny, Policy, decide
from mcp_spaces.core.scope import Scope, narrow
from mcp_spaces.errors import NotFound
from mcp_spaces.spaces.model import Runtime, RuntimeState, SpaceState
from mcp_spaces.spaces.port import Runtimes
from mcp_spaces.spaces.rules import rules_in_words
from mcp_spaces.spaces.store import SpaceStore
from mcp_spaces.spaces.views import MountsView, RuntimeView, SpaceViews, Use, runtime_view

Topic = Literal["all", "space", "operations", "rules", "examples"]


class ContextInput(InSpace):
    runtime: str | None = Field(default=None, max_length=200)
    """Narrow to one runtime."""
    topic: str = Field(default="all", max_length=64, pattern=r"^[a-z_.]+$")
    """all, space, operations, rules, examples, or an operation's id for its schema."""
    detail: Literal["compact", "full"] = "compact"


class PermittedOperation(BaseModel):
    """`tool` is left out where it is the id with `_` for `.`; `asks` is set where a person has to say yes first.
    Summary, schema and example come with detail full, or topic=<id>."""

    id: str
    tool: str | None = None
    summary: str | None = None
    asks: str | None = None
    input_schema: Mapping[str, object] | None = None
    example: Mapping[str, object] | None = None


class Refused(BaseModel):
    """Operations that would not succeed now, for one and the same reason."""

    ids: list[str]
    why: str
    instead: str


class ContextSpace(BaseModel):
    id: str
    name: str
    role: str
    state: str
    policy: str
    mounts: MountsView
    limits: Mapping[str, Use]
    expires_at: str | None = None


class AgentContext(BaseModel):
    space: ContextSpace | None = None
    runtimes: list[RuntimeView] | None = None
    rules: list[str] | None = None
    operations: list[PermittedOperation] | None = None
    refused: list[Refused] | None = None
    examples: list[Mapping[str, object]] | None = None
    links: Mapping[str, str] | None = None


async def get_context(context: Context, wanted: ContextInput) -> AgentContext:
    space = context.use(SpaceStore).resolve(context.caller, context.space.id)
    runtimes = context.use(Runtimes).of_space(space.id)
    scope = narrow(context.caller.scope, space.ceiling)
    chosen = None
    if wanted.runtime is not None:
        chosen = next((one for one in runtimes if wanted.runtime in (one.id, one.alias)), None)
        if chosen is None:
            raise NotFound("No such runtime.", hint="sandbox_list shows what there is.")
        runtimes, scope = [chosen], narrow(scope, chosen.ceiling)
    running = space.state is SpaceState.RUNNING
    judge = _Judge(scope, context.space.policy, running=running, runtimes=runtimes, space_name=space.name)
    known = context.pipeline.permitted(context.caller)
    if "." in wanted.topic:
        return AgentContext(operations=[_one(judge, known, wanted.topic)])
    whole = context.use(SpaceViews).whole(context.caller, space)
    permitted = [found for operation in known if (found := judge.permitted(operation, full=wanted.detail == "full"))]
    parts = AgentContext(
        space=ContextSpace(
            id=space.id,
            name=space.name,
            role=whole.role,
            state=space.state,
            policy=whole.policy.preset,
            mounts=whole.mounts,
            limits=whole.limits,
            expires_at=whole.expires_at,
        ),
        runtimes=[runtime_view(one) for one in runtimes],
        rules=rules_in_words(context.space.policy, scope),
        operations=permitted,
        refused=_grouped(judge, known) or None,
        examples=_examples(permitted, known),
        links={
            "context": f"space://{space.id}/context",
            "runtime_context": f"space://{space.id}/runtimes/{{runtime}}/context",
            "schema_of": "context_get topic=<operation id>",
        },
    )
    keep: Mapping[str, set[str]] = {
        "all": {"space", "runtimes", "rules", "operations", "refused", "links"},
        "space": {"space", "runtimes"},
        "operations": {"operations", "refused"},
        "rules": {"rules"},
        "examples": {"examples"},
    }
    wanted_parts = keep.get(wanted.topic)
    if wanted_parts is None:
        raise NotFound(f"No topic {wanted.topic!r}.", hint=f"Topics: {', '.join(keep)}, or an operation's id.")
    if wanted.detail == "full" and wanted.topic == "all":
        return parts
    return AgentContext(**{name: getattr(parts, name) for name in wanted_parts})


class _Judge:
    """Would this operation succeed here and now? The pipeline's own predicates, without calling anything."""

    def __init__(
        self, scope: Scope, policy: Policy, *, running: bool, runtimes: list[Runtime], space_name: str
    ) -> None:
        self._scope = scope
        self._policy = policy
        self._running = running
        self._runtimes = runtimes
        self._space_name = space_name

    def permitted(self, operation: AnyOperation, *, full: bool) -> PermittedOperation | None:
        if self.refused(operation) is not None:
            return None
        verdict = self._verdict(operation)
        return PermittedOperation(
            id=operation.id,
            tool=None if operation.listed else "operation_call",
            summary=operation.summary if full else None,
            asks=verdict.reason if isinstance(verdict, Ask) else None,
            input_schema=input_schema(operation) if full else None,
            example=operation.example if full else None,
        )

    def refused(self, operation: AnyOperation) -> tuple[str, str] | None:
        """Why not, and what to do instead; None when nothing stands in the way."""
        if operation.refusal(self._scope):
            return ("outside the scope here", "a person can widen the space's ceiling")
        if operation.needs_running_space and not self._running:
            return ("the space is stopped", f"space_up space={self._space_name}")
        if operation.in_runtime and not self._has_active(operation):
            return ("no active runtime", f"sandbox_launch space={self._space_name}")
        verdict = self._verdict(operation)
        if isinstance(verdict, Deny):
            return (f"{verdict.reason} ({verdict.rule})", verdict.suggestion)
        return None

    def _verdict(self, operation: AnyOperation) -> Allow | Ask | Deny:
        facts = operation.facts(operation.input.model_validate(operation.example))
        return decide(self._policy, operation_id=operation.id, effect=operation.effect, facts=facts)

    def _has_active(self, operation: AnyOperation) -> bool:
        states = (RuntimeState.ACTIVE, RuntimeState.STARTING)
        return operation.on_stopped_runtime or any(one.state in states for one in self._runtimes)


def _grouped(judge: _Judge, known: tuple[AnyOperation, ...]) -> list[Refused]:
    by_reason: dict[tuple[str, str], list[str]] = {}
    for operation in known:
        reason = judge.refused(operation)
        if reason is not None:
            by_reason.setdefault(reason, []).append(operation.id)
    return [Refused(ids=ids, why=why, instead=instead) for (why, instead), ids in by_reason.items()]


def _one(judge: _Judge, known: tuple[AnyOperation, ...], operation_id: str) -> PermittedOperation:
    operation = next((one for one in known if one.id == operation_id), None)
    if operation is None:
        raise NotFound(f"No operation {operation_id!r}.", hint="context_get topic=operations lists them.")
    found = judge.permitted(operation, full=True)
    if found is not None:
        return found
    refused = judge.refused(operation)
    return PermittedOperation(
        id=operation.id,
        summary=operation.summary,
        asks=None if refused is None else f"refused now: {refused[0]}; {refused[1]}",
        input_schema=input_schema(operation),
        example=operation.example,
    )


def _examples(permitted: list[PermittedOperation], known: tuple[AnyOperation, ...]) -> list[Mapping[str, object]]:
    names = {one.id for one in permitted}
    return [{"tool": one.tool, "arguments": one.example} for one in known if one.id in names and one.example]


GET = Operation(
    id="context.get",
    summary="Where you are and what you may do: space, runtimes, limits, rules, operations.",
    input=ContextInput,
    output=AgentContext,
    effect=Effect.OBSERVES,
    handler=get_context,
    idempotent=True,
    example={"space": "work"},
)
