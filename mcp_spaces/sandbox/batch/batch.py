"""Operation batch, protocol 1.0: several operations in one call, each a child run with a decision of its own."""

# ruff: noqa: N815 - names as protocol 1.0 writes them

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, assert_never

import anyio
import anyio.lowlevel
from pydantic import Field, WithJsonSchema

from mcp_spaces.core.answer import Answer
from mcp_spaces.core.child_call import call_child
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.core.tasks import shielded
from mcp_spaces.errors import Conflict, SpacesError
from mcp_spaces.sandbox.batch.events import (
    ApprovalRequiredEvent,
    Category,
    ErrorEvent,
    Event,
    MessageEvent,
    fitted,
    of_one_answer,
    succeeded,
)
from mcp_spaces.sandbox.batch.operations import (
    TYPES,
    Malformed,
    Message,
    Numbered,
    call_of,
    operation_schemas,
    parse_operations,
)
from mcp_spaces.sandbox.batch.outcomes import Mark, done, failed
from mcp_spaces.sandbox.batch.store import BatchRow, Interrupted, NotPaused, Resumed, Taken, batch_fingerprint
from mcp_spaces.sandbox.service import SandboxService

OPERATIONS_MOST = 200
PROTOCOL: Literal["1.0"] = "1.0"
MESSAGE_SHOWN = 500
"""Characters of a message in its progress report."""

_LISTED_AS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"type": {"enum": list(TYPES)}},
        "required": ["type"],
        # Of the whole schema alone: a tool's own shows no choices.
        "oneOf": operation_schemas(),
    },
    "minItems": 1,
    "maxItems": OPERATIONS_MOST,
}

Mode = Literal["continue", "fail-fast"]
Status = Literal["completed", "awaiting_approval", "error", "cancelled"]


class RunOperationsInput(InRuntime):
    protocolVersion: Literal["1.0"] = PROTOCOL
    operations: Annotated[tuple[Any, ...], Field(min_length=1, max_length=OPERATIONS_MOST), WithJsonSchema(_LISTED_AS)]
    """message{content} createFile{path,content,encoding,overwrite} readFile{path,encoding,offset,limit}
    editFile{path,edits:[{oldContent,newContent}],baseSha256} deleteFile{path} shell{command,cwd,timeout (ms),env};
    id optional; at most 200."""
    mode: Mode = "continue"


class RunOperationsOutput(Answer):
    """`error`: the batch ended early. One event an operation, in their order."""

    protocolVersion: Literal["1.0"] = PROTOCOL
    runId: str
    status: Status
    events: tuple[Event, ...]
    eventsLeftOut: int | None = None
    """Where an answer holds no more: events of operations that succeeded, as long as there are such."""
    rest: str | None = None
    """Where those are."""


@dataclass(slots=True)
class _Progress:
    """Where a batch stands: `position` operations are done, and `events` are theirs."""

    position: int = 0
    events: list[Event] = field(default_factory=list)
    pending: Event | None = None
    """The question to a person; not an event of the batch, since the answer becomes one."""


async def run_operations(context: Context, given: RunOperationsInput) -> RunOperationsOutput:
    """Repeating the same call goes on with a batch that waits for a person, from the operation that waits.

    Raises Conflict while another call goes on with it.
    """
    batches = context.use(SandboxService).batches
    numbered = parse_operations(given.operations)
    fingerprint = batch_fingerprint(
        principal_id=context.caller.principal_id,
        runtime_id=context.runtime.id,
        operations=given.operations,
        mode=given.mode,
    )
    # Claimed is claimed, also when the caller goes away in this very moment: then it is settled as cancelled.
    claim = await shielded(batches.claim(fingerprint, run_id=context.run_id))
    match claim:
        case NotPaused():
            stands = _Progress()
        case Resumed(row):
            stands = _Progress(row.position, list(row.events))
        case Taken(run_id):
            raise Conflict("Another call goes on with this batch.", hint=f"Wait for it: run_wait run={run_id}")
        case Interrupted(row, run_id):
            return _told(context, [*row.events, _lost(context, numbered, row, run_id)], "error")
        case unreachable:
            assert_never(unreachable)
    return await _Batch(context, numbered, given.mode, stands, fingerprint, stored=isinstance(claim, Resumed)).run()


