"""The command that gives an operation these arguments, as one would type it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from mcp_spaces.cli.fields import NULL, Argument, Kind, arguments_of
from mcp_spaces.core.operation import AnyOperation


def command_line(operation: AnyOperation, example: Mapping[str, object]) -> str:
    """The command that gives these arguments."""
    words = ["mcp-spaces", operation.noun, operation.verb.replace("_", "-")]
    arguments = arguments_of(operation)
    for one in arguments:
        if one.name not in example:
            continue
        value = example[one.name]
        if one.always_asked:
            continue
        if one.positional and one is arguments[0]:
            words.append(_quoted(str(value)))
        elif one.kind in (Kind.FLAG, Kind.SECRET):
            is_said = value is not None if one.kind is Kind.SECRET else value
            words.append(one.flag if is_said else f"--no-{one.flag[2:]}")
        else:
            words += [word for text in _texts(one, value) for word in (one.flag, _quoted(text))]
    return " ".join(words)


def _quoted(text: str) -> str:
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\t", "\\t") + "'"


def _texts(argument: Argument, value: object) -> list[str]:
    match argument.kind, value:
        case Kind.LIST, list() | tuple() if value or not argument.nullable:
            return [str(one) for one in value]
        case Kind.LIST | Kind.TEXT, None | [] | ():
            return [""]
        case Kind.MAPPING, dict() if value:
            return [f"{name}={text if isinstance(text, str) else json.dumps(text)}" for name, text in value.items()]
        case _, str():
            return [value]
        case _:
            return [NULL if value is None else json.dumps(value)]
