"""Storage: files of a space and of the namespaces that are mounted in it."""

from __future__ import annotations

import base64
import binascii
import secrets

from pydantic import Field

from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InSpace
from mcp_spaces.core.scope import OWN_NAMESPACE
from mcp_spaces.errors import InvalidInput
from mcp_spaces.storage.links import Links, new_link_token
from mcp_spaces.storage.model import (
    LIFETIME_MAX_S,
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
    ends_at,
    iso,
)
from mcp_spaces.storage.names import check_prefix
from mcp_spaces.storage.reach import reach, readable, writable
from mcp_spaces.storage.store import FileStore
from mcp_spaces.storage.transfer import Target, Transfers
from mcp_spaces.storage.workspace_operations import COLLECT, STAGE

UPLOAD_CHARACTERS_MAX = 14 << 20
"""10 MiB as base64. Larger files come in through `storage.collect`."""
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


class FilePage(Answer):
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


class LinkView(Answer):
    """`url` is only a path where the daemon does not know its public address."""

    url: str
    expires_at: str


async def upload(context: Context, wanted: UploadInput) -> FileView:
    """All or nothing. Raises NotFound or Denied (outside the scope), InvalidInput (the path, no base64), Conflict (it exists,
    has another version, or looks like another), QuotaExceeded, DiskFull."""
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
        expires_at=ends_at(wanted.expires_in_s, now=context.clock.now()),
        overwrite=wanted.overwrite,
        if_version=wanted.if_version,
    )
    file = await context.use(Transfers).keep(_decoded(wanted.content, wanted.encoding), target=target)
    return FileView.of(place.namespace, file)


async def read(context: Context, wanted: ReadInput) -> StoredRange:
    """Past the end it is empty. Raises NotFound, InvalidInput, WrongState (asked for as text and none)."""
    place = readable(context, wanted.namespace, wanted.path)
    files = context.use(FileStore)
    file = files.get(place.tree, wanted.path)
    with files.blobs.open(file.tree, file.sha256) as reader:
        raw = await reader.read(wanted.offset, bytes_for(wanted.encoding, wanted.limit))
    found = content_range(raw, encoding=wanted.encoding, offset=wanted.offset, size_bytes=file.size_bytes)
    return StoredRange(**found.model_dump(), content_type=file.description.content_type)


async def browse(context: Context, wanted: BrowseInput) -> FilePage:
    """In the order of paths. Nothing there is no error. Raises NotFound (the namespace), InvalidInput (the prefix)."""
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
    """Raises NotFound, InvalidInput."""
    place = readable(context, wanted.namespace, wanted.path)
    return FileView.of(place.namespace, context.use(FileStore).get(place.tree, wanted.path))


async def delete(context: Context, wanted: DeleteInput) -> FileView:
    """What it was. Raises NotFound, Denied, InvalidInput, Conflict (another version)."""
    place = writable(context, wanted.namespace, wanted.path)
    file = await context.use(FileStore).remove(place.tree, wanted.path, if_version=wanted.if_version)
    return FileView.of(place.namespace, file)


async def copy(context: Context, wanted: CopyInput) -> FileView:
    """With its description and its end. Raises what `read` and `upload` do."""
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
    """Of this version: once the file has changed it leads nowhere. Raises NotFound, InvalidInput, WrongState (HTTP is off)."""
    place = readable(context, wanted.namespace, wanted.path)
    file = context.use(FileStore).get(place.tree, wanted.path)
    expires_at = context.clock.now() + wanted.expires_in_s
    token = new_link_token(secrets.token_urlsafe(32))
    url = await context.use(Links).create(file, token=token, expires_at=expires_at)
    return LinkView(url=url, expires_at=iso(expires_at))


def _decoded(content: str, encoding: Encoding) -> bytes:
    if encoding == "utf-8":
        return content.encode()
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("content is not base64.", hint="Use the standard alphabet with padding.") from None


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
OPERATIONS: tuple[AnyOperation, ...] = (UPLOAD, READ, BROWSE, STAT, DELETE, COPY, LINK, STAGE, COLLECT)