@dataclass(slots=True)
class _Batch:
    context: Context
    operations: list[Numbered]
    mode: Mode
    stands: _Progress
    fingerprint: str
    stored: bool

    async def run(self) -> RunOperationsOutput:
        began = anyio.current_time()
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
            status = await self._go_on()
        except anyio.get_cancelled_exc_class():
            # Only a cancellation of this call may be turned into an answer: its scope is cancelled for good.
            if anyio.current_effective_deadline() != -math.inf:
                await self._settle("cancelled")
                raise
            too_long = anyio.current_time() - began >= self.context.scope.limits.call_seconds * 0.99
            status = "error" if too_long else "cancelled"
            self._note_unfinished("timeout" if too_long else "execution")
        except BaseException:
            await self._settle("error")
            raise
        await self._settle(status)
        pending = [self.stands.pending] if self.stands.pending is not None else []
        return _told(self.context, [*self.stands.events, *pending], status)

    async def _go_on(self) -> Status:
        total = len(self.operations)
        while self.stands.position < total:
            one = self.operations[self.stands.position]
            event = await self._run_one(one)
            if isinstance(event, ApprovalRequiredEvent):
                self.stands.pending = event
                self.context.note(event.type, event.model_dump(mode="json", exclude={"type"}))
                return "awaiting_approval"
            self.stands.events.append(event)
            self.context.note(event.type, event.model_dump(mode="json", exclude={"type"}))
            self.stands.position += 1
            await self.context.progress(self.stands.position, total, _progress_text(one))
            if self.mode == "fail-fast" and not succeeded(event):
                return "error"
        return "completed"

    async def _run_one(self, one: Numbered) -> Event:
        asked = one.asked
        if isinstance(asked, Malformed):
            return _error(self._mark(one), "validation", asked.problem, asked.details)
        if isinstance(asked, Message):
            mark = self._mark(one)
            return MessageEvent(timestamp=mark.timestamp, operationId=mark.operation_id, success=True)
        call = call_of(asked)
        place = {"space": self.context.space.id, "runtime": self.context.runtime.id}
        try:
            output = await call_child(self.context, call.operation_id, {**place, **call.arguments})
        except SpacesError as error:
            return failed(self._mark(one), asked, error)
        return done(self._mark(one), asked, output)

    async def _settle(self, status: Status) -> None:
        """On the disk: the batch waits, or it is over. Only a batch that waited has a row to take away."""
        batches = self.context.use(SandboxService).batches
        with anyio.CancelScope(shield=True):
            if status == "awaiting_approval":
                row = BatchRow(position=self.stands.position, events=tuple(fitted(self.stands.events)))
                await batches.pause(
                    self.fingerprint, run_id=self.context.run_id, space_id=self.context.space.id, row=row
                )
            elif self.stored:
                await batches.end(self.fingerprint)

    def _note_unfinished(self, category: Category) -> None:
        if self.stands.position < len(self.operations):
            one = self.operations[self.stands.position]
            message = "The call's time was over." if category == "timeout" else "The call was cancelled."
            details = "This operation may have been done in part; the ones after it were not begun."
            self.stands.events.append(_error(self._mark(one), category, message, details))

    def _mark(self, one: Numbered) -> Mark:
        return _mark(self.context, one.id)


def _mark(context: Context, operation_id: str) -> Mark:
    at = datetime.fromtimestamp(context.clock.now(), UTC)
    return Mark(at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), operation_id)


def _error(mark: Mark, category: Category, message: str, details: str) -> ErrorEvent:
    return ErrorEvent(
        timestamp=mark.timestamp, operationId=mark.operation_id, category=category, message=message, details=details
    )


def _lost(context: Context, operations: list[Numbered], row: BatchRow, run_id: str) -> ErrorEvent:
    """The daemon died while a repeat went on with the batch: nobody knows how far it came, and nothing is redone."""
    at = operations[row.position]
    return _error(
        _mark(context, at.id),
        "system",
        f"The daemon ended while run {run_id} went on from here; what it did is unknown.",
        f"run_get run={run_id} lists what it began. Send what is missing as a new batch; this one is given up.",
    )


def _told(context: Context, told: list[Event], status: Status) -> RunOperationsOutput:
    events = fitted(told)
    # Only what a model reads is cut.
    shown = events if context.caller.operator else of_one_answer(events)
    return RunOperationsOutput(
        runId=context.run_id,
        status=status,
        events=shown,
        eventsLeftOut=len(events) - len(shown) or None,
        rest=f"run_get run={context.run_id} events_after=1" if len(shown) < len(events) else None,
    )


def _progress_text(one: Numbered) -> str:
    match one.asked:
        case Malformed():
            return f"{one.id} cannot be understood"
        case Message(content=content):
            return content[:MESSAGE_SHOWN]
        case _:
            return f"{one.id} {one.asked.type}"


RUN_OPERATIONS = Operation(
    id="sandbox.run_operations",
    summary="Run several file and shell operations in a sandbox, in order.",
    input=RunOperationsInput,
    output=RunOperationsOutput,
    effect=Effect.COMPOSES,
    handler=run_operations,
    settled=lambda answer: answer.status != "awaiting_approval",
    cancelled=lambda answer: answer.status == "cancelled",
    needs_running_space=True,
    example={
        "space": "default",
        "operations": [
            {"type": "createFile", "path": "hello.py", "content": "print('hello')\n"},
            {"type": "shell", "command": "python3 hello.py"},
        ],
    },
)
