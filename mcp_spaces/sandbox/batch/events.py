"""The events of a batch, protocol 1.0, as they go out."""

# ruff: noqa: N815 - names as protocol 1.0 writes them

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from mcp_spaces.core.answer import ANSWER_CHARACTERS, Answer
from mcp_spaces.sandbox.cutting import cost, shares, shortened

COMMAND_SHOWN = 300
LEAST_TEXT = 2_000
"""Characters for the texts of all events together, however many events there are."""
EVENT_COST = 130
"""Characters of names, numbers and marks around one event."""

Category = Literal["validation", "policy", "execution", "timeout", "system"]


class _Event(Answer):
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


class ApprovalDetails(Answer):
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


EVENTS_CHARACTERS = 18_000
"""Of all events together, as JSON. A tool's answer has room for 20,000 where the operator did not set it otherwise."""


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


def of_one_answer(events: Sequence[Event]) -> tuple[Event, ...]:
    """As many as an answer holds, in their order: what did not succeed before what did, and then the first ones."""
    sizes = [len(event.model_dump_json(exclude_none=True)) + 1 for event in events]
    if sum(sizes) <= EVENTS_CHARACTERS:
        return tuple(events)
    left, kept = EVENTS_CHARACTERS, []
    for index in sorted(range(len(events)), key=lambda at: (succeeded(events[at]), at)):
        left -= sizes[index]
        if left < 0:
            break
        kept.append(index)
    return tuple(events[index] for index in sorted(kept))
