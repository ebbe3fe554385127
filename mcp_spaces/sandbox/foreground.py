"""A command to its end, within its time and output, while its caller waits. In the background: `jobs.py`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import anyio

from mcp_spaces.errors import RuntimeUnavailable, SpacesError
from mcp_spaces.sandbox.output import Capture
from mcp_spaces.sandbox.port import TIMEOUT_EXIT_CODE, Command, Exit, Process, Sandbox

KILL_S = 10.0
"""How long a kill may take before the sandbox counts as unable to end its processes."""
KILLED_EXIT_CODE = 137

StoppedBy = Literal["timeout", "output_limit", "oom"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: by itself, or `stopped_by` one of its limits."""

    exit_code: int
    duration_ms: float
    stopped_by: StoppedBy | None


async def run_to_end(
    sandbox: Sandbox, command: Command, *, stdin: str | None, timeout_s: float, capture: Capture
) -> Ended:
    """The command and its descendants are gone when this returns early, raises or is cancelled.

    Raises RuntimeUnavailable where it did not start within its time, and what the sandbox raises.
    """
    began = anyio.current_time()
    process: Process | None = None
    feeding: asyncio.Task[None] | None = None
    ended: Exit | None = None
    try:
        with anyio.move_on_after(timeout_s) as scope:
            process = await sandbox.start(command, output=capture)
            capture.on_over_limit = scope.cancel
            feeding = asyncio.create_task(_feed(process, stdin)) if stdin else None
            ended = await process.wait()
    finally:
        if feeding is not None:
            feeding.cancel()
        if process is not None and (ended is None or capture.over_limit):
            await kill(process)
    if process is None:
        raise RuntimeUnavailable(
            f"The sandbox did not start the command within {timeout_s:g} s.",
            hint="Give it more time; if it had seconds, stop and launch the sandbox again: it may be overloaded.",
        )
    duration_ms = (anyio.current_time() - began) * 1000
    if capture.over_limit:
        return Ended(KILLED_EXIT_CODE, duration_ms, "output_limit")
    if ended is None:
        return Ended(TIMEOUT_EXIT_CODE, duration_ms, "timeout")
    return Ended(ended.exit_code, ended.duration_ms, "oom" if ended.out_of_memory else None)


async def _feed(process: Process, stdin: str) -> None:
    # A command that ends or closes its stdin without reading all of it is no error.
    with suppress(SpacesError):
        await process.write(stdin.encode())
        await process.close_stdin()


async def kill(process: Process) -> None:
    """With all its descendants, within KILL_S. Never raises: a sandbox that died has no process left either, and whoever
    waits for it is told."""
    with anyio.move_on_after(KILL_S, shield=True), suppress(SpacesError):
        await process.kill()
