"""Runs: look at what was called, wait for it, stop it, take it along."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from mcp_spaces.core.active import ActiveCalls
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.journal import RunState
from mcp_spaces.core.operation import AnyOperation, Operation, id_of
from mcp_spaces.core.place import Everywhere
from mcp_spaces.errors import InvalidInput, NotFound, WrongState
from mcp_spaces.identity.port import Principals
from mcp_spaces.runs.artifacts import ArtifactStore
from mcp_spaces.runs.audit_operations import AUDIT_LIST, AUDIT_VERIFY, STATE_BACKUP, STATE_DESCRIBE
from mcp_spaces.runs.export import EVENTS_MAX, RUNS_MAX, ExportedRun, write_zip
from mcp_spaces.runs.model import NEWEST, Artifact, ArtifactView, RowCursor, RunLine, RunView
from mcp_spaces.runs.store import Filters, RunStore, line
from mcp_spaces.runs.waiting import RunWaiters
from mcp_spaces.spaces.port import Spaces
from mcp_spaces.state.transaction import Row
from mcp_spaces.storage.model import RANGE_BYTES_MAX, ContentRange, Encoding, bytes_for, content_range

CALL_SHARE = 0.9
"""Of the seconds that a call may take: waiting ends before the call itself would time out."""
CANCEL_S = 10.0
"""How long a cancelled run is given to end before the answer says that it has not."""


class ListInput(Everywhere):
    space: str | None = Field(default=None, min_length=1, max_length=200)
    """Only this one's."""
    operation: str | None = Field(default=None, max_length=64)
    state: RunState | None = None
    parent: str | None = Field(default=None, max_length=64)
    cursor: RowCursor | None = None
    limit: int = Field(default=20, ge=1, le=100)


class RunList(Answer):
    """Newest first. With a filter a page may be short, or empty, and still have a next one."""

    runs: list[RunLine]
    next_cursor: str | None = None


class OfRun(Everywhere):
    run: str = Field(max_length=64)


class GetInput(OfRun):
    events_after: int = Field(default=0, ge=0, le=NEWEST)
    """From next_events: only events, without input and outcome."""
    events_limit: int = Field(default=20, ge=0, le=100)


class WaitInput(OfRun):
    timeout_s: float = Field(default=60, gt=0, le=300)


class ReadArtifactInput(Everywhere):
    artifact: str = Field(max_length=64)
    offset: int = Field(default=0, ge=0)
    limit: int | None = Field(default=None, ge=1, le=RANGE_BYTES_MAX)
    """Bytes; left out: what an answer holds, about 16,000."""
    encoding: Encoding = "utf-8"


class Exported(Answer):
    """A zip file: read it with run_read_artifact, encoding=base64."""

    artifact: ArtifactView
    runs: int


async def list_runs(context: Context, wanted: ListInput) -> RunList:
    """Raises NotFound (the space)."""
    space_id = None
    if wanted.space is not None:
        space_id = context.use(Spaces).resolve(context.caller, wanted.space).id
    page = context.use(RunStore).page(
        context.caller,
        space_id=space_id,
        filters=Filters(wanted.operation and id_of(wanted.operation), wanted.state, wanted.parent),
        before=NEWEST if wanted.cursor is None else int(wanted.cursor),
        limit=wanted.limit,
        # This very call is no news.
        besides=context.run_id,
    )
    abouts = context.use(RunStore).abouts(page.rows)
    lines = [line(row).model_copy(update={"about": about}) for row, about in zip(page.rows, abouts, strict=True)]
    return RunList(
        runs=_named(context, lines),
        next_cursor=None if page.next_before is None else str(page.next_before),
    )


def _named(context: Context, lines: list[RunLine]) -> list[RunLine]:
    """With the names that people know, for operators; an id stays alone where what it named is gone. Others know their
    own id, which would be in every line that their models read."""
    if not context.caller.operator:
        own = context.caller.principal_id
        return [one.model_copy(update={"principal": None}) if one.principal == own else one for one in lines]
    spaces, principals = context.use(Spaces), context.use(Principals)
    found = {one.space: spaces.get(one.space) for one in lines if one.space is not None}
    names = {one.principal: principals.name_of(one.principal) for one in lines if one.principal is not None}
    return [
        one.model_copy(
            update={
                "principal_name": names.get(one.principal or ""),
                "space_name": space.name if (space := found.get(one.space or "")) is not None else None,
            }
        )
        for one in lines
    ]


