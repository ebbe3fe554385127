"""`mcp-spaces stop`: end the daemon of this state directory, as SIGTERM does, and wait until it is gone."""

from __future__ import annotations

import fcntl
import os
import select
import signal
from pathlib import Path
from typing import Annotated

import typer

from mcp_spaces import places
from mcp_spaces.cli import exits

WAIT_S = 30.0


def stop(
    wait_s: Annotated[float, typer.Option(help="Seconds to wait for its end.", min=0)] = WAIT_S,
) -> None:
    """Stop the daemon: sandboxes are freed, their files and all records stay.

    It starts again by itself when an agent connects.
    """
    process = daemon_process(places.state_directory(os.environ))
    if process is None:
        typer.echo("no daemon is running")
        return
    try:
        # The descriptor names this very process, whatever becomes of its number.
        descriptor = os.pidfd_open(process)
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
    except ProcessLookupError:
        typer.echo("no daemon is running")
        return
    except PermissionError:
        typer.echo(f"error: process {process} is not yours to stop", err=True)
        raise typer.Exit(exits.REFUSED) from None
    ended, _, _ = select.select([descriptor], [], [], wait_s)
    if not ended:
        typer.echo(f"error: process {process} is still stopping after {wait_s:g} s", err=True)
        typer.echo("hint: see daemon.log in the state directory", err=True)
        raise typer.Exit(exits.REFUSED)
    typer.echo("the daemon is stopped")


def daemon_process(state: str) -> int | None:
    """The id of the process that holds the state directory; None when nobody does."""
    try:
        with Path(places.daemon_lock(state)).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read(20))
    except (FileNotFoundError, ValueError):
        pass
    return None
