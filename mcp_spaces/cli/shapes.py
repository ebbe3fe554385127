"""What a flag that takes JSON wants, as short as it can be said: `{mode: none|allowlist|open, allow: […]}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

ELLIPSIS = "…"


def shape_of(model: type[BaseModel], field: str) -> str:
    """Of one field of an input, from its whole JSON Schema; empty where that says no more than "some object"."""
    whole = model.model_json_schema()
    said = _shape(whole["properties"][field], whole.get("$defs", {}))
    return said if ":" in said or "," in said else ""


def _shape(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    match schema:
        case {"$ref": str(name)}:
            return _shape(definitions[name.rpartition("/")[2]], definitions)
        case {"anyOf": list(choices)} | {"oneOf": list(choices)}:
            # The first is the one to write; the others are what it may be left as.
            return _shape(choices[0], definitions)
        case {"enum": list(choices)}:
            return "|".join(map(str, choices))
        case {"type": "array", "items": dict(items)}:
            return f"[{_shape(items, definitions) or ELLIPSIS}]"
        case {"properties": dict(members)}:
            return "{" + ", ".join(_member(name, one, definitions) for name, one in members.items()) + "}"
        case {"type": "boolean"}:
            return "true|false"
        case {"type": "object"}:
            return "{" + ELLIPSIS + "}"
        case _:
            return ""


def _member(name: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    inner = _shape(schema, definitions)
    return f"{name}: {inner}" if inner else name
