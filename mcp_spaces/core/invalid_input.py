"""pydantic's findings, as one sentence that says what to change."""

from __future__ import annotations

from pydantic import ValidationError

from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.errors import InvalidInput

SHOWN = 3


def explain_validation(operation: AnyOperation, error: ValidationError) -> InvalidInput:
    """Names the argument, what is wrong with it, and what there is. Never repeats the value."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    sentences = [_sentence(problem["loc"], problem["type"], problem["msg"]) for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        sentences.append(f"and {len(problems) - SHOWN} more")
    fields = operation.input.model_fields
    known = ", ".join(name if field.is_required() else f"{name}?" for name, field in fields.items())
    return InvalidInput(f"{operation.id}: " + "; ".join(sentences) + ".", hint=f"Arguments: {known or 'none'}.")


def _sentence(location: tuple[int | str, ...], kind: str, message: str) -> str:
    where = ".".join(str(part)[:64] for part in location) or "arguments"
    if kind == "extra_forbidden":
        return f"{where} is unknown"
    if kind == "missing":
        return f"{where} is missing"
    return f"{where}: {message[:200].removeprefix('Value error, ')}"
