"""`sandbox.connect`: a shell that a person types into.

The person's terminal comes with the task that calls, not with the arguments: nobody can name somebody else's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Annotated, Protocol

import anyio
from pydantic import Field, StringConstraints

from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import Audience, Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.core.spelling import Spelled
from mcp_spaces.errors import SpacesError, WrongState
from mcp_spaces.sandbox.foreground import kill
from mcp_spaces.sandbox.port import Command, Exit, LiveSandboxes, Process, Stream, TerminalSize

SHELL = ("/bin/sh", "-c", "if command -v bash >/dev/null; then exec bash -l; else exec sh -l; fi")


class Terminal(Protocol):
    """Where a person sits."""

    def show(self, output: bytes) -> None:
        """Never blocks; what a slow terminal cannot take is dropped."""

    def typed(self) -> AsyncIterator[bytes | tuple[int, int]]:
        """Bytes, or `(rows, columns)` of a window that changed. Ends when the person leaves."""


_TERMINAL: ContextVar[Terminal | None] = ContextVar("mcp_spaces_terminal", default=None)


@contextmanager
def attached(terminal: Terminal) -> Iterator[None]:
    """Calls of `sandbox.connect` inside use this terminal."""
    token = _TERMINAL.set(terminal)
    try:
        yield
    finally:
        _TERMINAL.reset(token)


class ConnectInput(InRuntime):
    rows: int = Field(default=24, ge=1, le=1000)
    columns: int = Field(default=80, ge=1, le=1000)
    term: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9._+-]{1,40}$"), Spelled("a terminal, such as xterm-256color")
    ] = "xterm-256color"
    """The terminal's type, for TERM."""


class Disconnected(Answer):
    exit_code: int
    """The shell's; 128 + the signal's number where one ended it."""
    duration_ms: float


async def connect(context: Context, given: ConnectInput) -> Disconnected:
    """Until the shell ends or the person leaves; then nothing of it is left. Raises WrongState (no terminal, it does not
    run), RuntimeUnavailable."""
    terminal = _TERMINAL.get()
    if terminal is None:
        raise WrongState(
            "This needs a person's terminal.", hint="Run `mcp-spaces connect SPACE` on the daemon's machine."
        )
    sandbox = context.use(LiveSandboxes).live(context.runtime.id)
    size = TerminalSize(rows=given.rows, columns=given.columns)
    command = Command(SHELL, env={"TERM": given.term}, terminal=size)

    def show(_: Stream, chunk: bytes) -> None:
        terminal.show(chunk)

    process = await sandbox.start(command, output=show)
    ended: Exit | SpacesError | None = None
    try:
        async with anyio.create_task_group() as tasks:

            async def type_in() -> None:
                # That the shell ended is for whoever waits to tell.
                with suppress(SpacesError):
                    await _type_in(terminal, process)
                    await process.kill()  # the person left

            tasks.start_soon(type_in)
            try:
                ended = await process.wait()
            except SpacesError as error:
                ended = error  # the group would wrap it in a group of its own
            tasks.cancel_scope.cancel()
    finally:
        # Also what the shell left behind: nobody would ever see it again.
        await kill(process)
    if isinstance(ended, SpacesError):
        raise ended
    assert ended is not None  # noqa: S101 - the group ends otherwise only by raising
    return Disconnected(exit_code=ended.exit_code, duration_ms=ended.duration_ms)


async def _type_in(terminal: Terminal, process: Process) -> None:
    async for typed in terminal.typed():
        match typed:
            case bytes():
                await process.write(typed)
            case (rows, columns):
                await process.resize(TerminalSize(rows=rows, columns=columns))


CONNECT = Operation(
    id="sandbox.connect",
    summary="A shell in a sandbox, at a person's terminal.",
    input=ConnectInput,
    output=Disconnected,
    effect=Effect.EXECUTES,
    lasts=True,
    audience=Audience.OPERATOR,
    handler=connect,
    listed=False,
    needs_running_space=True,
    example={"space": "work"},
)
