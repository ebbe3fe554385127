"""`python -m mcp_spaces.cli.reference FOLDER`: docs/reference, written from the catalogue, the errors and the settings.

The same code gives the same bytes; `make check` compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from mcp_spaces import errors, settings
from mcp_spaces.browser.steps.arguments import signature
from mcp_spaces.browser.steps.kinds import Kind
from mcp_spaces.browser.steps.page_methods import METHODS
from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.cli.command_line import command_line
from mcp_spaces.cli.derived import NOUNS
from mcp_spaces.cli.fields import Argument, arguments_of, schemas_of
from mcp_spaces.cli.reference_fields import default_of, fields_below, limits_of, type_of
from mcp_spaces.core.operation import AnyOperation, always, never

NOTE = "<!-- Written by `make docs` from the code. Change that instead. -->\n"


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
    for path, field, schema in fields_below(one.input):
        argument = arguments.get(path)
        flag = "" if argument is None else _flag(argument, first=next(iter(arguments)))
        kind = f"`{type_of(field.annotation)}`"
        yield _row(f"`{path}`", flag, kind, default_of(field), limits_of(schema), field.description or "")
    yield ""


def _flag(argument: Argument, *, first: str) -> str:
    if argument.always_asked:
        return "asked for"
    return f"`{argument.placeholder if argument.positional and argument.name == first else argument.flag}`"


def _output(one: AnyOperation) -> Iterator[str]:
    fields = one.output.model_fields
    if not fields or set(fields) == {"root"}:
        yield f"Answers {_doc(one.output) or 'nothing'}.\n"
        return
    yield "| answer | type | meaning |"
    yield "|---|---|---|"
    for name, field in fields.items():
        yield _row(f"`{name}`", f"`{type_of(field.annotation)}`", field.description or "")
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
        default = "`~/.local/state/mcp-spaces`" if name == "state_dir" else default_of(field)
        variable = f"`{_variable(name)}`"
        kind = f"`{type_of(field.annotation)}`"
        lines.append(_row(variable, kind, default, limits_of(schemas[name]), field.description or ""))
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


def _doc(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().rstrip(".").lower()


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mcp_spaces.cli.reference FOLDER")
    write(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
