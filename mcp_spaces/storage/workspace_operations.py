"""Files between storage and a sandbox's workspace: staged into it, collected from it."""

from __future__ import annotations

from pydantic import Field, field_validator

from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Access, Facts, FileFacts
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.core.policy import Allow, decide
from mcp_spaces.core.scope import OWN_NAMESPACE
from mcp_spaces.errors import Denied
from mcp_spaces.sandbox.port import FileContent
from mcp_spaces.storage.model import LIFETIME_MAX_S, Description, FileView, content_type_of, ends_at
from mcp_spaces.storage.reach import Reach, readable, whose_limit, writable
from mcp_spaces.storage.store import FileStore
from mcp_spaces.storage.transfer import Target, Transfers


class StageInput(InRuntime):
    namespace: str = Field(default=OWN_NAMESPACE, max_length=63)
    path: str = Field(max_length=1024)
    to: str = Field(min_length=1, max_length=1024)
    """Path in the workspace."""
    overwrite: bool = False

    @field_validator("to")
    @classmethod
    def _names_a_file(cls, to: str) -> str:
        if to.endswith("/"):
            raise ValueError("a path that ends with / is a folder: name the file in it")
        return to


class Staged(Answer):
    path: str
    size_bytes: int
    sha256: str


class CollectInput(InRuntime):
    path: str = Field(min_length=1, max_length=1024)
    """Path in the workspace."""
    to: str = Field(max_length=1024)
    """Path in storage."""
    namespace: str = Field(default=OWN_NAMESPACE, max_length=63)
    expires_in_s: float | None = Field(default=None, gt=0, le=LIFETIME_MAX_S)
    overwrite: bool = False
    if_version: int | None = Field(default=None, ge=0)


async def stage(context: Context, wanted: StageInput) -> Staged:
    """All or nothing. Raises NotFound, Denied, Conflict (it is there, without overwrite), QuotaExceeded above 100 MiB, and
    what the sandbox does."""
    place = readable(context, wanted.namespace, wanted.path)
    file = context.use(FileStore).get(place.tree, wanted.path)
    _judge(context, STAGE, FileFacts(wanted.to, Access.WRITE, file.size_bytes))
    written = await context.use(Transfers).stage(
        file,
        runtime_id=context.runtime.id,
        to=wanted.to,
        overwrite=wanted.overwrite,
        progress=context.progress,
    )
    return Staged(path=written.path, size_bytes=file.size_bytes, sha256=file.sha256)


async def collect(context: Context, wanted: CollectInput) -> FileView:
    """All or nothing. Raises NotFound, Denied, Conflict (it exists, or changed meanwhile), QuotaExceeded, DiskFull, and what
    the sandbox does."""
    place = writable(context, wanted.namespace, wanted.to)

    def judge(first: FileContent) -> None:
        _judge(context, COLLECT, FileFacts(first.resolved_path, Access.READ, first.size_bytes))

    with whose_limit(context, wanted.namespace):
        file = await context.use(Transfers).collect(
            wanted.path,
            runtime_id=context.runtime.id,
            target=_collected(context, wanted, place),
            judge=judge,
            progress=context.progress,
        )
    return FileView.of(place.namespace, file)


def _collected(context: Context, wanted: CollectInput, place: Reach) -> Target:
    return Target(
        tree=place.tree,
        path=wanted.to,
        description=Description(content_type=content_type_of(wanted.to), source=f"runtime:{context.runtime.id}"),
        limit_bytes=place.limit_bytes,
        expires_at=ends_at(wanted.expires_in_s, now=context.clock.now()),
        overwrite=wanted.overwrite,
        if_version=wanted.if_version,
    )


def _judge(context: Context, operation: AnyOperation, facts: FileFacts) -> None:
    """Policy's second look, now that the size and the true path are known. It can only be stricter than the first.

    Raises Denied, also where policy would ask: the person was asked about another path, or about none.
    """
    verdict = decide(context.policy, operation_id=operation.id, effect=operation.effect, facts=facts)
    first = decide(context.policy, operation_id=operation.id, effect=operation.effect, facts=_harmless(facts))
    if not isinstance(verdict, Allow) and verdict != first:
        raise Denied(verdict.reason, hint=verdict.suggestion, rule=verdict.rule)


def _harmless(facts: FileFacts) -> FileFacts:
    return FileFacts("file", facts.access)


def _staged_facts(wanted: StageInput) -> Facts:
    return FileFacts(wanted.to, Access.WRITE)


def _collected_facts(wanted: CollectInput) -> Facts:
    return FileFacts(wanted.path, Access.READ)


STAGE = Operation(
    id="storage.stage",
    summary="Copy a stored file into a sandbox.",
    input=StageInput,
    output=Staged,
    effect=Effect.WRITES,
    handler=stage,
    facts=_staged_facts,
    needs_running_space=True,
    example={"path": "inputs/sales.csv", "to": "sales.csv"},
)
COLLECT = Operation(
    id="storage.collect",
    summary="Store a sandbox's file.",
    input=CollectInput,
    output=FileView,
    effect=Effect.WRITES,
    handler=collect,
    facts=_collected_facts,
    needs_running_space=True,
    example={"path": "out/report.pdf", "to": "reports/report.pdf"},
)
