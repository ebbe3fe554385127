"""Input schemas as tools show them: the catalogue's compact ones, with short limits and defaults also in words.

Some clients strip limits and defaults before the model sees them. `additionalProperties` is left out: models pay for
each byte of `tools/list` on every turn, and the pipeline refuses an unknown argument with a sentence anyway.
"""

from __future__ import annotations

from typing import Any

from mcp_spaces.core.json_schema import input_schema
from mcp_spaces.core.operation import AnyOperation

LARGEST_SAID = 100_000
DEFAULT_CHARACTERS_MAX = 20


def tool_schema(operation: AnyOperation) -> dict[str, Any]:
    """An object at the root, without references, titles, or `anyOf` with null."""
    schema: dict[str, Any] = _in_words(input_schema(operation))
    return schema


def _in_words(node: Any) -> Any:
    if isinstance(node, list):
        return [_in_words(one) for one in node]
    if not isinstance(node, dict):
        return node
    described: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            # Names of arguments are not keywords, whatever they are called.
            described[key] = {name: _in_words(one) for name, one in value.items()}
        elif key in ("default", "const", "enum", "example"):
            described[key] = value
        elif key != "additionalProperties" or value is not False:
            described[key] = _in_words(value)
    notes = [*_range(described), *_default(described)]
    if notes:
        said = described.get("description", "").rstrip(".")
        described["description"] = f"{said} ({', '.join(notes)})".strip()
    return described


def _range(schema: dict[str, Any]) -> list[str]:
    low, high = _short(schema.get("minimum")), _short(schema.get("maximum"))
    if low and high:
        return [f"{low}–{high}"]
    return [f"≤ {high}"] if high else []


def _short(limit: object) -> str:
    return f"{limit:g}" if isinstance(limit, int | float) and abs(limit) <= LARGEST_SAID else ""


def _default(schema: dict[str, Any]) -> list[str]:
    match schema.get("default"):
        case bool() as yes:
            return [f"default {str(yes).lower()}"]
        case int() | float() | str() as value if value != "" and len(str(value)) <= DEFAULT_CHARACTERS_MAX:
            return [f"default {value}"]
        case _:
            return []
