"""Input schemas as small as they can be: models pay for each byte of `tools/list`, on every turn.

No titles, no references, no `anyOf` with null, no `additionalProperties` (the pipeline refuses unknown arguments with a
sentence). Some clients strip limits and defaults, so short ones are repeated in the description.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

DROPPED = frozenset({"title", "discriminator", "additionalProperties", "$defs", "examples"})
UNBOUNDED = 1 << 53
"""Limits from here on are there for the machine, not for the reader."""


def input_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a tool's arguments: an object at the root, without `anyOf`, `oneOf` or `allOf` there."""
    whole = model.model_json_schema(by_alias=True, mode="validation")
    schema: dict[str, Any] = _compact(whole, whole.get("$defs", {}), ())
    schema.pop("description", None)  # the model's docstring: the tool has its summary
    return {"type": "object", "properties": {}} | schema


def _compact(node: Any, definitions: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_compact(one, definitions, inside) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = str(node["$ref"]).rpartition("/")[2]
        if name in inside:
            return {"type": "object"}  # recursive: the depth that a client can show ends here
        rest = {key: value for key, value in node.items() if key != "$ref"}
        definition = {key: value for key, value in definitions[name].items() if key != "description"}
        return _compact({**definition, **rest}, definitions, (*inside, name))
    node = _without_null(node)
    compact: dict[str, Any] = {}
    for key, value in node.items():
        if key in DROPPED and not (key == "additionalProperties" and isinstance(value, dict)):
            continue
        if key == "properties":
            # Names of arguments are not keywords, whatever they are called.
            compact[key] = {name: _compact(one, definitions, inside) for name, one in value.items()}
        elif key in ("default", "const", "enum"):
            compact[key] = value
        else:
            compact[key] = _compact(value, definitions, inside)
    return _described(compact)


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    """`X | None` with the default None is simply an optional X."""
    choices = node.get("anyOf")
    if not isinstance(choices, list) or {"type": "null"} not in choices:
        return node
    rest = [choice for choice in choices if choice != {"type": "null"}]
    others = {key: value for key, value in node.items() if key != "anyOf" and not (key == "default" and value is None)}
    return {**rest[0], **others} if len(rest) == 1 else {"anyOf": rest, **others}


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    low, high = _limit(schema.get("minimum")), _limit(schema.get("maximum"))
    notes = []
    if low and high:
        notes.append(f"{low}–{high}")
    elif high:
        notes.append(f"≤ {high}")
    default = schema.get("default")
    if default not in (None, "", [], {}) and len(str(default)) <= 20:
        notes.append(f"default {str(default).lower() if isinstance(default, bool) else default}")
    for unread in ("minimum", "maximum"):
        if isinstance(schema.get(unread), int | float) and schema[unread] >= UNBOUNDED:
            del schema[unread]
    if not notes:
        return schema
    said = schema.get("description", "").rstrip(".")
    return {**schema, "description": f"{said} ({', '.join(notes)})".strip()}


def _limit(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) and abs(value) < min(UNBOUNDED, 1e5) else ""
