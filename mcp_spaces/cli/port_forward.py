"""`mcp-spaces port-forward`: a sandbox's port on the daemon's machine, until Ctrl-C."""

from __future__ import annotations

from typing import Annotated

import typer

from mcp_spaces.cli import calls
from mcp_spaces.server.text import as_prose

TURN_S = 86_400
"""One call, the longest that there is: where one ends and the next begins, open connections break."""


def port_forward(
    context: typer.Context,
    space: Annotated[str, typer.Argument(help="Id or name.")],
    runtime: Annotated[str, typer.Argument(help="The sandbox's id or alias.")],
    port: Annotated[int, typer.Argument(min=1, max=65_535, help="Where the server listens inside.")],
    local: Annotated[
        int | None, typer.Argument(min=0, max=65_535, help="On this side; the same unless given, 0 picks one.")
    ] = None,
) -> None:
    """Open a sandbox's port on 127.0.0.1 of the daemon's machine, until Ctrl-C."""
    local_port = port if local is None else local
    arguments = {"space": space, "runtime": runtime, "port": port, "local_port": local_port, "seconds": TURN_S}
    while True:
        calls.call(context, "network.forward", arguments, on_progress=_tell)


def _tell(_done: float, _total: float | None, message: str) -> None:
    """The daemon says where it listens once it does, and later only that it still runs."""
    if message.startswith("http://"):
        print(f"{as_prose(message)}; Ctrl-C ends it.", flush=True)
