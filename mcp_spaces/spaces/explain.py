"""`policy.explain`: the verdict on a call, without making it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel, Field

from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Facts, ShellFacts
from mcp_spaces.core.operation import Operation, id_of
from mcp_spaces.core.pipeline import Pipeline
from mcp_spaces.core.place import InSpace
from mcp_spaces.core.policy import explain
from mcp_spaces.core.policy.long_commands import judged
from mcp_spaces.core.widening import who_widens
from mcp_spaces.errors import InvalidInput, NotFound


class ExplainInput(InSpace):
    command: str | None = Field(default=None, max_length=65536)
    """A shell command; or name an operation."""
    operation: str | None = Field(default=None, max_length=64)
    input: Mapping[str, Any] = Field(default={})
    """The operation's input."""


class Explanation(BaseModel):
    decision: str
    rule: str
    reason: str
    suggestion: str | None = None
    commands: list[str] | None = None


async def explain_policy(context: Context, wanted: ExplainInput) -> Explanation:
    if (wanted.command is None) == (wanted.operation is None):
        raise InvalidInput("Name either a command or an operation.", hint='For example command="git push".')
    facts: Facts
    pipeline = context.use(Pipeline)
    if wanted.command is not None:
        operation, facts = pipeline.operations["sandbox.shell"], ShellFacts(wanted.command)
    else:
        named = pipeline.operations.get(id_of(wanted.operation or ""))
        if named is None or named not in pipeline.permitted(context.caller):
            raise NotFound("No such operation.", hint="context_get topic=operations lists them.")
        operation, facts = named, named.facts(pipeline.parse(named, wanted.input))
    if refusal := operation.refusal(context.scope):
        return Explanation(
            decision="deny",
            rule=refusal,
            reason=f"{operation.id} is outside the scope here.",
            suggestion=f"Do without it; {who_widens(operation, context.caller, context.space.ceiling)}.",
        )
    judge = partial(explain, context.policy, operation_id=operation.id, effect=operation.effect, facts=facts)
    verdict = await judged(facts, judge)
    return Explanation(
        decision=verdict.decision,
        rule=verdict.rule,
        reason=verdict.reason,
        suggestion=verdict.suggestion or None,
        commands=list(verdict.commands) or None,
    )


EXPLAIN = Operation(
    id="policy.explain",
    summary="The verdict on a command or call, without running it.",
    input=ExplainInput,
    output=Explanation,
    effect=Effect.OBSERVES,
    handler=explain_policy,
    idempotent=True,
    example={"space": "work", "command": "git push"},
)
