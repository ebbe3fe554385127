"""`mcp-spaces serve`: the daemon in the foreground."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mcp_spaces.cli import exits, show

HTTP = "Streamable HTTP"


def serve(
    state_dir: Annotated[Path | None, typer.Option(help="Database, sockets, logs and files.")] = None,
    http_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Serve HTTP on this port; 0 picks one.", rich_help_panel=HTTP)
    ] = None,
    http_host: Annotated[
        str | None, typer.Option(help="The address to bind (127.0.0.1).", rich_help_panel=HTTP)
    ] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="A name that clients use; may be repeated.", rich_help_panel=HTTP)
    ] = None,
    allowed_origin: Annotated[
        list[str] | None, typer.Option(help="An Origin to accept; may be repeated.", rich_help_panel=HTTP)
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM chain.", rich_help_panel=HTTP)] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM private key.", rich_help_panel=HTTP)] = None,
    behind_tls_proxy: Annotated[
        bool | None,
        typer.Option("--behind-tls-proxy", help="A proxy in front ends TLS.", rich_help_panel=HTTP),
    ] = None,
    accept_rollback: Annotated[
        bool, typer.Option("--accept-rollback", help="Take an older database, such as a backup, as it is: once.")
    ] = False,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the daemon until Ctrl-C. Every other setting is an environment variable, or stands in `settings.toml` of the
    state folder: see docs/reference/settings.md."""
    from mcp_spaces.errors import SpacesError
    from mcp_spaces.server import daemon
    from mcp_spaces.settings import read_settings

    try:
        settings = read_settings(
            os.environ,
            state_dir=None if state_dir is None else state_dir.expanduser().absolute(),
            http_port=http_port,
            http_host=http_host,
            http_allowed_hosts=tuple(allowed_host) if allowed_host else None,
            http_allowed_origins=tuple(allowed_origin) if allowed_origin else None,
            http_tls_certificate=tls_certificate,
            http_tls_key=tls_key,
            http_behind_tls_proxy=behind_tls_proxy,
        )
    except SpacesError as error:
        show.say_error(error.message, error.hint)
        raise typer.Exit(exits.USAGE) from None
    raise typer.Exit(daemon.serve(settings, ready_fd=ready_fd, accept_rollback=accept_rollback))


def stdio() -> None:
    """What MCP clients spawn: connect standard input and output with the daemon."""
    # Reached only with more words on the command line; alone it is dispatched before anything is imported.
    from mcp_spaces.server.shim import main

    main()
