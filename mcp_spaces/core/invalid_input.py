"""pydantic's findings, as one sentence that says what to change."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import ValidationError

from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.core.plain_words import SHAPES, sentences_of
from mcp_spaces.errors import InvalidInput

NUMBER_MAX = (1 << 63) - 1
"""What a database and a file offset can hold."""
EXAMPLE_MAX = 300
DEPTH_MAX = 32
"""Levels of nesting in an input; whatever walks over one may do so by recursion."""


def explain_validation(operation: AnyOperation, error: ValidationError) -> InvalidInput:
    """Names the argument, what is wrong with it, and what there is. Never repeats the value."""
    sentences = sentences_of(error)
    fields = operation.input.model_fields
    known = ", ".join(name if field.is_required() else f"{name}?" for name, field in fields.items())
    hint = f"Arguments: {known or 'none'}.{_example(operation, error)}"
    return InvalidInput(f"{operation.id}: " + "; ".join(sentences) + ".", hint=hint)


def _example(operation: AnyOperation, error: ValidationError) -> str:
    """Of an argument that has another shape, where the operation's example has one."""
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        if one["type"] in SHAPES and len(one["loc"]) == 1 and (name := str(one["loc"][0])) in operation.example:
            return f" For example {name}={json.dumps(operation.example[name], ensure_ascii=False)[:EXAMPLE_MAX]}"
    return ""


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


def number_from_yes_or_no(given: object, taken: object, name: str = "") -> str | None:
    """The argument whose true or false pydantic took for 1 or 0, such as `edits.0.line` (threat T13)."""
    if isinstance(given, bool):
        return name if type(taken) in (int, float) else None
    if isinstance(given, Mapping):
        inside = [(key, one, _member(taken, key)) for key, one in given.items()]
    elif isinstance(given, list | tuple) and isinstance(taken, list | tuple):
        inside = [(number, one, other) for number, (one, other) in enumerate(zip(given, taken, strict=False))]
    else:
        return None
    found = (number_from_yes_or_no(one, other, f"{name}.{key}".lstrip(".")) for key, one, other in inside)
    return next(filter(None, found), None)


def _member(taken: object, name: object) -> object:
    return taken.get(name) if isinstance(taken, Mapping) else getattr(taken, str(name), None)
