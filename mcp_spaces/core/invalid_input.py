"""pydantic's findings, as one sentence that says what to change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mcp_spaces.core.one_or_several import written
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.core.plain_words import NO_OBJECT, SHAPES, findings, sentences_of
from mcp_spaces.errors import InvalidInput

NUMBER_MAX = (1 << 63) - 1
"""What a database and a file offset can hold."""
EXAMPLE_MAX = 300
_NAMES = frozenset({"extra_forbidden", "missing"})
DEPTH_MAX = 32
"""Levels of nesting in an input; whatever walks over one may do so by recursion."""


def explain_validation(operation: AnyOperation, error: ValidationError) -> InvalidInput:
    """Names the argument, what is wrong with it, and what there is. Never repeats the value."""
    found = findings(error)
    model, where = _nearest(operation.input, found)
    known = ", ".join(name if one.is_required() else f"{name}?" for name, one in model.model_fields.items())
    hint = f"{f'In {where}' if where else 'Arguments'}: {known or 'none'}.{_example(operation, found)}"
    return InvalidInput(f"{operation.id}: " + "; ".join(sentences_of(error)) + ".", hint=hint)


def _example(operation: AnyOperation, found: Iterable[ErrorDetails]) -> str:
    """Of an argument that has another shape, where the operation's example has one."""
    for one in found:
        if one["type"] in SHAPES and len(one["loc"]) == 1 and (name := str(one["loc"][0])) in operation.example:
            return f" For example {name}={json.dumps(operation.example[name], ensure_ascii=False)[:EXAMPLE_MAX]}"
    return ""


def _nearest(model: type[BaseModel], found: Iterable[ErrorDetails]) -> tuple[type[BaseModel], str]:
    """Where the first name is unknown or missing, or something else than an object: what has such names there, and its
    place; none for the input itself."""
    location = next((_object_of(one) for one in found if one["type"] in _NAMES | NO_OBJECT), ())
    inner = model
    for part in location:
        if not isinstance(part, int):
            field = inner.model_fields.get(part)
            models = _models_in(None if field is None else field.annotation)
            if len(models) != 1:
                return model, ""
            (inner,) = models
    return inner, ".".join(map(str, location))


def _object_of(finding: ErrorDetails) -> tuple[int | str, ...]:
    place = written(finding["loc"])
    return place if finding["type"] in NO_OBJECT else place[:-1]


def _models_in(annotation: object) -> set[type[BaseModel]]:
    """`tuple[Edit, ...] | None` holds Edit."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for one in get_args(annotation) for model in _models_in(one)}


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
