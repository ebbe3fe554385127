"""`mcp-spaces install`: tell an MCP client how to reach us."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mcp_spaces.cli import calls, show
from mcp_spaces.cli.clear_text import check_server
from mcp_spaces.cli.clients import (
    TOKEN_VARIABLE,
    Client,
    Entry,
    NotPossible,
    Scope,
    claude_command,
    entry,
    launch,
    not_carried_over,
)
from mcp_spaces.cli.wire import Refusal


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
    as_json: calls.AsJson = False,
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
    with calls.failures(as_json=as_json):
        if http is not None:
            check_server(http)
        written, copy = (False, None) if print_only else _written(wanted)
    if as_json:
        held = {"file": str(wanted.file), "written": written, "copy": str(copy) if copy else None}
        show.print_json({**held, "text": config_files.snippet(wanted)})
        return
    if print_only:
        show.say(f"{wanted.file} would hold:")
        show.print_prose(config_files.snippet(wanted))
    elif not written:
        show.print_line(f"{wanted.file} has it already: nothing was changed")
    else:
        show.print_line(f"wrote {wanted.file}" + (f"; the old one is {copy}" if copy else ""))
    if http is not None and client is not Client.VSCODE:
        show.say(f"The client reads the key from {TOKEN_VARIABLE}: mcp-spaces key create LABEL")
    if http is None and (missing := not_carried_over(os.environ)):
        show.say(f"Set here and not there, where a daemon that the client starts needs it: {', '.join(missing)}")
    if client is Client.CLAUDE_CODE:
        show.say("The same through Claude Code:")
        show.print_line(f"  {claude_command(scope, url=http, launch=ours)}")
    else:
        show.say(f"Restart {client.value} to use it.")


def _written(wanted: Entry) -> tuple[bool, Path | None]:
    """Whether anything had to be changed, and the copy of what was there. Raises Refusal: the file was left alone."""
    from mcp_spaces.cli import config_files

    try:
        before = config_files.read(wanted.file)
        after = config_files.text_with(wanted, before)
        return after != before, None if after == before else config_files.write(wanted.file, after)
    except config_files.LeftAlone as reason:
        hint = f"Put this into it yourself:\n{config_files.snippet(wanted)}"
        raise Refusal(f"{reason}, so nothing was changed.", hint=hint, code="conflict") from None
