"""pydantic's findings, as one sentence that says what to change."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.errors import InvalidInput

SHOWN = 3
NUMBER_MAX = (1 << 63) - 1
"""What a database and a file offset can hold."""
DEPTH_MAX = 32
"""Levels of nesting in an input; whatever walks over one may do so by recursion."""


def explain_validation(operation: AnyOperation, error: ValidationError) -> InvalidInput:
    """Names the argument, what is wrong with it, and what there is. Never repeats the value."""
    sentences = sentences_of(error)
    fields = operation.input.model_fields
    known = ", ".join(name if field.is_required() else f"{name}?" for name, field in fields.items())
    return InvalidInput(f"{operation.id}: " + "; ".join(sentences) + ".", hint=f"Arguments: {known or 'none'}.")


def sentences_of(error: ValidationError, *, without: int = 0) -> list[str]:
    """A sentence, without its full stop, for each of the first findings. `without`: parts of a place that its reader
    did not write."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    # A list whose only item is wrong is told to be too short as well.
    inner = {one["loc"][:depth] for one in found for depth in range(len(one["loc"]))}
    problems = [one for one in found if one["loc"] not in inner]
    sentences = [_sentence(one["loc"][without:], one["type"], one["msg"]) for one in problems[:SHOWN]]
    if len(problems) > SHOWN:
        sentences.append(f"and {len(problems) - SHOWN} more")
    return sentences


def is_deeper_than(value: object, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            child
            for one in level
            for child in (one.values() if isinstance(one, Mapping) else one if isinstance(one, list | tuple) else ())
        ]
        if not level:
            return False
    return True


def holds_a_huge_number(value: object) -> bool:
    """Of a value that is not too deep."""
    if isinstance(value, int):
        return abs(value) > NUMBER_MAX
    if isinstance(value, Mapping):
        return any(holds_a_huge_number(one) for one in value.values())
    return isinstance(value, list | tuple) and any(holds_a_huge_number(one) for one in value)


def _sentence(location: tuple[int | str, ...], kind: str, message: str) -> str:
    where = ".".join(str(part)[:64] for part in location) or "arguments"
    if kind == "extra_forbidden":
        return f"{where} is unknown"
    if kind == "missing":
        return f"{where} is missing"
    if kind in ("model_type", "model_attributes_type", "dict_type", "mapping_type"):
        return f"{where} has to be an object"
    if kind in ("tuple_type", "list_type"):
        return f"{where} has to be a list"
    if kind in ("too_short", "too_long"):
        # "Tuple should have at least 1 item after validation, not 0"
        message = message.partition(" ")[2].partition(" after validation")[0]
    return f"{where}: {message[:200].removeprefix('Value error, ')}"
