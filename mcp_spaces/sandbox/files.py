"""Read, write, edit and delete files in a sandbox's workspace."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from mcp_spaces.core.answer import ANSWER_CHARACTERS, BASE64_BYTES, Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Access, FileFacts
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.core.policy import Deny, decide
from mcp_spaces.core.spelling import Spelled
from mcp_spaces.errors import Denied, InvalidInput
from mcp_spaces.sandbox.cutting import Fitting, text_within, whole_characters
from mcp_spaces.sandbox.edits import Edit, apply_edits
from mcp_spaces.sandbox.file_lines import first_lines, offset_of_line
from mcp_spaces.sandbox.path_grammar import FilePath, NewFilePath, encodable
from mcp_spaces.sandbox.port import FileContent, Sandbox
from mcp_spaces.sandbox.refusals import error_of
from mcp_spaces.sandbox.service import SandboxService

CONTENT_BYTES = 10 << 20
"""Of one write, after decoding."""
WINDOW_BYTES = 1 << 20
"""Read at a time. A file up to this size is read whole, and its hash told."""
EDITS = 100

Encoding = Literal["utf-8", "base64"]


class ReadFileInput(InRuntime):
    path: FilePath
    offset: int | None = Field(default=None, ge=0)
    """Bytes."""
    limit: int | None = Field(default=None, ge=1)
    """Bytes."""
    start_line: int | None = Field(default=None, ge=1)
    """Instead of offset."""
    lines: int | None = Field(default=None, ge=1)
    encoding: Encoding = "utf-8"

    @model_validator(mode="after")
    def _bytes_or_lines(self) -> ReadFileInput:
        by_line = self.start_line is not None or self.lines is not None
        if by_line and (self.offset is not None or self.limit is not None or self.encoding == "base64"):
            raise ValueError("give offset and limit, or start_line and lines")
        return self


class ReadFileOutput(Answer):
    """At most 16,000 characters; `next_offset` or `next_line` leads on."""

    path: str
    """With every link resolved."""
    content: str
    encoding: Encoding
    size_bytes: int
    """Of the whole file."""
    sha256: str | None = None
    """Of the whole file, where it was read whole."""
    truncated: bool | None = None
    next_offset: int | None = None
    start_line: int | None = None
    next_line: int | None = None


class WriteFileInput(InRuntime):
    path: NewFilePath
    content: str
    encoding: Encoding = "utf-8"
    overwrite: bool = True

    @model_validator(mode="after")
    def _decodable(self) -> WriteFileInput:
        if len(self.content_bytes) > CONTENT_BYTES:
            raise ValueError(f"content has at most {CONTENT_BYTES} bytes")
        return self

    @cached_property
    def content_bytes(self) -> bytes:
        """Raises ValueError."""
        if self.encoding == "utf-8":
            return encodable(self.content).encode()
        try:
            return base64.b64decode(self.content, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("content is not valid base64") from None


class WriteFileOutput(Answer):
    path: str
    size_bytes: int
    sha256: str


class EditFileInput(InRuntime):
    path: FilePath
    edits: tuple[Edit, ...] = Field(min_length=1, max_length=EDITS)
    """Each old text has to be in the file exactly once."""
    base_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$"), Spelled("64 of 0-9 a-f")] | None = None
    """Refuse if the file has another hash."""


class EditFileOutput(WriteFileOutput):
    edits_applied: int


class DeleteFileInput(InRuntime):
    path: FilePath
    recursive: bool = False
    """For folders."""


class DeleteFileOutput(Answer):
    path: str
    deleted: int
    """Files and folders that went."""


async def read_file(context: Context, given: ReadFileInput) -> ReadFileOutput:
    """Raises NotFound, WrongState (no regular file), Denied, InvalidInput (binary, asked for as text)."""
    sandbox = _sandbox(context)

    async def read(offset: int, limit: int) -> FileContent:
        found = await sandbox.read_file(given.path, offset=offset, limit=limit)
        _judge_read(context, given.path, found)
        return found

    by_line = given.start_line is not None or given.lines is not None
    first_line = given.start_line or 1
    offset = await offset_of_line(read, first_line, window_bytes=WINDOW_BYTES) if by_line else given.offset or 0
    # A small file is read whole even for a short range: its hash is what an edit can be based on.
    found = await read(offset, WINDOW_BYTES)
    whole = found.content if offset == 0 and len(found.content) == found.size_bytes else None
    asked = first_lines(found.content, given.lines) if by_line else found.content[: given.limit]
    part = _fitting(asked, given.encoding, offset=offset, size_bytes=found.size_bytes)
    cut = part.used_bytes < len(asked) or (len(asked) == WINDOW_BYTES and offset + len(asked) < found.size_bytes)
    following = offset + part.used_bytes
    more = following < found.size_bytes
    at_line_start = part.used_bytes == len(asked) or part.text.endswith("\n")
    return ReadFileOutput(
        path=found.resolved_path,
        content=part.text,
        encoding=given.encoding,
        size_bytes=found.size_bytes,
        sha256=None if whole is None else hashlib.sha256(whole).hexdigest(),
        truncated=cut or None,
        next_offset=following if more else None,
        start_line=first_line if by_line else None,
        next_line=first_line + part.text.count("\n") if by_line and more and at_line_start else None,
    )


async def write_file(context: Context, given: WriteFileInput) -> WriteFileOutput:
    """All or nothing. Raises Conflict (exists, without overwrite), WrongState (a link on the way), DiskFull."""
    content = given.content_bytes
    written = await _sandbox(context).write_file(given.path, content, overwrite=given.overwrite)
    return WriteFileOutput(path=written.path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


async def edit_file(context: Context, given: EditFileInput) -> EditFileOutput:
    """All edits or none, on the very content that they were applied to.

    Raises InvalidInput (an old text is not there exactly once, or not text), Conflict (it changed), as write_file.
    """
    live = context.use(SandboxService).started(context.runtime.id)
    async with live.editing:
        return await _edited(context, live.sandbox, given)


async def _edited(context: Context, sandbox: Sandbox, given: EditFileInput) -> EditFileOutput:
    found = await sandbox.read_file(given.path, limit=CONTENT_BYTES + 1)
    judge(context, EDIT_FILE, FileFacts(found.resolved_path, Access.WRITE, found.size_bytes))
    if found.size_bytes > CONTENT_BYTES:
        raise InvalidInput(
            f"The file has {found.size_bytes:,} bytes; edits work up to {CONTENT_BYTES:,}.",
            hint="Use sed in sandbox_shell.",
        )
    base_sha256 = hashlib.sha256(found.content).hexdigest()
    if given.base_sha256 not in (None, base_sha256):
        raise error_of(b"changed", path=found.resolved_path)
    text = _strict_text(found.content, at_start=False, at_end=False).content.decode()
    content = (await apply_edits(text, given.edits)).encode()
    judge(context, EDIT_FILE, FileFacts(given.path, Access.WRITE, len(content)))
    written = await sandbox.write_file(given.path, content, overwrite=True, base_sha256=base_sha256)
    return EditFileOutput(
        path=written.path,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        edits_applied=len(given.edits),
    )


async def delete_file(context: Context, given: DeleteFileInput) -> DeleteFileOutput:
    """A link is removed, not what it leads to. Raises NotFound, WrongState (a folder, without recursive)."""
    deleted = await _sandbox(context).delete_file(given.path, recursive=given.recursive)
    return DeleteFileOutput(path=given.path, deleted=deleted)


def _judge_read(context: Context, asked: str, found: FileContent) -> None:
    """Policy saw the path as it was written: judge it again by where the links led and by what was read."""
    judge(context, READ_FILE, FileFacts(asked, Access.READ, len(found.content)))
    if found.resolved_path != asked:
        judge(context, READ_FILE, FileFacts(found.resolved_path, Access.READ, len(found.content)))


def judge(context: Context, operation: AnyOperation, facts: FileFacts) -> None:
    """What could not be known before the call. Raises Denied."""
    decision = decide(context.policy, operation_id=operation.id, effect=operation.effect, facts=facts)
    # Rules about files allow or deny. An Ask comes from the operation itself, and was answered before this ran.
    if isinstance(decision, Deny):
        raise Denied(decision.reason, hint=decision.suggestion, rule=decision.rule)


def _sandbox(context: Context) -> Sandbox:
    return context.use(SandboxService).live(context.runtime.id)


def _fitting(content: bytes, encoding: Encoding, *, offset: int, size_bytes: int) -> Fitting:
    """What of `content` fits into an answer. Raises InvalidInput for text that is none."""
    if encoding == "base64":
        part = content[:BASE64_BYTES]
        return Fitting(base64.b64encode(part).decode(), len(part))
    text = _strict_text(content, at_start=offset > 0, at_end=offset + len(content) < size_bytes)
    fitting = text_within(text.content, ANSWER_CHARACTERS, open_end=False)
    used_bytes = text.skipped_bytes + fitting.used_bytes
    # A piece of a character at the end of a range belongs to the next one, unless it is all there is.
    return Fitting(fitting.text, used_bytes or len(content))


@dataclass(frozen=True, slots=True)
class _Text:
    content: bytes
    skipped_bytes: int


def _strict_text(content: bytes, *, at_start: bool, at_end: bool) -> _Text:
    """Valid UTF-8, without the pieces of characters where the range begins or ends inside of the file."""
    skipped_bytes = len(content) - len(whole_characters(content, at_start=at_start, at_end=False))
    whole = whole_characters(content, at_start=at_start, at_end=at_end)
    try:
        whole.decode()
    except UnicodeDecodeError:
        raise _binary() from None
    if b"\0" in whole:
        raise _binary()
    return _Text(whole, skipped_bytes)


def _binary() -> InvalidInput:
    return InvalidInput("This is a binary file, not UTF-8 text.", hint="Read it with encoding=base64.")


READ_FILE = Operation(
    id="sandbox.read_file",
    summary="Read a file of a sandbox.",
    input=ReadFileInput,
    output=ReadFileOutput,
    effect=Effect.READS,
    facts=lambda given: FileFacts(given.path, Access.READ),
    handler=read_file,
    idempotent=True,
    needs_running_space=True,
    example={"space": "default", "path": "src/main.py"},
)
WRITE_FILE = Operation(
    id="sandbox.write_file",
    summary="Write a file in a sandbox.",
    input=WriteFileInput,
    output=WriteFileOutput,
    effect=Effect.WRITES,
    facts=lambda given: FileFacts(given.path, Access.WRITE, len(given.content_bytes)),
    handler=write_file,
    idempotent=True,
    needs_running_space=True,
    example={"space": "default", "path": "src/main.py", "content": "print(1)\n"},
)
EDIT_FILE = Operation(
    id="sandbox.edit_file",
    summary="Replace texts in a file of a sandbox.",
    input=EditFileInput,
    output=EditFileOutput,
    effect=Effect.WRITES,
    facts=lambda given: FileFacts(given.path, Access.WRITE),
    handler=edit_file,
    needs_running_space=True,
    example={"space": "default", "path": "src/main.py", "edits": [{"old": "print(1)", "new": "print(2)"}]},
)
DELETE_FILE = Operation(
    id="sandbox.delete_file",
    summary="Delete a file or folder in a sandbox.",
    input=DeleteFileInput,
    output=DeleteFileOutput,
    effect=Effect.DELETES,
    facts=lambda given: FileFacts(given.path, Access.DELETE, recursive=given.recursive),
    handler=delete_file,
    idempotent=True,
    needs_running_space=True,
    example={"space": "default", "path": "src/old.py"},
)
