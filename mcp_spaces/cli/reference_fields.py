"""The fields of a model as the reference's tables have them: path, type, default and limits, as people write them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mcp_spaces.cli.fields import schemas_of

DEFAULT_CHARACTERS = 60
DEPTH = 3
"""Of objects in objects; what is further down is told as the names of its fields."""
UNION_SHOWN = 4
LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "maxProperties": "at most {} entries",
    "pattern": "`{}`",
}


def fields_below(
    model: type[BaseModel], at: str = "", depth: int = 0
) -> Iterator[tuple[str, FieldInfo, dict[str, Any]]]:
    """Every field, and after each object those inside it, as `policy.preset` or `edits[].old`."""
    schemas = schemas_of(model)
    for name, field in model.model_fields.items():
        yield at + name, field, schemas.get(name, {})
        inner = _object_in(field.annotation)
        if inner is not None and depth < DEPTH:
            kind, many = inner
            yield from fields_below(kind, f"{at}{name}{'[]' if many else ''}.", depth + 1)


def _object_in(annotation: Any) -> tuple[type[BaseModel], bool] | None:
    """The one model in a field's type, and whether there may be many of it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation, False) if set(annotation.model_fields) != {"root"} else None
    if origin in (Union, UnionType):
        models = [found for one in inner if (found := _object_in(one)) is not None]
        return models[0] if len(models) == 1 else None
    if origin in (list, tuple):
        found = _object_in(inner[0])
        return None if found is None else (found[0], True)
    return None


def default_of(field: FieldInfo) -> str:
    """Empty where it says nothing: null, nothing, an object as it begins."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    match value:
        case None | "" | () | [] | {}:
            return ""
        case _ if value is PydanticUndefined:
            return ""
        case BaseModel():
            text = value.model_dump_json(exclude_defaults=True)
            return "" if text == "{}" else f"`{text}`"
        case bool():
            return f"`{str(value).lower()}`"
        case int() if value >= 1 << 20 and value % (1 << 20) == 0:
            return f"`{value}` ({value >> 20} MiB)"
        case _:
            return f"`{str(value)[:DEFAULT_CHARACTERS]}`"


def limits_of(schema: Mapping[str, Any]) -> str:
    """Of a field's JSON Schema, in words."""
    found = [words.format(f"{schema[key]:,}" if isinstance(schema[key], int) else schema[key])
             for key, words in LIMITS.items() if key in schema]  # fmt: skip
    return ", ".join(found)


def type_of(annotation: Any) -> str:
    """A type as people write it; a model by the names of its fields."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        names = [type_of(one) for one in inner if one is not type(None)]
        if len(names) > UNION_SHOWN:
            return f"one of {len(names)} objects"
        return " | ".join(names) + (" or null" if type(None) in inner else "")
    if origin is Literal:
        return " | ".join(json.dumps(one) for one in inner)
    if origin is not None and hasattr(annotation, "__metadata__"):
        return type_of(inner[0])
    if origin in (list, tuple, set, frozenset):
        return f"list of {type_of(inner[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"map of {type_of(inner[1])}"
    if annotation is Any or annotation is object:
        return "any"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if set(annotation.model_fields) == {"root"}:
            return type_of(annotation.model_fields["root"].annotation)
        return f"{{{', '.join(annotation.model_fields)}}}"
    if isinstance(annotation, type) and hasattr(annotation, "__members__"):
        return " | ".join(json.dumps(str(one)) for one in annotation.__members__.values())
    return {
        "str": "text",
        "SecretStr": "secret",
        "int": "integer",
        "float": "number",
        "bool": "boolean",
        "Path": "path",
    }.get(getattr(annotation, "__name__", ""), str(getattr(annotation, "__name__", annotation)))
