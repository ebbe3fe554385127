"""The events of a batch, protocol 1.0, as they go out."""

# ruff: noqa: N815 - names as protocol 1.0 writes them

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mcp_spaces.sandbox.answer import ANSWER_CHARACTERS, cost, shares, shortened

COMMAND_SHOWN = 300
LEAST_TEXT = 2_000
"""Characters for the texts of all events together, however many events there are."""
EVENT_COST = 130
"""Characters of names, numbers and marks around one event."""

Category = Literal["validation", "policy", "execution", "timeout", "system"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    timestamp: str
    operationId: str


class MessageEvent(_Event):
    type: Literal["message"] = "message"
    success: bool


class CreateFileEvent(_Event):
    type: Literal["createFile"] = "createFile"
    path: str
    success: bool
    bytesWritten: int | None = None
    error: str | None = None


class ReadFileEvent(_Event):
    type: Literal["readFile"] = "readFile"
    path: str
    success: bool
    content: str | None = None
    encoding: str | None = None
    size: int | None = None
    sha256: str | None = None
    truncated: bool | None = None
    error: str | None = None


class EditFileEvent(_Event):
    type: Literal["editFile"] = "editFile"
    path: str
    success: bool
    editsApplied: int | None = None
    sha256: str | None = None
    error: str | None = None


class DeleteFileEvent(_Event):
    type: Literal["deleteFile"] = "deleteFile"
    path: str
    success: bool
    error: str | None = None


class ShellEvent(_Event):
    """`success`: the command ran and its exit code is 0."""

    type: Literal["shell"] = "shell"
    command: str
    success: bool
    exitCode: int | None = None
    stdout: str | None = None
    stderr: str | None = None
    durationMs: float | None = None
    timedOut: bool | None = None
    truncated: bool | None = None
    artifact: str | None = None
    error: str | None = None


class ApprovalDetails(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str | None = None
    path: str | None = None
    policy: str
    """The rule that asks."""


class ApprovalRequiredEvent(_Event):
    type: Literal["approvalRequired"] = "approvalRequired"
    operationType: str
    reason: str
    details: ApprovalDetails
    approvalId: str


class PolicyDeniedEvent(_Event):
    type: Literal["policyDenied"] = "policyDenied"
    operationType: str
    reason: str
    suggestion: str
    rule: str


class ErrorEvent(_Event):
    type: Literal["error"] = "error"
    category: Category
    message: str
    details: str | None = None


Event = Annotated[
    MessageEvent
    | CreateFileEvent
    | ReadFileEvent
    | EditFileEvent
    | DeleteFileEvent
    | ShellEvent
    | ApprovalRequiredEvent
    | PolicyDeniedEvent
    | ErrorEvent,
    Field(discriminator="type"),
]


def succeeded(event: Event) -> bool:
    return bool(getattr(event, "success", False))


def fitted(events: Sequence[Event]) -> tuple[Event, ...]:
    """The events with their texts cut, the longest first, so that all of them fit into one answer."""
    budget = max(ANSWER_CHARACTERS - EVENT_COST * len(events), LEAST_TEXT)
    texts = [
        (index, name, text)
        for index, event in enumerate(events)
        for name in ("content", "stdout", "stderr")
        if (text := getattr(event, name, None))
    ]
    costs = [cost(text) for _, _, text in texts]
    if sum(costs) <= budget:
        return tuple(events)
    cut: dict[int, dict[str, object]] = {}
    for (index, name, text), asked, share in zip(texts, costs, shares(costs, budget), strict=True):
        if share < asked:
            cut.setdefault(index, {"truncated": True})[name] = shortened(text, share)
    return tuple(event.model_copy(update=cut.get(index, {})) for index, event in enumerate(events))
