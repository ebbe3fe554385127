"""JSON Schemas as small as they can be: models read them with every request."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from mcp_spaces.core.operation import AnyOperation

_NOISE = frozenset({"title", "$defs", "uniqueItems"})


@lru_cache(maxsize=256)
def input_schema(operation: AnyOperation) -> dict[str, Any]:
    """An operation's input schema: no titles, no references, `T | None` as `T`, an object at the root.

    A class's own docstring is for readers of the code, so it is left out; field docstrings stay.
    """
    return schema_of(operation.input)


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The same of any model."""
    schema = model.model_json_schema()
    compact: dict[str, Any] = _compact(schema, schema.get("$defs", {}))
    compact.pop("description", None)
    compact.setdefault("properties", {})
    return compact


def _compact(node: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_compact(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = dict(definitions[node["$ref"].rpartition("/")[2]])
        target.pop("description", None)
        return _compact({**target, **{key: value for key, value in node.items() if key != "$ref"}}, definitions)
    if "anyOf" in node:
        choices = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
        if len(choices) == 1:
            rest = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
            return _compact({**choices[0], **rest}, definitions)
    compact: dict[str, Any] = {}
    for key, value in node.items():
        if key in _NOISE or (key == "default" and value in (None, {}, [])):
            continue
        if key == "properties":
            compact[key] = {name: _compact(child, definitions) for name, child in value.items()}
        else:
            compact[key] = _compact(value, definitions)
    return compact
