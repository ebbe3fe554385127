"""The commands there are. Importing this has to stay cheap: everything heavy is imported by the command that needs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import mcp_spaces
from mcp_spaces.cli import calls, connect, derived, doctor, exits, install, port_forward, serve, shortcuts, show, stop

USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""What cannot be understood of a command line; typer has no name for it."""
EVERYDAY = "Everyday"
SETUP = "Setting up"
EVERYTHING = "Every operation"


class Commands(TyperGroup):
    """The commands written by hand, and a group for each noun of the catalogue."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*self.commands, *(name for name in derived.NOUNS if name not in self.commands)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands and cmd_name in derived.NOUNS:
            group = derived.noun(cmd_name)
            group.rich_help_panel = EVERYTHING
            return group
        return self.commands.get(cmd_name)

    def invoke(self, ctx: Any) -> Any:
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except USAGE_ERROR as error:
            if as_json:
                calls.print_error(error.format_message(), hint=f"Run: {_help_of(error)}", code="invalid_input")
            raise
        except typer.Abort as left:
            # A prompt makes the same of Ctrl-C, of an end of input and of a no.
            if isinstance(left.__context__, KeyboardInterrupt):
                show.say("cancelled")
                raise typer.Exit(exits.CANCELLED) from None
            raise


def _help_of(error: Any) -> str:
    return f"{error.ctx.command_path if error.ctx else 'mcp-spaces'} --help"


app = typer.Typer(
    name="mcp-spaces",
    cls=Commands,
    no_args_is_help=True,
    # Their tracebacks show local variables, and those may be secrets.
    pretty_exceptions_enable=False,
    help="A place for coding agents to work: sandboxes, files and records, within a ceiling that nothing raises.",
    epilog="Exit codes: 0 done, 1 refused or failed, 2 usage, 3 no daemon, 130 cancelled, 141 nobody reads.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mcp-spaces {mcp_spaces.__version__}")
        raise typer.Exit


@app.callback()
def remember_target(
    context: typer.Context,
    server: Annotated[
        str | None, typer.Option(envvar=calls.SERVER_VARIABLE, help="A remote daemon's URL, ending in /mcp.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help=f"Holds the key for it; else {calls.KEY_VARIABLE} does.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    context.obj = calls.Target(server=server, key_file=key_file)


EXAMPLES = {
    "list": "mcp-spaces list --json",
    "approve": "mcp-spaces approve ap_aaaaaaaaaaaaaaaaaaaaaaaaaa",
    "runs": "mcp-spaces runs --space work --limit 50",
    "connect": "mcp-spaces connect work main",
    "port-forward": "mcp-spaces port-forward work main 8000 3000",
    "install": "mcp-spaces install --client claude-code",
    "doctor": "mcp-spaces doctor --json",
    "backup": "mcp-spaces backup /srv/backups/spaces.db --include-files",
    "serve": "mcp-spaces serve --http-port 8080",
    "stop": "mcp-spaces stop --wait-s 60",
    "stdio": "mcp-spaces stdio",
}


def _command(name: str, panel: str, run: Callable[..., None]) -> None:
    app.command(name, rich_help_panel=panel, epilog=f"Example: {EXAMPLES[name]}")(run)


_command("list", EVERYDAY, shortcuts.list_spaces)
_command("approve", EVERYDAY, shortcuts.approve)
_command("runs", EVERYDAY, shortcuts.runs)
_command("connect", EVERYDAY, connect.connect)
_command("port-forward", EVERYDAY, port_forward.port_forward)
_command("install", SETUP, install.install)
_command("doctor", SETUP, doctor.doctor)
_command("backup", SETUP, shortcuts.backup)
_command("serve", SETUP, serve.serve)
_command("stop", SETUP, stop.stop)
_command("stdio", SETUP, serve.stdio)
