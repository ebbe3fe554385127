"""`mcp-spaces install`: tell an MCP client how to reach us."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mcp_spaces.cli import exits, show
from mcp_spaces.cli.clients import TOKEN_VARIABLE, Client, NotPossible, Scope, claude_command, entry, launch


def install(
    context: typer.Context,
    client: Annotated[Client, typer.Option("--client", help="Whose configuration.")],
    scope: Annotated[
        Scope, typer.Option("--scope", help="For every project of this user, or only in this folder.")
    ] = Scope.USER,
    http: Annotated[
        str | None, typer.Option("--http", metavar="URL", help="Connect to this URL instead of over stdio.")
    ] = None,
    print_only: Annotated[bool, typer.Option("--print", help="Write nothing, print what would be written.")] = False,
) -> None:
    """Write the configuration of an MCP client. What is there stays; a copy of the old file is kept."""
    from mcp_spaces.cli import config_files

    ours = launch(os.environ)
    try:
        wanted = entry(
            client, scope, url=http, launch=ours, home=Path.home(), project=Path.cwd(), platform=sys.platform
        )
    except NotPossible as problem:
        raise typer.BadParameter(str(problem), ctx=context) from None
    if print_only:
        show.say(f"{wanted.file} would hold:")
        show.print_prose(config_files.snippet(wanted))
    else:
        try:
            before = config_files.read(wanted.file)
            after = config_files.text_with(wanted, before)
            if after == before:
                show.print_line(f"{wanted.file} has it already: nothing was changed")
            else:
                copy = config_files.write(wanted.file, after)
                show.print_line(f"wrote {wanted.file}" + (f"; the old one is {copy}" if copy else ""))
        except config_files.LeftAlone as reason:
            show.say_error(f"{reason}, so nothing was changed.", "Put this into it yourself:")
            show.print_prose(config_files.snippet(wanted))
            raise typer.Exit(exits.REFUSED) from None
    if http is not None and client is not Client.VSCODE:
        show.say(f"The client reads the key from {TOKEN_VARIABLE}: mcp-spaces key create LABEL")
    if client is Client.CLAUDE_CODE:
        show.say("The same through Claude Code:")
        show.print_line(f"  {claude_command(scope, url=http, launch=ours)}")
    else:
        show.say(f"Restart {client.value} to use it.")
