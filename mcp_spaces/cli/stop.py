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
from mcp_spaces.cli import calls, show
from mcp_spaces.cli.wire import Refusal

WAIT_S = 30.0


def stop(
    context: typer.Context,
    wait_s: Annotated[float, typer.Option(help="Seconds to wait for its end.", min=0)] = WAIT_S,
    as_json: calls.AsJson = False,
) -> None:
    """Stop the daemon: sandboxes are freed, their files and all records stay.

    It starts again by itself when an agent connects.
    """
    state = places.state_directory(os.environ)
    with calls.failures(as_json=as_json):
        if calls.target(context).server is not None:
            raise Refusal(
                "Only the daemon of this machine can be stopped.",
                hint="Leave --server and MCP_SPACES_SERVER out, or run it on the server's machine.",
                code="invalid_input",
            )
        process = daemon_process(state)
        stopped = process is not None and _stopped(process, wait_s=wait_s, log=places.daemon_log(state))
    if as_json:
        show.print_json({"stopped": stopped, "process": process if stopped else None})
    else:
        show.print_line("the daemon is stopped" if stopped else "no daemon is running")


def _stopped(process: int, *, wait_s: float, log: str) -> bool:
    """Whether there was one to stop. Raises Refusal."""
    try:
        # The descriptor names this very process, whatever becomes of its number.
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        ended, _, _ = select.select([descriptor], [], [], wait_s)
    except ProcessLookupError:
        return False
    except PermissionError:
        raise Refusal(f"Process {process} is not yours to stop.", hint="Stop it as the user who runs it.") from None
    finally:
        os.close(descriptor)
    if not ended:
        raise Refusal(f"Process {process} is still stopping after {wait_s:g} s.", hint=f"See {log}.", code="timeout")
    return True


def daemon_process(state: str) -> int | None:
    """The id of the process that holds the state directory; None when nobody does.

    Raises Refusal: this user may not look.
    """
    try:
        with Path(places.daemon_lock(state)).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read(20))
    except (FileNotFoundError, ValueError):
        pass
    except OSError as error:
        raise Refusal(
            f"{places.daemon_lock(state)} cannot be read: {error.strerror}.", hint="Run it as the daemon's user."
        ) from None
    return None
