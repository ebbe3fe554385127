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
    refusal: str | None
    if wanted.command is not None:
        effect, operation_id, facts = Effect.EXECUTES, "sandbox.shell", ShellFacts(wanted.command)
        refusal = None if context.scope.permits_operation(operation_id) else "scope.operations"
    else:
        pipeline = context.use(Pipeline)
        operation = pipeline.operations.get(id_of(wanted.operation or ""))
        if operation is None or operation not in pipeline.permitted(context.caller):
            raise NotFound("No such operation.", hint="context_get topic=operations lists them.")
        effect, operation_id = operation.effect, operation.id
        facts = operation.facts(pipeline.parse(operation, wanted.input))
        refusal = operation.refusal(context.scope)
    if refusal is not None:
        return Explanation(decision="deny", rule=refusal, reason=f"{operation_id} is outside the scope here.")
    judge = partial(explain, context.policy, operation_id=operation_id, effect=effect, facts=facts)
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
