"""A call within a call: a child run."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from mcp_spaces.core.context import Context, Progress, no_progress
from mcp_spaces.core.pipeline import Outcome, Pipeline


async def call_child(
    context: Context, operation_id: str, arguments: Mapping[str, object], *, progress: Progress = no_progress
) -> BaseModel:
    """The answer of another operation. Raises as the pipeline does."""
    return (await child_outcome(context, operation_id, arguments, progress=progress)).output


async def child_outcome(
    context: Context, operation_id: str, arguments: Mapping[str, object], *, progress: Progress = no_progress
) -> Outcome:
    """Another operation, under this caller, and never under more than this call's scope. Raises as the pipeline does."""
    return await context.use(Pipeline).call(
        context.caller,
        operation_id,
        arguments,
        parent_id=context.run_id,
        scope=context.scope,
        progress=progress,
        redactor=context.redactor,
    )
