"""What was typed as a command line, read as the arguments of an operation."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mcp_spaces.cli.fields import NULL, Argument, Kind
from mcp_spaces.core.operation import AnyOperation

PATCH = "patch"
"""A mapping of mappings: its keys may be paths, as `limits.cpu_cores`."""
ENCODING, BASE64 = "encoding", "base64"
"""Operations that have such a field take any bytes."""


class Unreadable(ValueError):
    """The text of a flag is not what the flag takes."""


class NotText(Unreadable):
    """A file or standard input holds other bytes than UTF-8."""

    def __init__(self, message: str, content: bytes) -> None:
        super().__init__(message)
        self.content = content


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
        wrong = explain_validation(operation, error)
        # The names of the arguments themselves are those of the flags, which `--help` shows.
        raise Unreadable(f"{wrong.message} {wrong.hint}" if wrong.hint.startswith("In ") else wrong.message) from None
    return found