async def get(context: Context, wanted: GetInput) -> RunView:
    """Raises NotFound, in the same words for a run that the caller may not see."""
    row = context.use(RunStore).row(context.caller, wanted.run)
    return _view(context, row, events_after=wanted.events_after, events_limit=wanted.events_limit)


async def wait(context: Context, wanted: WaitInput) -> RunView:
    """Until it has ended, or the time is over: `state` says which. Raises NotFound, InvalidInput (this very call)."""
    runs = context.use(RunStore)
    if wanted.run == context.run_id:
        raise InvalidInput("A run cannot wait for itself.", hint="Name another run.")
    row = runs.row(context.caller, wanted.run)
    row = await _ended(context, row, timeout_s=wanted.timeout_s)
    return _view(context, row, events_after=0, events_limit=20)


async def cancel(context: Context, wanted: OfRun) -> RunLine:
    """One that has ended is no error. Raises NotFound, InvalidInput (this very call), WrongState (not under way here)."""
    runs = context.use(RunStore)
    row = runs.row(context.caller, wanted.run)
    if row["id"] == context.run_id:
        raise InvalidInput("A run cannot cancel itself.", hint="Name another run.")
    if row["ended_at"] is not None:
        return line(row)
    active = context.use(ActiveCalls).get(row["id"])
    if active is None:
        raise WrongState("The run is not under way in this daemon.", hint="Look again: run_get")
    active.cancel(f"{context.caller.name} cancelled it")
    return line(await _ended(context, row, timeout_s=CANCEL_S))


async def _ended(context: Context, row: Row, *, timeout_s: float) -> Row:
    """The run's row once it has ended, or as it is when the time is over."""
    runs, run_id = context.use(RunStore), row["id"]
    await context.use(RunWaiters).wait(
        run_id,
        is_open=lambda: runs.row(context.caller, run_id)["ended_at"] is None,
        timeout_s=min(timeout_s, context.scope.limits.call_seconds * CALL_SHARE),
    )
    return runs.row(context.caller, run_id)


async def export(context: Context, wanted: OfRun) -> Exported:
    """With what the caller may see below it, at most RUNS_MAX runs. Raises NotFound, QuotaExceeded, DiskFull."""
    artifacts = context.use(ArtifactStore)
    row = context.use(RunStore).row(context.caller, wanted.run)
    # What is kept for a space that is gone would go with nothing, and count against no limit.
    space = context.use(Spaces).get(row["space_id"] or "")
    path = artifacts.spool()
    try:
        runs = await write_zip(_below(context, row), artifacts=artifacts, path=path)
        kept = await artifacts.keep(
            run_id=context.run_id,
            space_id="" if space is None else space.id,
            name=f"{row['id']}.zip",
            content_type="application/zip",
            path=path,
        )
    finally:
        path.unlink(missing_ok=True)
    return Exported(artifact=ArtifactView.of(kept), runs=len(runs))


async def read_artifact(context: Context, wanted: ReadArtifactInput) -> ContentRange:
    """Raises NotFound, WrongState (asked for as text and none, or the content is missing)."""
    artifact = _visible_artifact(context, wanted.artifact)
    with context.use(ArtifactStore).open(artifact) as reader:
        raw = await reader.read(wanted.offset, bytes_for(wanted.encoding, wanted.limit))
    return content_range(raw, encoding=wanted.encoding, offset=wanted.offset, size_bytes=artifact.size_bytes)


def _visible_artifact(context: Context, artifact_id: str) -> Artifact:
    """Raises NotFound: absent and foreign alike. An artifact is seen with its space, and by its run's principal."""
    runs, artifact = context.use(RunStore), context.use(ArtifactStore).get(artifact_id)
    absent = NotFound("No such artifact.", hint="run_get lists the artifacts of a run.")
    if artifact is None:
        raise absent
    if artifact.space_id and runs.may_see(context.caller, space_id=artifact.space_id, principal_id=""):
        return artifact
    try:
        row = runs.row(context.caller, artifact.run_id)
    except NotFound:
        raise absent from None
    # A run in a space that is visible says nothing about an artifact that names another space.
    if row["principal_id"] != context.caller.principal_id and not context.caller.operator:
        raise absent
    return artifact


