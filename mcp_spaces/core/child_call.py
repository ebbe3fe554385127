"""A call within a call: a child run."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from mcp_spaces.core.context import Context, Progress, no_progress
from mcp_spaces.core.pipeline import Pipeline


async def call_child(
    context: Context, operation_id: str, arguments: Mapping[str, object], *, progress: Progress = no_progress
) -> BaseModel:
    """Another operation, under this caller, and never under more than this call's scope. Raises as the pipeline does."""
    outcome = await context.use(Pipeline).call(
        context.caller,
        operation_id,
        arguments,
        parent_id=context.run_id,
        scope=context.scope,
        progress=progress,
        redactor=context.redactor,
    )
    return outcome.output
