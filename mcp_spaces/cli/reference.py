"""`python -m mcp_spaces.cli.reference FOLDER`: docs/reference, written from the catalogue, the errors and the settings.

The same code gives the same bytes; `make check` compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mcp_spaces import errors, settings
from mcp_spaces.browser.steps.arguments import signature
from mcp_spaces.browser.steps.kinds import Kind
from mcp_spaces.browser.steps.page_methods import METHODS
from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.cli.command_line import command_line
from mcp_spaces.cli.derived import NOUNS
from mcp_spaces.cli.fields import Argument, arguments_of, schemas_of
from mcp_spaces.core.operation import AnyOperation, always, never

NOTE = "<!-- Written by `make docs` from the code. Change that instead. -->\n"
DEFAULT_CHARACTERS = 60
DEPTH = 3
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


def pages() -> dict[str, str]:
    """Each file's name and text."""
    found = {f"{noun}.md": _noun_page(noun) for noun in NOUNS}
    rest = {"browser-steps.md": _steps(), "errors.md": _errors(), "settings.md": _settings()}
    return {"README.md": _index(), **found, **rest}


def write(folder: Path) -> None:
    """Write the pages, and remove pages that are none any more."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for stale in folder.glob("*.md"):
        if stale.name not in wanted:
            stale.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, "utf-8")


def _index() -> str:
    lines = [
        NOTE,
        "# Reference\n",
        "Every operation, as an MCP tool and as a command. Tools marked ○ are called through `operation_call`;"
        " those marked ● are the operator's alone. [Errors](errors.md) · [Settings](settings.md) · [Steps](browser-steps.md)\n",
    ]
    for noun, summary in NOUNS.items():
        lines += [f"## [{noun}]({noun}.md)\n", f"{summary}\n", "| operation | | |", "|---|---|---|"]
        for one in _of(noun):
            mark = "●" if one.audience == "operator" else "" if one.listed else "○"
            lines.append(f"| [`{one.id}`]({noun}.md#{_anchor(one)}) | {mark} | {_cell(one.summary)} |")
        lines.append("")
    return "\n".join(lines)


def _noun_page(noun: str) -> str:
    lines = [NOTE, f"# {noun}\n", f"{NOUNS[noun]} [All nouns](README.md)\n"]
    for one in _of(noun):
        lines += _operation(one)
    return "\n".join(lines)


def _steps() -> str:
    lines = [
        NOTE,
        "# What steps may call\n",
        "For [`browser.execute`](browser.md#browserexecute); how steps work is in [browser steps](../browser-steps.md).\n",
    ]
    for kind in Kind:
        lines += [f"## {kind}\n", "| call | gives | judged as | |", "|---|---|---|---|"]
        found = (one for one in METHODS if one.on is kind)
        lines += [_row(f"`{signature(one)}`", str(one.returns), one.use.value, one.summary) for one in found]
        lines.append("")
    return "\n".join(lines)


def _operation(one: AnyOperation) -> Iterator[str]:
    hints = one.hints
    hinted = {"read-only": hints.read_only, "destructive": hints.destructive, "idempotent": one.idempotent}
    said = ", ".join(name if holds else f"not {name}" for name, holds in hinted.items())
    if one.audience == "operator":
        who = "the operator only"
    else:
        who = "everyone whose scope permits it" + ("" if one.listed else "; called through `operation_call`")
    yield f"## {one.id}\n"
    yield f"{one.summary}\n"
    yield "| | |\n|---|---|"
    yield f"| tool | `{one.tool}` |"
    yield f"| command | `mcp-spaces {one.noun} {one.verb.replace('_', '-')}` |"
    yield f"| effect | {one.effect}: {said} |"
    yield f"| who | {who} |"
    if one.needs_running_space:
        yield "| needs | a running space |"
    if one.needs_pin is not never:
        some = "" if one.needs_pin is always else ", when it changes what may be reached"
        yield f"| asks | an operator for the PIN, where one is set{some} |"
    yield ""
    yield from _input(one)
    yield from _output(one)
    yield "Example\n"
    yield "```sh"
    yield command_line(one, one.example)
    yield "```\n"
    yield "```json"
    yield json.dumps({"name": one.tool, "arguments": one.example}, ensure_ascii=False)
    yield "```\n"


def _input(one: AnyOperation) -> Iterator[str]:
    arguments = {argument.name: argument for argument in arguments_of(one)}
    if not arguments:
        yield "Takes no arguments.\n"
        return
    yield "| argument | flag | type | default | limits | meaning |"
    yield "|---|---|---|---|---|---|"
    for path, field, schema in _fields(one.input):
        argument = arguments.get(path)
        flag = "" if argument is None else _flag(argument, first=next(iter(arguments)))
        kind = f"`{_type(field.annotation)}`"
        yield _row(f"`{path}`", flag, kind, _default(field), _limits(schema), field.description or "")
    yield ""


def _flag(argument: Argument, *, first: str) -> str:
    if argument.always_asked:
        return "asked for"
    return f"`{argument.placeholder if argument.positional and argument.name == first else argument.flag}`"


def _fields(model: type[BaseModel], at: str = "", depth: int = 0) -> Iterator[tuple[str, FieldInfo, dict[str, Any]]]:
    """Every field, and after each object those inside it, as `policy.preset` or `edits[].old`."""
    schemas = schemas_of(model)
    for name, field in model.model_fields.items():
        yield at + name, field, schemas.get(name, {})
        inner = _object_in(field.annotation)
        if inner is not None and depth < DEPTH:
            kind, many = inner
            yield from _fields(kind, f"{at}{name}{'[]' if many else ''}.", depth + 1)


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


def _output(one: AnyOperation) -> Iterator[str]:
    fields = one.output.model_fields
    if not fields or set(fields) == {"root"}:
        yield f"Answers {_doc(one.output) or 'nothing'}.\n"
        return
    yield "| answer | type | meaning |"
    yield "|---|---|---|"
    for name, field in fields.items():
        yield _row(f"`{name}`", f"`{_type(field.annotation)}`", field.description or "")
    yield ""


def _errors() -> str:
    heading, tree, remarks = (part.splitlines() for part in (errors.__doc__ or "").strip().split("\n\n"))
    lines = [NOTE, "# Errors\n", *heading, "", "```", *tree, "```\n"]
    lines += ["| code | retryable | details | meaning |", "|---|---|---|---|"]
    for kind in errors.SpacesError.__subclasses__():
        own = [name for name in kind.__init__.__annotations__ if name not in ("message", "hint", "return")]
        meaning = next((line.split(kind.code, 1)[1] for line in tree if f" {kind.__name__} " in line), "")
        meaning = meaning.replace("(retryable)", "").strip()
        details = ", ".join(f"`{name}`" for name in own)
        lines.append(_row(f"`{kind.code}`", "yes" if kind.retryable else "", details, meaning))
    lines += ["", " ".join(remarks), ""]
    lines.append(
        'Tools answer an error with `isError` and text of message and hint; `_meta["mcp-spaces/error"]` holds'
        " `code`, `message`, `hint`, `retryable` and `details`. Commands print both to stderr and end with 1.\n"
    )
    return "\n".join(lines)


def _settings() -> str:
    lines = [
        NOTE,
        "# Settings\n",
        "Environment variables of the daemon, read once when it starts. Lists are separated by commas. What holds whoever"
        f" starts it stands in `{settings.FILE}` of the state folder, by its name in small letters without"
        f" `{settings.PREFIX}`; a variable wins over it. `{'` and `'.join(map(_variable, sorted(settings.VARIABLE_ONLY)))}`"
        " are variables only.\n",
        "```toml",
        "http_port = 8765",
        'sandbox_images = ["python:3.13-slim", "node:22-slim"]',
        "```\n",
        "| variable | type | default | limits | meaning |",
        "|---|---|---|---|---|",
    ]
    schemas = schemas_of(settings.Settings)
    for name, field in settings.Settings.model_fields.items():
        default = "`~/.local/state/mcp-spaces`" if name == "state_dir" else _default(field)
        variable = f"`{_variable(name)}`"
        kind = f"`{_type(field.annotation)}`"
        lines.append(_row(variable, kind, default, _limits(schemas[name]), field.description or ""))
    lines += [
        "",
        "Of the commands: `MCP_SPACES_SERVER` and `MCP_SPACES_KEY` (see `mcp-spaces --help`);"
        " `mcp-spaces stdio` connects as the principal of `MCP_SPACES_KEY`, where there is one.\n",
    ]
    return "\n".join(lines)


def _variable(setting: str) -> str:
    return settings.PREFIX + setting.upper()


def _of(noun: str) -> list[AnyOperation]:
    return [operation for operation in CATALOGUE if operation.noun == noun]


def _anchor(one: AnyOperation) -> str:
    return one.id.replace(".", "")


def _row(*cells: str) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _default(field: FieldInfo) -> str:
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


def _limits(schema: Mapping[str, Any]) -> str:
    found = [words.format(f"{schema[key]:,}" if isinstance(schema[key], int) else schema[key])
             for key, words in LIMITS.items() if key in schema]  # fmt: skip
    return ", ".join(found)


def _type(annotation: Any) -> str:
    """A type as people write it; a model by the names of its fields."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        names = [_type(one) for one in inner if one is not type(None)]
        if len(names) > UNION_SHOWN:
            return f"one of {len(names)} objects"
        return " | ".join(names) + (" or null" if type(None) in inner else "")
    if origin is Literal:
        return " | ".join(json.dumps(one) for one in inner)
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _type(inner[0])
    if origin in (list, tuple, set, frozenset):
        return f"list of {_type(inner[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"map of {_type(inner[1])}"
    if annotation is Any or annotation is object:
        return "any"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if set(annotation.model_fields) == {"root"}:
            return _type(annotation.model_fields["root"].annotation)
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


def _doc(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().rstrip(".").lower()


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mcp_spaces.cli.reference FOLDER")
    write(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
