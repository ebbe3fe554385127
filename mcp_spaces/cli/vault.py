"""`mcp-spaces vault set` and `vault import`: how secrets get in without passing a command line or a model."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mcp_spaces.cli import answers, calls


class Kind(StrEnum):
    VALUE = "value"
    LOGIN = "login"
    API_KEY = "api_key"


EXAMPLES = {
    "vault.set": "mcp-spaces vault set prod/github --kind api_key --origin https://api.github.com",
    "vault.import": "mcp-spaces vault import export.json --prefix imported --dry-run",
}
MAIN = {Kind.VALUE: "value", Kind.LOGIN: "password", Kind.API_KEY: "token"}


def set_secret(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="Such as prod/github.")],
    kind: Annotated[Kind, typer.Option(help="What it is.")] = Kind.VALUE,
    label: Annotated[str | None, typer.Option(help="For people.")] = None,
    username: Annotated[str | None, typer.Option(help="Of a login.")] = None,
    totp: Annotated[bool, typer.Option("--totp", help="Also ask for the seed of one-time codes.")] = False,
    notes: Annotated[bool, typer.Option("--notes", help="Also ask for notes.")] = False,
    origin: Annotated[
        list[str] | None, typer.Option("--origin", "--origins", help="Where it may be sent: https://api.example.com")
    ] = None,
    origin_pattern: Annotated[
        list[str] | None,
        typer.Option("--origin-pattern", "--origin-patterns", help="Sub-domains: https://*.example.com"),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "--headers", help="A request header that it may stand in.")
    ] = None,
    fields: Annotated[bool, typer.Option("--fields", help="Standard input is a JSON object of the fields.")] = False,
    as_json: calls.AsJson = False,
) -> None:
    """Store a secret, or the next version of one. It is asked for without echo, or read from standard input."""
    arguments: dict[str, Any] = {"path": path, "kind": str(kind)}
    given = {"label": label, "username": username, "origins": origin, "origin_patterns": origin_pattern}
    arguments |= {name: value for name, value in {**given, "headers": header}.items() if value}
    _check(arguments, MAIN[kind])
    wanted = [MAIN[kind], *(["totp"] if totp else []), *(["notes"] if notes else [])]
    arguments |= _object() if fields else _asked(wanted)
    answer = calls.call(context, "vault.set", arguments, as_json=as_json)
    answers.present("vault.set", answer, as_json=as_json)


def import_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A JSON or CSV export, on the daemon's machine.")],
    prefix: Annotated[str, typer.Option(help="Where to: PREFIX/FOLDER/NAME.")] = "imported",
    export_format: Annotated[
        str, typer.Option("--format", help="Seen from the content where it is left out.")
    ] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be stored, and store nothing.")] = False,
    as_json: calls.AsJson = False,
) -> None:
    """Store the secrets of a Bitwarden or 1Password export: all of them, or none. Delete the file afterwards."""
    arguments = {"file": str(file.absolute()), "prefix": prefix, "format": export_format, "dry_run": dry_run}
    answer = calls.call(context, "vault.import", arguments, as_json=as_json)
    answers.present("vault.import", answer, as_json=as_json)


def _check(arguments: dict[str, Any], name: str) -> None:
    """Before a person types a secret twice, only to learn that the path is spelled wrongly."""
    from mcp_spaces.catalogue import CATALOGUE
    from mcp_spaces.cli import reading

    (operation,) = (one for one in CATALOGUE if one.id == "vault.set")
    try:
        reading.checked(operation, {**arguments, name: "to be asked for"})
    except reading.Unreadable as problem:
        raise typer.BadParameter(str(problem)) from None


def _asked(names: list[str]) -> dict[str, str]:
    """Each typed twice without echo; or standard input: all of it for one field, a line for each of several."""
    if sys.stdin.isatty():
        return {name: typer.prompt(name, hide_input=True, confirmation_prompt=name != "totp") for name in names}
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise typer.BadParameter("standard input is not UTF-8 text.") from None
    if len(names) == 1:
        return _whole({names[0]: text.removesuffix("\n").removesuffix("\r")})
    lines = text.splitlines()
    if len(lines) != len(names):
        raise typer.BadParameter(f"standard input needs {len(names)} lines: {', '.join(names)}.")
    return _whole(dict(zip(names, lines, strict=True)))


def _whole(found: dict[str, str]) -> dict[str, str]:
    missing = [name for name, text in found.items() if not text]
    if missing:
        raise typer.BadParameter(f"standard input holds no {missing[0]}.")
    return found


def _object() -> dict[str, str]:
    try:
        found = json.loads(sys.stdin.buffer.read())
    except ValueError:
        raise typer.BadParameter("standard input is no JSON object.") from None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise typer.BadParameter("standard input has to be a JSON object of texts.")
    return found
