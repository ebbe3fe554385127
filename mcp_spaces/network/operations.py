"""What the gateway decided, and a sandbox's port on the operator's machine."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
from pydantic import Field

from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import AnyOperation, Audience, Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.network.forwarding import forwarded
from mcp_spaces.network.records import read_log
from mcp_spaces.sandbox.port import LiveSandboxes
from mcp_spaces.state.database import Database
from mcp_spaces.storage.model import iso


class LogInput(InRuntime):
    cursor: int = Field(default=0, ge=0)
    """From the last answer's next_cursor, or of the last line that was read."""
    limit: int = Field(default=100, ge=1, le=1_000)


class LogLine(Answer):
    cursor: int
    at: str
    run: str
    """The only run that was at work in the sandbox, else the one that launched it."""
    type: str
    """network.allowed, network.refused (reason, rule), network.secret (path, version, fingerprint) or network.closed
    (bytes, seconds)."""
    body: Mapping[str, object]


class LogOutput(Answer):
    lines: tuple[LogLine, ...]
    next_cursor: int | None = None
    """Where there is more by now."""


async def read(context: Context, given: LogInput) -> LogOutput:
    """Oldest first. Nothing new is no error."""
    found = read_log(context.use(Database), context.runtime.id, after=given.cursor, limit=given.limit + 1)
    lines = tuple(
        LogLine(
            cursor=one.cursor,
            at=iso(one.at),
            run=one.run_id,
            type=one.type,
            body={name: value for name, value in one.body.items() if name != "runtime"},
        )
        for one in found[: given.limit]
    )
    return LogOutput(lines=lines, next_cursor=lines[-1].cursor if len(found) > given.limit else None)


class ForwardInput(InRuntime):
    port: int = Field(ge=1, le=65_535)
    """Where the server listens inside."""
    local_port: int = Field(default=0, ge=0, le=65_535)
    """Of the daemon's machine, on 127.0.0.1; 0: any that is free."""
    seconds: float = Field(default=3_600, gt=0, le=86_400)
    """How long; ends earlier when the call is taken back."""


class ForwardOutput(Answer):
    local_port: int


async def forward(context: Context, given: ForwardInput) -> ForwardOutput:
    """Raises Conflict (the port is taken), WrongState or RuntimeUnavailable."""
    sandbox = context.use(LiveSandboxes).live(context.runtime.id)
    async with forwarded(sandbox, given.port, local_port=given.local_port) as chosen:
        await context.progress(0, None, f"http://127.0.0.1:{chosen} is port {given.port} of {context.runtime.alias}")
        with anyio.move_on_after(given.seconds):
            await sandbox.closed()
    return ForwardOutput(local_port=chosen)


LOG = Operation(
    id="network.log",
    summary="What a sandbox's network connections were, and what was refused and why.",
    input=LogInput,
    output=LogOutput,
    effect=Effect.OBSERVES,
    handler=read,
    listed=False,
    idempotent=True,
    on_stopped_runtime=True,
    example={"space": "default", "runtime": "main"},
)
FORWARD = Operation(
    id="network.forward",
    summary="Open a sandbox's port on the loopback of the daemon's machine, for as long as the call lasts.",
    input=ForwardInput,
    output=ForwardOutput,
    effect=Effect.EXECUTES,
    audience=Audience.OPERATOR,
    handler=forward,
    lasts=True,
    listed=False,
    needs_running_space=True,
    example={"space": "default", "runtime": "main", "port": 8000},
)

OPERATIONS: tuple[AnyOperation, ...] = (LOG, FORWARD)
