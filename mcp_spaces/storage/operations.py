"""Storage: files of a space and of the namespaces that are mounted in it."""

from __future__ import annotations

import base64
import binascii
import secrets

from pydantic import BaseModel, Field

from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Access, Facts, FileFacts
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InRuntime, InSpace
from mcp_spaces.core.policy import Allow, decide
from mcp_spaces.core.scope import OWN_NAMESPACE
from mcp_spaces.errors import Denied, InvalidInput
from mcp_spaces.sandbox.port import FileContent
from mcp_spaces.storage.links import Links, new_link_token
from mcp_spaces.storage.model import (
    RANGE_BYTES_MAX,
    ContentRange,
    ContentType,
    Description,
    Encoding,
    FileView,
    Metadata,
    bytes_for,
    content_range,
    content_type_of,
    iso,
)
from mcp_spaces.storage.names import check_prefix
from mcp_spaces.storage.reach import Reach, reach, readable, writable
from mcp_spaces.storage.store import FileStore
from mcp_spaces.storage.transfer import Target, Transfers

UPLOAD_CHARACTERS_MAX = 14 << 20
"""10 MiB as base64. Larger files come in through `storage.collect`."""
LIFETIME_MAX_S = 315_360_000
LINK_LIFETIME_MAX_S = 86_400


class InNamespace(InSpace):
    namespace: str = Field(default=OWN_NAMESPACE, max_length=63)
    """own, or a mounted one."""


class OfFile(InNamespace):
    path: str = Field(max_length=1024)


class Kept(OfFile):
    """How a file is to be kept."""

    content_type: ContentType | None = None
    metadata: Metadata = Field(default={})
    expires_in_s: float | None = Field(default=None, gt=0, le=LIFETIME_MAX_S)
    overwrite: bool = False
    if_version: int | None = Field(default=None, ge=0)
    """Replace only this version; 0: only create."""


class UploadInput(Kept):
    content: str = Field(max_length=UPLOAD_CHARACTERS_MAX)
    encoding: Encoding = "utf-8"


class ReadInput(OfFile):
    offset: int = Field(default=0, ge=0)
    limit: int | None = Field(default=None, ge=1, le=RANGE_BYTES_MAX)
    """Bytes; left out: what an answer holds, about 16,000."""
    encoding: Encoding = "utf-8"


class StoredRange(ContentRange):
    content_type: str


class BrowseInput(InNamespace):
    prefix: str = Field(default="", max_length=1024)
    """A folder, or empty."""
    cursor: str = Field(default="", max_length=1024)
    limit: int = Field(default=100, ge=1, le=500)


class FilePage(BaseModel):
    files: list[FileView]
    next_cursor: str | None = None


class DeleteInput(OfFile):
    if_version: int | None = Field(default=None, ge=1)


class CopyInput(OfFile):
    to: str = Field(max_length=1024)
    to_namespace: str = Field(default=OWN_NAMESPACE, max_length=63)
    overwrite: bool = False
    if_version: int | None = Field(default=None, ge=0)


class LinkInput(OfFile):
    expires_in_s: float = Field(default=900, gt=0, le=LINK_LIFETIME_MAX_S)


class LinkView(BaseModel):
    """`url` is only a path where the daemon does not know its public address."""

    url: str
    expires_at: str


class StageInput(InRuntime):
    namespace: str = Field(default=OWN_NAMESPACE, max_length=63)
    path: str = Field(max_length=1024)
    to: str = Field(min_length=1, max_length=1024)
    """Path in the workspace."""
    overwrite: bool = False


class Staged(BaseModel):
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


async def upload(context: Context, wanted: UploadInput) -> FileView:
    place = writable(context, wanted.namespace, wanted.path)
    target = Target(
        tree=place.tree,
        path=wanted.path,
        description=Description(
            content_type=wanted.content_type or content_type_of(wanted.path),
            source="upload",
            metadata=dict(wanted.metadata),
        ),
        limit_bytes=place.limit_bytes,
        expires_at=_ends_at(context, wanted.expires_in_s),
        overwrite=wanted.overwrite,
        if_version=wanted.if_version,
    )
    file = await context.use(Transfers).keep(_decoded(wanted.content, wanted.encoding), target=target)
    return FileView.of(place.namespace, file)


async def read(context: Context, wanted: ReadInput) -> StoredRange:
    place = readable(context, wanted.namespace, wanted.path)
    files = context.use(FileStore)
    file = files.get(place.tree, wanted.path)
    with files.blobs.open(file.tree, file.sha256) as reader:
        raw = await reader.read(wanted.offset, bytes_for(wanted.encoding, wanted.limit))
    found = content_range(raw, encoding=wanted.encoding, offset=wanted.offset, size_bytes=file.size_bytes)
    return StoredRange(**found.model_dump(), content_type=file.description.content_type)


