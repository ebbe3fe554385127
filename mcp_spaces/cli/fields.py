"""An operation's input as a command line: which flags there are, and how their text becomes arguments."""

from __future__ import annotations

import json
import re
import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from mcp_spaces.cli.shapes import shape_of
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.server.schemas import tool_schema

LONG_TEXTS = frozenset({"command", "content", "stdin", "text"})
"""What may come from a file or from standard input. A path that begins with @ is a path."""
NULL = "null"
PATCH = "patch"
"""A mapping of mappings: its keys may be paths, as `limits.cpu_cores`."""
ENCODING, BASE64 = "encoding", "base64"
"""Operations that have such a field take any bytes."""
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


class Unreadable(ValueError):
    """The text of a flag is not what the flag takes."""


class NotText(Unreadable):
    """A file or standard input holds other bytes than UTF-8."""

    def __init__(self, message: str, content: bytes) -> None:
        super().__init__(message)
        self.content = content


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


def read(arguments: Sequence[Argument], given: Mapping[str, Any]) -> dict[str, Any]:
    """The operation's arguments; what was not given is left to its default. Raises Unreadable."""
    texts = {
        one.name: given[one.name] for one in arguments if given.get(one.name) not in (None, [], (), *_unasked(one))
    }
    found: dict[str, Any] = {}
    for one in arguments:
        if one.name not in texts and not one.always_asked:
            continue
        try:
            found[one.name] = _value(one, texts.get(one.name))
        except NotText as problem:
            if not any(other.name == ENCODING for other in arguments) or texts.get(ENCODING, BASE64) != BASE64:
                raise
            found |= {one.name: b64encode(problem.content).decode(), ENCODING: BASE64}
    return found


def _unasked(argument: Argument) -> tuple[bool, ...]:
    """`--no-notes` says something only where there may be none."""
    return (False,) if argument.kind is Kind.SECRET and not argument.nullable else ()


def asked_secret(name: str, *, twice: bool = False) -> str:
    """Typed without echo; where nobody types, the next line of standard input. Raises Unreadable."""
    if sys.stdin.isatty():
        from getpass import getpass

        found = getpass(f"{name}: ")
        if twice and getpass(f"{name} again: ") != found:
            raise Unreadable(f"{name}: it was typed differently the second time.")
    else:
        found = sys.stdin.readline().removesuffix("\n")
    if not found:
        raise Unreadable(f"{name}: nothing was given.")
    return found


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


def _value(argument: Argument, given: Any) -> Any:
    match argument.kind:
        case Kind.FLAG | Kind.TEXT:
            return given
        case Kind.LONG_TEXT:
            return _text(argument, given)
        case Kind.SECRET:
            return None if given is False else asked_secret(argument.name, twice=argument.required)
        case Kind.LIST:
            return [] if argument.nullable and list(given) == [""] else list(given)
        case Kind.INTEGER | Kind.NUMBER:
            return _number(argument, given)
        case Kind.MAPPING:
            return _mapping(argument, given)
        case Kind.JSON:
            text = _text(argument, given)
            if given.startswith("@") and given.endswith(".toml"):
                return _toml(argument, given, text)
            return None if argument.nullable and text == NULL else _json(argument, text)


def _text(argument: Argument, given: str) -> str:
    """`@file` is a file's content, `-` what comes on standard input, `@@…` a text that begins with @."""
    if given.startswith("@@"):
        return given[1:]
    try:
        if given == "-":
            return sys.stdin.buffer.read().decode()
        if given.startswith("@"):
            return Path(given[1:]).expanduser().read_bytes().decode()
    except OSError as error:
        raise Unreadable(f"{argument.flag}: {given}: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise NotText(f"{argument.flag}: {given} is not UTF-8 text.", error.object) from None
    return given


def _number(argument: Argument, given: str) -> int | float | None:
    if argument.nullable and given == NULL:
        return None
    try:
        return int(given) if argument.kind is Kind.INTEGER else float(given)
    except ValueError:
        raise Unreadable(f"{argument.flag}: {given!r} is no {argument.kind.value.lower()}.") from None


def _mapping(argument: Argument, given: Sequence[str]) -> dict[str, Any]:
    """Each is `KEY=VALUE`, where VALUE is JSON or plain text, or a JSON object, or `@file` with one."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if text[:1] in ("{", "@", "-") and not (equals and name.isidentifier()):
            whole = _json(argument, _text(argument, text))
            if not isinstance(whole, dict):
                raise Unreadable(f"{argument.flag}: a JSON object is needed.")
            found.update(whole)
        elif not equals:
            raise Unreadable(f"{argument.flag}: {text!r} is neither KEY=VALUE nor a JSON object.")
        else:
            path = name.split(".") if argument.name == PATCH else [name]
            _put(found, path, value if argument.text_values else _loose(value), argument)
    return found


def _put(found: dict[str, Any], path: Sequence[str], value: Any, argument: Argument) -> None:
    for name in path[:-1]:
        inner = found.setdefault(name, {})
        if not isinstance(inner, dict):
            raise Unreadable(f"{argument.flag}: {'.'.join(path)} stands in what was set already.")
        found = inner
    found[path[-1]] = value


def _loose(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json(argument: Argument, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        if text[:1] not in ("{", "[", '"'):
            return text  # a union's plain side
        raise Unreadable(f"{argument.flag}: not JSON: {error}.") from None


def _toml(argument: Argument, given: str, text: str) -> Any:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Unreadable(f"{argument.flag}: {given} is not TOML: {error}.") from None


def checked(operation: AnyOperation, values: Mapping[str, Any]) -> BaseModel:
    """The input itself, for what a command line can get wrong. Raises Unreadable."""
    from pydantic import ValidationError

    from mcp_spaces.core.invalid_input import explain_validation

    try:
        found: BaseModel = operation.input.model_validate(dict(values))
    except ValidationError as error:
        raise Unreadable(explain_validation(operation, error).message) from None
    return found
