"""An operation's input as a command line: which flags there are, and what each takes; `reading.py` reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_args

from pydantic import BaseModel

from mcp_spaces.cli.shapes import shape_of
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.server.schemas import tool_schema

LONG_TEXTS = frozenset({"command", "content", "stdin", "text"})
"""What may come from a file or from standard input. A path that begins with @ is a path."""
NULL = "null"
"""How what may be left empty is emptied."""
ELSEWHERE = re.compile(r"\s*\(see context_get topic=[a-z_.]+\)")
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Kind(Enum):
    """How the text of a flag is read. The value is what help shows in its place."""

    TEXT = "TEXT"
    LONG_TEXT = "TEXT|@FILE|-"
    INTEGER = "INTEGER"
    NUMBER = "NUMBER"
    FLAG = ""
    LIST = "TEXT..."
    MAPPING = "KEY=VALUE"
    JSON = "JSON|@FILE|-"
    SECRET = "SECRET"  # noqa: S105 - a name
    """Never on the command line: the flag says that it will be asked for; one that is required always is, and one that
    there need not be is cleared by its `--no-…`."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One field of an input. `positional`: given by place, or by its flag all the same."""

    name: str
    kind: Kind
    required: bool
    nullable: bool
    positional: bool
    description: str
    choices: tuple[str, ...] = ()
    text_values: bool = False
    """A mapping whose values are text, also where they look like JSON."""

    @property
    def always_asked(self) -> bool:
        return self.kind is Kind.SECRET and self.required

    @property
    def flag(self) -> str:
        return "--" + CAMEL.sub("-", self.name).replace("_", "-").lower()

    @property
    def placeholder(self) -> str:
        if self.positional:
            return self.name.upper()
        return "|".join(self.choices) or self.kind.value


def arguments_of(operation: AnyOperation) -> tuple[Argument, ...]:
    """SPACE by place; where the operation is not about one space, its first required text by place instead, and where
    an operator calls it outside of any, before it."""
    properties, said = schemas_of(operation.input), tool_schema(operation)["properties"]
    fields = operation.input.model_fields
    found: list[Argument] = []
    places = _places(operation, properties)
    for name, field in fields.items():
        kind = _kind(name, properties[name])
        found.append(
            Argument(
                name=name,
                kind=kind,
                # What is deleted is named: the only space, or the one that is called default, is never meant silently.
                required=field.is_required() or (name == "space" and operation.id == "space.delete"),
                nullable=type(None) in get_args(field.annotation),
                positional=name in places,
                description=_description(operation, name, said[name], kind),
                choices=tuple(map(str, properties[name].get("enum", ()))),
                text_values=_holds_text(properties[name]),
            )
        )
    return tuple(sorted(found, key=lambda one: places.index(one.name) if one.positional else len(places)))


def _places(operation: AnyOperation, properties: Mapping[str, Mapping[str, Any]]) -> list[str]:
    fields = operation.input.model_fields.items()
    texts = (name for name, field in fields if field.is_required() and _kind(name, properties[name]) is Kind.TEXT)
    subject = list(texts)[:1] if not operation.in_space or operation.operator_anywhere else []
    return [*subject, *(["space"] if operation.in_space else [])]


def _description(operation: AnyOperation, name: str, said: Mapping[str, Any], kind: Kind) -> str:
    """What a tool's schema says, with the shape of JSON in the place where that leads to another call."""
    words = str(said.get("description", ""))
    if kind is not Kind.JSON or "{" in words:
        return words
    return ": ".join(part for part in (ELSEWHERE.sub("", words), shape_of(operation.input, name)) if part)


def schemas_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of each field, whole: references followed, and `T | None` as `T`."""
    whole = model.model_json_schema()
    definitions = whole.get("$defs", {})

    def followed(schema: Mapping[str, Any]) -> dict[str, Any]:
        if "$ref" in schema:
            return followed(definitions[schema["$ref"].rpartition("/")[2]])
        choices = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
        plain = followed(choices[0]) if len(choices) == 1 else dict(schema)
        return plain | ({"items": followed(plain["items"])} if isinstance(plain.get("items"), dict) else {})

    return {name: followed(schema) for name, schema in whole.get("properties", {}).items()}


def _holds_text(schema: Mapping[str, Any]) -> bool:
    match schema.get("additionalProperties"), schema.get("patternProperties"):
        case {"type": "string"}, _:
            return True
        case _, dict() as patterns:
            return all(one.get("type") == "string" for one in patterns.values())
        case _:
            return False


def _kind(name: str, schema: Mapping[str, Any]) -> Kind:
    match schema:
        case {"type": "string", "writeOnly": True}:
            return Kind.SECRET
        case {"type": "boolean"}:
            return Kind.FLAG
        case {"type": "integer"}:
            return Kind.INTEGER
        case {"type": "number"}:
            return Kind.NUMBER
        case {"type": "string"}:
            return Kind.LONG_TEXT if name in LONG_TEXTS else Kind.TEXT
        case {"type": "array", "items": {"type": "string"}}:
            return Kind.LIST
        case {"type": "object"} if "properties" not in schema:
            return Kind.MAPPING
        case _:
            return Kind.JSON