async def browse(context: Context, wanted: BrowseInput) -> FilePage:
    place = reach(context, wanted.namespace)
    prefix = place.below(check_prefix(wanted.prefix))
    if prefix is None:
        return FilePage(files=[])
    found = context.use(FileStore).page(place.tree, prefix=prefix, after=wanted.cursor, limit=wanted.limit + 1)
    page = found[: wanted.limit]
    return FilePage(
        files=[FileView.of(place.namespace, file) for file in page],
        next_cursor=page[-1].path if len(found) > wanted.limit else None,
    )


async def stat(context: Context, wanted: OfFile) -> FileView:
    place = readable(context, wanted.namespace, wanted.path)
    return FileView.of(place.namespace, context.use(FileStore).get(place.tree, wanted.path))


async def delete(context: Context, wanted: DeleteInput) -> FileView:
    place = writable(context, wanted.namespace, wanted.path)
    file = await context.use(FileStore).remove(place.tree, wanted.path, if_version=wanted.if_version)
    return FileView.of(place.namespace, file)


async def copy(context: Context, wanted: CopyInput) -> FileView:
    source = readable(context, wanted.namespace, wanted.path)
    file = context.use(FileStore).get(source.tree, wanted.path)
    place = writable(context, wanted.to_namespace, wanted.to)
    target = Target(
        tree=place.tree,
        path=wanted.to,
        description=file.description,
        limit_bytes=place.limit_bytes,
        expires_at=file.expires_at,
        overwrite=wanted.overwrite,
        if_version=wanted.if_version,
    )
    return FileView.of(place.namespace, await context.use(Transfers).copy(file, target=target))


async def link(context: Context, wanted: LinkInput) -> LinkView:
    place = readable(context, wanted.namespace, wanted.path)
    file = context.use(FileStore).get(place.tree, wanted.path)
    expires_at = context.clock.now() + wanted.expires_in_s
    token = new_link_token(secrets.token_urlsafe(32))
    url = await context.use(Links).create(file, token=token, expires_at=expires_at)
    return LinkView(url=url, expires_at=iso(expires_at))


async def stage(context: Context, wanted: StageInput) -> Staged:
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
    place = writable(context, wanted.namespace, wanted.to)

    def judge(first: FileContent) -> None:
        _judge(context, COLLECT, FileFacts(first.resolved_path, Access.READ, first.size_bytes))

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
        expires_at=_ends_at(context, wanted.expires_in_s),
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


def _decoded(content: str, encoding: Encoding) -> bytes:
    if encoding == "utf-8":
        return content.encode()
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("content is not base64.", hint="Use the standard alphabet with padding.") from None


def _ends_at(context: Context, seconds: float | None) -> float | None:
    return None if seconds is None else context.clock.now() + seconds


def _staged_facts(wanted: StageInput) -> Facts:
    return FileFacts(wanted.to, Access.WRITE)


def _collected_facts(wanted: CollectInput) -> Facts:
    return FileFacts(wanted.path, Access.READ)


UPLOAD = Operation(
    id="storage.upload",
    summary="Store a file.",
    input=UploadInput,
    output=FileView,
    effect=Effect.WRITES,
    handler=upload,
    example={"path": "reports/summary.md", "content": "# Summary\n"},
)
READ = Operation(
    id="storage.read",
    summary="Read a stored file, or a range of it.",
    input=ReadInput,
    output=StoredRange,
    effect=Effect.READS,
    handler=read,
    idempotent=True,
    example={"path": "reports/summary.md"},
)
BROWSE = Operation(
    id="storage.browse",
    summary="List stored files by prefix.",
    input=BrowseInput,
    output=FilePage,
    effect=Effect.OBSERVES,
    handler=browse,
    idempotent=True,
    example={"prefix": "reports"},
)
STAT = Operation(
    id="storage.stat",
    summary="A stored file's size, hash, version and metadata.",
    input=OfFile,
    output=FileView,
    effect=Effect.OBSERVES,
    handler=stat,
    idempotent=True,
    listed=False,
    example={"path": "reports/summary.md"},
)
DELETE = Operation(
    id="storage.delete",
    summary="Delete a stored file for good.",
    input=DeleteInput,
    output=FileView,
    effect=Effect.DELETES,
    handler=delete,
    listed=False,
    example={"path": "reports/summary.md"},
)
COPY = Operation(
    id="storage.copy",
    summary="Copy a stored file, also to another namespace.",
    input=CopyInput,
    output=FileView,
    effect=Effect.WRITES,
    handler=copy,
    listed=False,
    example={"path": "reports/summary.md", "to": "archive/summary.md"},
)
LINK = Operation(
    id="storage.link",
    summary="A one-time download address of a stored file.",
    input=LinkInput,
    output=LinkView,
    effect=Effect.CREATES,
    handler=link,
    listed=False,
    shows_keys=True,
    example={"path": "reports/summary.md", "expires_in_s": 600},
)
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

OPERATIONS: tuple[AnyOperation, ...] = (UPLOAD, READ, BROWSE, STAT, DELETE, COPY, LINK, STAGE, COLLECT)
