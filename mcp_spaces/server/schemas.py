"""Input schemas as tools show them: what a model needs to fill in a call, and no more.

Models pay for each byte of `tools/list` on every turn. So limits and defaults stand in words only (some clients strip
their keywords anyway), large objects are named and not spelled out, and patterns are left to the pipeline, which
refuses what does not fit with a sentence. The whole schema of an operation: `context_get topic=<its id>`.
"""

from __future__ import annotations

from typing import Any

from mcp_spaces.core.json_schema import input_schema
from mcp_spaces.core.operation import AnyOperation

LARGEST_SAID = 100_000
DEFAULT_CHARACTERS_MAX = 20
SPELLED_OUT_MAX = 4
"""An object with more members than this is only named."""
SHOWN = ("type", "enum", "const")
EXPLAINED_ONCE = frozenset({"space", "runtime", "page", "namespace", "timeout_s"})
"""Arguments of nearly every tool: the server's instructions, or their names, say what they are."""


def tool_schema(operation: AnyOperation) -> dict[str, Any]:
    """An object at the root, without references, titles, or `anyOf` with null."""
    whole = input_schema(operation)
    brief: dict[str, Any] = {"type": "object", "properties": _properties(whole, operation.id)}
    if whole.get("required"):
        brief["required"] = whole["required"]
    return brief


def _properties(schema: dict[str, Any], operation_id: str) -> dict[str, Any]:
    return {
        name: {"type": one["type"]} if name in EXPLAINED_ONCE else _brief(one, operation_id)
        for name, one in schema.get("properties", {}).items()
    }


def _brief(schema: dict[str, Any], operation_id: str) -> dict[str, Any]:
    brief = {key: schema[key] for key in SHOWN if key in schema}
    notes = [*_range(schema), *_default(schema)]
    members = schema.get("properties", {})
    if "items" in schema:
        brief["items"] = _brief(schema["items"], operation_id)
    elif len(members) > SPELLED_OUT_MAX or any("properties" in one for one in members.values()):
        notes.append(f"see context_get topic={operation_id}")
    elif members:
        brief["properties"] = _properties(schema, operation_id)
        if schema.get("required"):
            brief["required"] = schema["required"]
    said = schema.get("description", "").rstrip(".")
    if notes:
        said = f"{said} ({', '.join(notes)})".strip()
    return {**brief, "description": said} if said else brief


def _range(schema: dict[str, Any]) -> list[str]:
    low, high = _short(schema.get("minimum")), _short(schema.get("maximum"))
    if low and high:
        return [f"{low}–{high}"]
    return [f"≤ {high}"] if high else []


def _short(limit: object) -> str:
    return f"{limit:g}" if isinstance(limit, int | float) and abs(limit) <= LARGEST_SAID else ""


def _default(schema: dict[str, Any]) -> list[str]:
    match schema.get("default"):
        # Models take an absent flag for false and an absent text for none without being told.
        case True:
            return ["default true"]
        case int() | float() | str() as value if value not in ("", 0) and len(str(value)) <= DEFAULT_CHARACTERS_MAX:
            return [] if str(value) in schema.get("description", "") else [f"default {value}"]
        case _:
            return []
