"""How what became of one operation is told: its own event, a policy event, or an error event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from pydantic import BaseModel

from mcp_spaces.errors import (
    ApprovalNeeded,
    Busy,
    Denied,
    ExceedsCeiling,
    Internal,
    QuotaExceeded,
    RuntimeUnavailable,
    SpacesError,
    TimedOut,
    Unauthenticated,
)
from mcp_spaces.sandbox.batch import events
from mcp_spaces.sandbox.batch.events import Event
from mcp_spaces.sandbox.batch.operations import CreateFile, DeleteFile, EditFile, ReadFile, Shell
from mcp_spaces.sandbox.files import DeleteFileOutput, EditFileOutput, ReadFileOutput, WriteFileOutput
from mcp_spaces.sandbox.shell import ShellOutput

Runnable = CreateFile | ReadFile | EditFile | DeleteFile | Shell

_CATEGORIES: dict[type[SpacesError], events.Category] = {
    ExceedsCeiling: "policy",
    Unauthenticated: "policy",
    TimedOut: "timeout",
    RuntimeUnavailable: "system",
    Busy: "system",
    Internal: "system",
    QuotaExceeded: "system",
}
"""What is not about the operation itself. Everything else is told in the operation's own event."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What every event carries. `timestamp` is ISO 8601, UTC."""

    timestamp: str
    operation_id: str


def done(mark: Mark, asked: Runnable, output: BaseModel) -> Event:
    """Of an operation that answered; a command that failed is one."""
    at, one = mark.timestamp, mark.operation_id
    match asked, output:
        case CreateFile(), WriteFileOutput():
            return events.CreateFileEvent(
                timestamp=at, operationId=one, path=output.path, success=True, bytesWritten=output.size_bytes
            )
        case ReadFile(), ReadFileOutput():
            return events.ReadFileEvent(
                timestamp=at,
                operationId=one,
                path=output.path,
                success=True,
                content=output.content,
                encoding=output.encoding,
                size=output.size_bytes,
                sha256=output.sha256,
                truncated=output.truncated or False,
            )
        case EditFile(), EditFileOutput():
            return events.EditFileEvent(
                timestamp=at,
                operationId=one,
                path=output.path,
                success=True,
                editsApplied=output.edits_applied,
                sha256=output.sha256,
            )
        case DeleteFile(), DeleteFileOutput():
            return events.DeleteFileEvent(timestamp=at, operationId=one, path=output.path, success=True)
        case Shell(), ShellOutput():
            return events.ShellEvent(
                timestamp=at,
                operationId=one,
                command=asked.command[: events.COMMAND_SHOWN],
                success=output.exit_code == 0,
                exitCode=output.exit_code,
                stdout=output.stdout or "",
                stderr=output.stderr or "",
                durationMs=output.duration_ms,
                timedOut=output.timed_out or False,
                truncated=output.truncated or False,
                artifact=output.artifact,
                error=_STOPPED.get(output.stopped_by or ""),
            )
        case _:
            raise AssertionError(f"{type(asked).__name__} does not answer {type(output).__name__}")


def failed(mark: Mark, asked: Runnable, error: SpacesError) -> Event:
    """Of one that was refused, waits for a person, or broke off."""
    at, one = mark.timestamp, mark.operation_id
    if isinstance(error, Denied):
        return events.PolicyDeniedEvent(
            timestamp=at,
            operationId=one,
            operationType=asked.type,
            reason=error.message,
            suggestion=error.hint,
            rule=error.rule,
        )
    if isinstance(error, ApprovalNeeded):
        return events.ApprovalRequiredEvent(
            timestamp=at,
            operationId=one,
            operationType=asked.type,
            reason=f"{error.message} A person has to run `mcp-spaces approve {error.approval_id}`; then repeat this"
            " batch unchanged: it goes on from here.",
            details=events.ApprovalDetails(
                command=asked.command[: events.COMMAND_SHOWN] if isinstance(asked, Shell) else None,
                path=None if isinstance(asked, Shell) else asked.path,
                policy=error.rule,
            ),
            approvalId=error.approval_id,
        )
    category = _CATEGORIES.get(type(error))
    if category is not None:
        return events.ErrorEvent(
            timestamp=at, operationId=one, category=category, message=error.message, details=error.hint
        )
    return _unsuccessful(mark, asked, f"{error.message} {error.hint}".strip())


def _unsuccessful(mark: Mark, asked: Runnable, error: str) -> Event:
    at, one = mark.timestamp, mark.operation_id
    match asked:
        case CreateFile():
            return events.CreateFileEvent(timestamp=at, operationId=one, path=asked.path, success=False, error=error)
        case ReadFile():
            return events.ReadFileEvent(timestamp=at, operationId=one, path=asked.path, success=False, error=error)
        case EditFile():
            return events.EditFileEvent(timestamp=at, operationId=one, path=asked.path, success=False, error=error)
        case DeleteFile():
            return events.DeleteFileEvent(timestamp=at, operationId=one, path=asked.path, success=False, error=error)
        case Shell():
            command = asked.command[: events.COMMAND_SHOWN]
            return events.ShellEvent(timestamp=at, operationId=one, command=command, success=False, error=error)
        case unreachable:
            assert_never(unreachable)


_STOPPED = {
    "timeout": "It ran out of time and was killed.",
    "output_limit": "It wrote too much and was killed.",
    "oom": "The sandbox's memory limit killed it.",
}
