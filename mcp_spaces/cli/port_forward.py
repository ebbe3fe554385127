"""`mcp-spaces port-forward`: a sandbox's port on the daemon's machine, until Ctrl-C."""

from __future__ import annotations

from typing import Annotated

import typer

from mcp_spaces.cli import calls

TURN_S = 300
"""One call: a space bounds how long a call may last, so the command makes one after the other."""


def port_forward(
    context: typer.Context,
    space: Annotated[str, typer.Argument(help="Id or name.")],
    runtime: Annotated[str, typer.Argument(help="The sandbox's id or alias.")],
    port: Annotated[int, typer.Argument(min=1, max=65_535, help="Where the server listens inside.")],
    local: Annotated[int | None, typer.Argument(min=1, max=65_535, help="On this side; the same unless given.")] = None,
) -> None:
    """Open a sandbox's port on 127.0.0.1 of the daemon's machine, until Ctrl-C."""
    chosen = local or port
    print(f"http://127.0.0.1:{chosen} is port {port} of {runtime}; Ctrl-C ends it.", flush=True)
    arguments = {"space": space, "runtime": runtime, "port": port, "local_port": chosen, "seconds": TURN_S}
    while True:
        calls.call(context, "network.forward", arguments, as_json=False)