def _view(context: Context, row: Row, *, events_after: int, events_limit: int) -> RunView:
    runs = context.use(RunStore)
    events = runs.events(row["id"], after=events_after, limit=events_limit + 1)
    shown = events[:events_limit]
    last = shown[-1].cursor if shown else events_after
    # Whoever goes on has had the rest of the record.
    had = {"input": None, "outcome": None} if events_after else {}
    return runs.view(row).model_copy(
        update={
            **had,
            "events": tuple(shown),
            "next_events": last if len(events) > events_limit else None,
            "artifacts": tuple(ArtifactView.of(one) for one in context.use(ArtifactStore).of_run(row["id"])),
        }
    )


def _below(context: Context, row: Row) -> Iterator[ExportedRun]:
    """The run and everything under it that the caller may see, parents first, at most RUNS_MAX."""
    runs, artifacts = context.use(RunStore), context.use(ArtifactStore)
    waiting, found = [row], 0
    while waiting and found < RUNS_MAX:
        current = waiting.pop(0)
        found += 1
        children = runs.children(current["id"], limit=RUNS_MAX)
        waiting += [
            child
            for child in children
            if runs.may_see(context.caller, space_id=child["space_id"], principal_id=child["principal_id"])
        ][: RUNS_MAX - found - len(waiting)]
        yield ExportedRun(
            runs.view(current),
            runs.events(current["id"], after=0, limit=EVENTS_MAX),
            artifacts.of_run(current["id"], limit=RUNS_MAX),
        )


LIST = Operation(
    id="run.list",
    summary="The records of calls, newest first.",
    input=ListInput,
    output=RunList,
    effect=Effect.OBSERVES,
    handler=list_runs,
    idempotent=True,
    example={"space": "work", "limit": 10},
)
GET = Operation(
    id="run.get",
    summary="One run: input, decision, outcome, events, artifacts.",
    input=GetInput,
    output=RunView,
    effect=Effect.OBSERVES,
    handler=get,
    idempotent=True,
    example={"run": "run_aaaaaaaaaaaaaaaaaaaaaaaaaa"},
)
WAIT = Operation(
    id="run.wait",
    summary="Wait until a run has ended.",
    input=WaitInput,
    output=RunView,
    effect=Effect.OBSERVES,
    handler=wait,
    idempotent=True,
    listed=False,
    example={"run": "run_aaaaaaaaaaaaaaaaaaaaaaaaaa", "timeout_s": 30},
)
CANCEL = Operation(
    id="run.cancel",
    summary="Stop a run that is under way.",
    input=OfRun,
    output=RunLine,
    effect=Effect.ENDS,
    handler=cancel,
    idempotent=True,
    listed=False,
    example={"run": "run_aaaaaaaaaaaaaaaaaaaaaaaaaa"},
)
EXPORT = Operation(
    id="run.export",
    summary="A run with its children, events and artifacts as a zip file.",
    input=OfRun,
    output=Exported,
    effect=Effect.CREATES,
    handler=export,
    listed=False,
    example={"run": "run_aaaaaaaaaaaaaaaaaaaaaaaaaa"},
)
READ_ARTIFACT = Operation(
    id="run.read_artifact",
    summary="Read a file that a run produced, or a range of it.",
    input=ReadArtifactInput,
    output=ContentRange,
    effect=Effect.READS,
    handler=read_artifact,
    idempotent=True,
    example={"artifact": "art_aaaaaaaaaaaaaaaaaaaaaaaaaa"},
)

OPERATIONS: tuple[AnyOperation, ...] = (
    LIST,
    GET,
    WAIT,
    CANCEL,
    EXPORT,
    READ_ARTIFACT,
    AUDIT_VERIFY,
    AUDIT_LIST,
    STATE_BACKUP,
    STATE_DESCRIBE,
)
