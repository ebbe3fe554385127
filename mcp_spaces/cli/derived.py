"""`mcp-spaces NOUN VERB`: one command for each operation of the catalogue.

Building them imports every room, so that happens only once a noun was named.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from mcp_spaces.cli import answers, calls, show

if TYPE_CHECKING:
    from mcp_spaces.cli.fields import Argument
    from mcp_spaces.core.operation import AnyOperation

NOUNS = {
    "space": "Spaces: create, inspect, change, start, stop, delete.",
    "sandbox": "Sandboxes: launch, run commands, read and change files.",
    "browser": "Browsers: launch, look at pages, act on them, sign in.",
    "job": "Commands that run in the background.",
    "storage": "Files that outlive sandboxes.",
    "vault": "Secrets: kept sealed, used without being seen.",
    "network": "What sandboxes reached outside, and what was refused.",
    "run": "The record of every call.",
    "audit": "The chain that shows whether records were changed.",
    "state": "The database of this daemon.",
    "context": "What an agent is told about where it is.",
    "policy": "What policy would say.",
    "approval": "Calls that wait for a person's yes.",
    "principal": "Who may call, and with what scope.",
    "key": "Bearer keys for HTTP.",
    "pin": "What the operator has to type before anything is approved or widened.",
    "operation": "Any operation by its id.",
}
"""What `mcp-spaces --help` says without importing the catalogue. A test holds them together."""


class Noun(TyperGroup):
    """The commands of one noun, made when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [verb_of(operation) for operation in operations(self.name or "")]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        for operation in operations(self.name or ""):
            if verb_of(operation) == cmd_name:
                # Named now, so that a wrong verb is answered with the right ones.
                self.commands[cmd_name] = handwritten(operation) or command(operation)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        self.commands.update({name: self.commands.get(name) for name in self.list_commands(ctx)})  # type: ignore[misc]
        return super().resolve_command(ctx, args)


HANDWRITTEN = {"vault.import": "import_file", "vault.set": "set_secret"}
"""Operations whose command is more than its fields: functions of cli/vault.py."""


def noun(name: str) -> Any:
    return Noun(name=name, help=NOUNS[name], no_args_is_help=True)


def operations(noun_name: str) -> Iterator[AnyOperation]:
    from mcp_spaces.catalogue import CATALOGUE

    return (operation for operation in CATALOGUE if operation.noun == noun_name)


def verb_of(operation: AnyOperation) -> str:
    return operation.verb.replace("_", "-")


def handwritten(operation: AnyOperation) -> Any:
    if operation.id not in HANDWRITTEN:
        return None
    from mcp_spaces.cli import vault

    single = typer.Typer(add_completion=False)
    run = getattr(vault, HANDWRITTEN[operation.id])
    single.command(verb_of(operation), epilog=f"Example: {vault.EXAMPLES[operation.id]}")(run)
    return typer.main.get_command(single)


def command(operation: AnyOperation) -> Any:
    """A typer command with a flag for each field of the operation's input."""
    from rich.markup import escape

    from mcp_spaces.cli import fetch, fields, reading
    from mcp_spaces.cli.by_place import FLAG, ByPlace
    from mcp_spaces.cli.command_line import command_line

    arguments = fields.arguments_of(operation)
    asks = operation.verb == "delete"

    def run(ctx: typer.Context, **given: Any) -> None:
        as_json = given.pop("as_json")
        yes = given.pop("yes", False)
        output = given.pop("output", None)
        try:
            values = reading.read(arguments, given)
            reading.checked(operation, values)
        except reading.Unreadable as problem:
            raise typer.BadParameter(str(problem), ctx=ctx) from None
        if asks and not yes and sys.stdin.isatty():
            what = ", ".join(
                f"{name} {show.cell('', value)}" for name, value in values.items() if isinstance(value, str)
            )
            typer.confirm(f"{verb_of(operation).capitalize()} {what} for good?", abort=True, err=True)
        if output is not None:
            fetch.fetch(ctx, operation.id, values, to=output, as_json=as_json)
            return
        answer = calls.call(ctx, operation.id, values, as_json=as_json)
        answers.present(operation.id, answer, as_json=as_json)

    parameters = [inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
    parameters += [_parameter(argument) for argument in arguments if not argument.always_asked]
    for argument in arguments:
        if argument.positional:
            by_flag = Annotated[str | None, typer.Option(argument.flag, hidden=True)]
            parameters.append(_keyword(argument.name + FLAG, by_flag, default=None))
    parameters.append(_keyword("as_json", calls.AsJson))
    if asks:
        parameters.append(_keyword("yes", Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]))
    if fetch.fetches(operation.id):
        parameters.append(_keyword("output", fetch.Output, default=None))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    single = typer.Typer(add_completion=False)
    example = escape(command_line(operation, operation.example))
    declared = single.command(
        verb_of(operation), cls=ByPlace, help=escape(operation.summary), epilog=f"Example: {example}"
    )
    declared(run)
    return typer.main.get_command(single)


def _keyword(name: str, annotation: Any, *, default: Any = False) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _parameter(argument: Argument) -> inspect.Parameter:
    from rich.markup import escape

    from mcp_spaces.cli.fields import Kind

    words = escape(argument.description)
    kind: Any = str
    if argument.kind in (Kind.FLAG, Kind.SECRET):
        kind = bool
    elif argument.kind in (Kind.LIST, Kind.MAPPING):
        kind = list[str]
    info: Any
    if argument.positional:
        info = typer.Argument(help=words, metavar=argument.placeholder, show_default=False)
    elif argument.kind is Kind.SECRET:
        asked = "Asked for, never on the command line."
        flags = f"{argument.flag}/--no-{argument.flag[2:]}" if argument.nullable else argument.flag
        info = typer.Option(flags, help=f"{words}. {asked}" if words else asked, show_default=False)
    elif argument.kind is Kind.FLAG:
        info = typer.Option(f"{argument.flag}/--no-{argument.flag[2:]}", help=words, show_default=False)
    else:
        info = typer.Option(argument.flag, help=words, metavar=argument.placeholder, show_default=False)
    return inspect.Parameter(
        argument.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if argument.required else None,
        annotation=Annotated[kind if argument.required else kind | None, info],
    )
