"""Agent Context: the document that tells an agent where it is and what it may do.

What is listed would succeed now; what is refused says why, and what to do instead (`judgement.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.json_schema import input_schema
from mcp_spaces.core.operation import AnyOperation, Operation, id_of, named_alike
from mcp_spaces.core.pipeline import Pipeline
from mcp_spaces.core.place import InSpace
from mcp_spaces.core.scope import Scope, covers, narrow
from mcp_spaces.core.spelling import Spelled
from mcp_spaces.errors import NotFound
from mcp_spaces.spaces.judgement import Judgement, Refusal, judge, judge_nowhere
from mcp_spaces.spaces.model import Runtime, inherited_again
from mcp_spaces.spaces.port import Runtimes
from mcp_spaces.spaces.rules import rules_in_words
from mcp_spaces.spaces.store import SpaceStore
from mcp_spaces.spaces.views import MountsView, RuntimeView, SpaceView, SpaceViews, Use, runtime_view


class ContextInput(InSpace):
    runtime: str | None = Field(default=None, max_length=200)
    """Narrow to one runtime."""
    topic: Annotated[
        str,
        StringConstraints(max_length=64, pattern=r"^[a-z_.]+$"),
        Spelled("all, space, operations, rules, examples, or an operation's id"),
    ] = "all"
    """all, space, operations, rules, examples, or an operation's id for its schema."""
    detail: Literal["compact", "full"] = "compact"


class OperationView(BaseModel):
    """`tool` is left out where it is the id with `_` for `.`; `asks` is set where a person has to say yes first,
    `refused` where it would not succeed now. Summary, schema and example come with detail full, or topic=<id>."""

    id: str
    tool: str | None = None
    summary: str | None = None
    asks: str | None = None
    refused: str | None = None
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
    operations: list[OperationView] | None = None
    refused: list[Refused] | None = None
    examples: list[Mapping[str, object]] | None = None
    links: Mapping[str, str] | None = None


PARTS: Mapping[str, frozenset[str]] = {
    "all": frozenset({"space", "runtimes", "rules", "operations", "refused", "links"}),
    "space": frozenset({"space", "runtimes"}),
    "operations": frozenset({"operations", "refused"}),
    "rules": frozenset({"rules"}),
    "examples": frozenset({"examples"}),
}
"""What a topic holds. Besides these, an operation's id is a topic."""
BEHIND_SHOWN = 4


async def get_context(context: Context, wanted: ContextInput) -> AgentContext:
    operations = context.use(Pipeline).permitted(context.caller)
    if context.place is None:
        return AgentContext(operations=[_alone(judge_nowhere(context.caller, operations), wanted.topic)])
    space = context.use(SpaceStore).resolve(context.caller, context.space.id)
    judged_by = runtimes = context.use(Runtimes).of_space(space.id)
    scope = narrow(context.caller.scope, space.ceiling)
    if wanted.runtime is not None:
        runtimes = [one for one in runtimes if wanted.runtime in (one.id, one.alias)]
        if not runtimes:
            raise NotFound("No such runtime.", hint="sandbox_list shows what there is.")
        # Beside a browser there may be sandboxes all the same.
        judged_by = runtimes + [one for one in judged_by if one.kind is not runtimes[0].kind]
        scope = narrow(scope, runtimes[0].ceiling)
    judged = judge(context.caller, context.space, judged_by, operations)
    parts = PARTS.get(wanted.topic)
    if names_operation(wanted):
        return AgentContext(operations=[_alone(judged, wanted.topic)])
    if parts is None:
        raise NotFound(f"No topic {wanted.topic!r}.", hint=f"Topics: {', '.join(PARTS)}, or an operation's id.")
    is_full = wanted.detail == "full"
    if is_full and wanted.topic == "all":
        parts = parts | {"examples"}
    document = AgentContext(
        space=_space(context.use(SpaceViews).whole(context.caller, space)),
        runtimes=[runtime_view(one) for one in runtimes],
        rules=[
            *rules_in_words(context.space.policy, scope, names_commands=is_full and wanted.topic == "rules"),
            *_behind(narrow(context.caller.scope, space.ceiling), runtimes),
        ],
        operations=[_permitted(one, full=is_full) for one in judged if one.refusal is None],
        refused=_refused(judged) or None,
        examples=[
            _example(one.operation, one.operation.example)
            for one in judged
            if one.refusal is None and one.operation.example
        ],
        links={
            "context": f"space://{space.id}/context",
            "runtime_context": f"space://{space.id}/runtimes/{{runtime}}/context",
            "schema_of": "context_get topic=<operation id>",
        },
    )
    return AgentContext(**{name: getattr(document, name) for name in parts})


def names_operation(wanted: ContextInput) -> bool:
    return wanted.topic not in PARTS and re.search("[._]", wanted.topic) is not None


def _behind(scope: Scope, runtimes: list[Runtime]) -> list[str]:
    """Runtimes that were launched before the space got what it has by now: nothing else tells why it is not there."""
    behind = [one.alias for one in runtimes if not covers(one.ceiling, inherited_again(scope, one))]
    if not behind:
        return []
    names = ", ".join(behind[:BEHIND_SHOWN])
    return [
        f"Launched before the space got all it has: {names}. Stop it, and launch its alias again to take that over."
    ]


def _example(operation: AnyOperation, example: Mapping[str, object]) -> Mapping[str, object]:
    """A call as a client of tools/list can make it."""
    if operation.listed:
        return {"tool": operation.tool, "arguments": example}
    return {"tool": "operation_call", "arguments": {"operation": operation.id, "input": example}}


def _space(view: SpaceView) -> ContextSpace:
    return ContextSpace(
        id=view.id,
        name=view.name,
        role=view.role,
        state=view.state,
        policy=view.policy.preset,
        mounts=view.mounts,
        limits=view.limits,
        expires_at=view.expires_at,
    )


def _permitted(judged: Judgement, *, full: bool) -> OperationView:
    operation = judged.operation
    view = OperationView(id=operation.id, tool=None if operation.listed else "operation_call", asks=judged.asks)
    if not full:
        return view
    return view.model_copy(
        update={
            "summary": operation.summary,
            "input_schema": input_schema(operation),
            "example": operation.example,
        }
    )


def _refused(judged: list[Judgement]) -> list[Refused]:
    by_reason: dict[Refusal, list[str]] = {}
    for one in judged:
        if one.refusal is not None:
            by_reason.setdefault(one.refusal, []).append(one.operation.id)
    return [Refused(ids=ids, why=refusal.why, instead=refusal.instead) for refusal, ids in by_reason.items()]


def _alone(judged: list[Judgement], operation_id: str) -> OperationView:
    found = next((one for one in judged if one.operation.id == id_of(operation_id)), None)
    if found is None:
        alike = named_alike(operation_id, (one.operation for one in judged))
        raise NotFound(f"No operation {operation_id!r}.", hint=alike or "context_get topic=operations lists them.")
    refused = None if found.refusal is None else f"{found.refusal.why}; {found.refusal.instead}"
    return _permitted(found, full=True).model_copy(update={"refused": refused})


GET = Operation(
    id="context.get",
    summary="Where you are and what you may do: space, runtimes, limits, rules, operations.",
    input=ContextInput,
    output=AgentContext,
    effect=Effect.OBSERVES,
    handler=get_context,
    idempotent=True,
    # What a first space may be made with is asked for before there is one.
    without_space=lambda wanted: wanted.runtime is None and names_operation(wanted),
    example={"space": "work"},
)
