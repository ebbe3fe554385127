"""The operations of a batch, protocol 1.0, as they come in."""

# ruff: noqa: N815 - names as protocol 1.0 writes them

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mcp_spaces.core.json_schema import schema_of
from mcp_spaces.core.plain_words import sentences_of
from mcp_spaces.core.spelling import Spelled
from mcp_spaces.sandbox.files import EDITS, Encoding
from mcp_spaces.sandbox.path_grammar import FilePath, FolderPath, NewFilePath
from mcp_spaces.sandbox.shell import CommandText, Environment

MESSAGE_CHARACTERS = 100_000
LONGEST_TIMEOUT_MS = 86_400_000

Id = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$"),
    Spelled("1 to 64 letters, digits and . _ : -, beginning with a letter or digit"),
]


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: Id | None = None


class Message(_Asked):
    type: Literal["message"]
    content: str = Field(max_length=MESSAGE_CHARACTERS)


class CreateFile(_Asked):
    type: Literal["createFile"]
    path: NewFilePath
    content: str
    encoding: Encoding = "utf-8"
    overwrite: bool = False


class ReadFile(_Asked):
    type: Literal["readFile"]
    path: FilePath
    encoding: Encoding = "utf-8"
    offset: int | None = Field(default=None, ge=0)
    limit: int | None = Field(default=None, ge=1)


class BatchEdit(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    oldContent: str = Field(min_length=1)
    newContent: str


class EditFile(_Asked):
    type: Literal["editFile"]
    path: FilePath
    edits: tuple[BatchEdit, ...] = Field(min_length=1, max_length=EDITS)
    baseSha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class DeleteFile(_Asked):
    type: Literal["deleteFile"]
    path: FilePath


class Shell(_Asked):
    type: Literal["shell"]
    command: CommandText
    cwd: FolderPath = "."
    timeout: int | None = Field(default=None, ge=1, le=LONGEST_TIMEOUT_MS)
    """Milliseconds."""
    env: Environment = Field(default={})


Asked = Message | CreateFile | ReadFile | EditFile | DeleteFile | Shell
TYPES = ("message", "createFile", "readFile", "editFile", "deleteFile", "shell")
_ASKED: TypeAdapter[Asked] = TypeAdapter(Annotated[Asked, Field(discriminator="type")])


def operation_schemas() -> list[dict[str, Any]]:
    """A JSON Schema for each type."""
    return [schema_of(model) for model in (Message, CreateFile, ReadFile, EditFile, DeleteFile, Shell)]


@dataclass(frozen=True, slots=True)
class Malformed:
    """An operation that cannot be understood: one error event, wherever it stands."""

    problem: str
    details: str


@dataclass(frozen=True, slots=True)
class Numbered:
    """`id` is the caller's own, or made up from the position, so that each operation can be approved."""

    id: str
    asked: Asked | Malformed


@dataclass(frozen=True, slots=True)
class Call:
    """The child call that an operation is."""

    operation_id: str
    arguments: Mapping[str, object]


def parse_operations(raw: Sequence[Any]) -> list[Numbered]:
    """Never raises: what is wrong with one operation concerns that one only."""
    given = {one.get("id") for one in raw if isinstance(one, dict) and isinstance(one.get("id"), str)}
    seen: set[str] = set()
    parsed: list[Numbered] = []
    for number, one in enumerate(raw, start=1):
        asked = _parse(one)
        own = None if isinstance(asked, Malformed) else asked.id
        if own is not None and own in seen:
            asked, own = Malformed("The id is used twice in this batch.", "id: give each operation its own"), None
        made_up = own or _made_up(number, given)
        seen.add(made_up)
        parsed.append(Numbered(made_up, asked))
    return parsed


def call_of(asked: CreateFile | ReadFile | EditFile | DeleteFile | Shell) -> Call:
    match asked:
        case CreateFile():
            fields = asked.model_dump(include={"path", "content", "encoding", "overwrite"})
            return Call("sandbox.write_file", fields)
        case ReadFile():
            return Call("sandbox.read_file", asked.model_dump(include={"path", "encoding", "offset", "limit"}))
        case EditFile():
            edits = [{"old": edit.oldContent, "new": edit.newContent} for edit in asked.edits]
            return Call("sandbox.edit_file", {"path": asked.path, "edits": edits, "base_sha256": asked.baseSha256})
        case DeleteFile():
            return Call("sandbox.delete_file", {"path": asked.path})
        case Shell():
            timeout_s = None if asked.timeout is None else asked.timeout / 1000
            fields = {"command": asked.command, "cwd": asked.cwd, "env": dict(asked.env), "timeout_s": timeout_s}
            return Call("sandbox.shell", fields)


def _parse(one: object) -> Asked | Malformed:
    if not isinstance(one, dict):
        return Malformed("An operation is an object.", f"type: one of {', '.join(TYPES)}")
    try:
        return _ASKED.validate_python(one)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        # The first part of a location is the type's own name.
        told = sentences_of(error, without=1)
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return Malformed("The operation's type is missing or unknown.", f"type: one of {', '.join(TYPES)}")
    return Malformed("The operation cannot be understood.", "; ".join(told))


def _made_up(number: int, given: set[Any]) -> str:
    made_up = f"op_{number}"
    while made_up in given:
        made_up += "_"
    return made_up
