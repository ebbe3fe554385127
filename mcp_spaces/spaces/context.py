"""Agent Context: the document that tells an agent where it is and what it may do.

The list of operations comes from the same predicates that the pipeline applies, over each operation's example where
facts are needed: what is listed would succeed now, what is not listed would be refused (threat T14).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, Field

from mcp_spaces.core.caller import Caller
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.json_schema import input_schema
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InSpace, SpacePlace
from mcp_spaces.core.policy import Allow, Ask, Deny, decide
from mcp_spaces.core.scope import narrow
from mcp_spaces.errors import NotFound
from mcp_spaces.spaces.model import Runtime, RuntimeState
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
    judge = _Judge(context.caller, context.space, runtimes)
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
    """Would this operation succeed here and now? The pipeline's own predicates, without calling anything.

    As there: the caller's scope and policy alone judge what is not about a space; a sandbox's scope what is in it.
    """

    def __init__(self, caller: Caller, place: SpacePlace, runtimes: list[Runtime]) -> None:
        self._caller = caller
        self._place = place
        self._here = narrow(caller.scope, place.ceiling)
        self._runtimes = runtimes

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
        scope = self._here if operation.in_space else self._caller.scope
        if not scope.permits_operation(operation.id):
            return ("outside the scope here", "a person can widen the space's ceiling")
        if operation.needs_running_space and not self._place.running:
            return ("the space is stopped", f"space_up space={self._place.name}")
        if _is_about_a_runtime(operation) and (missing := self._no_runtime_for(operation)):
            return (missing, f"sandbox_launch space={self._place.name}")
        verdict = self._verdict(operation)
        if isinstance(verdict, Deny):
            return (f"{verdict.reason} ({verdict.rule})", verdict.suggestion)
        return None

    def _verdict(self, operation: AnyOperation) -> Allow | Ask | Deny:
        policy = self._place.policy if operation.in_space else self._caller.policy
        facts = operation.facts(operation.input.model_validate(operation.example))
        return decide(policy, operation_id=operation.id, effect=operation.effect, facts=facts)

    def _no_runtime_for(self, operation: AnyOperation) -> str | None:
        """Why there is no runtime that the operation works on."""
        usable = self._runtimes
        if operation.needs_running_space and not operation.on_stopped_runtime:
            usable = [one for one in usable if one.state is RuntimeState.ACTIVE]
        if not usable:
            return "no active runtime" if self._runtimes else "no runtime"
        if not any(one.ceiling.permits_operation(operation.id) for one in usable):
            return "outside the scope of the runtimes here"
        return None


def _is_about_a_runtime(operation: AnyOperation) -> bool:
    """Jobs are named without their sandbox, and are judged by it all the same."""
    return operation.in_runtime or operation.noun == "job"


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
