"""Stored files, as they are kept and as they are told."""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from mimetypes import MimeTypes
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict

from mcp_spaces.core.answer import ANSWER_CHARACTERS, BASE64_BYTES, Answer
from mcp_spaces.core.scope import OWN_NAMESPACE
from mcp_spaces.errors import WrongState

RANGE_BYTES_MAX = 1 << 20
"""The most that one read gives when it is asked for: a resource is read at once."""
LIFETIME_MAX_S = 315_360_000
"""Ten years."""
METADATA_ENTRIES_MAX = 20
METADATA_TEXT_MAX = 500
URI_SAFE = "/-._~!$&'()*+,;=:@"
"""What RFC 3986 lets stand in a path as it is."""

Encoding = Literal["utf-8", "base64"]
# The token characters of RFC 9110, so that it can stand in a header.
_CONTENT_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,63}/[A-Za-z0-9!#$&^_.+-]{1,63}(; charset=[A-Za-z0-9-]{1,20})?")
_METADATA_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def _check_content_type(value: str) -> str:
    if _CONTENT_TYPE.fullmatch(value) is None:
        raise ValueError("a content type looks like text/csv")
    return value


def _check_metadata(value: Mapping[str, str]) -> Mapping[str, str]:
    if len(value) > METADATA_ENTRIES_MAX:
        raise ValueError(f"at most {METADATA_ENTRIES_MAX} entries")
    if not all(_METADATA_KEY.fullmatch(key) and len(text) <= METADATA_TEXT_MAX for key, text in value.items()):
        raise ValueError(f"names are 1 to 63 of A-Z a-z 0-9 . _ -, texts at most {METADATA_TEXT_MAX} characters")
    return value


# Checked in code, not in the schema: models read the schema with every request.
ContentType = Annotated[str, AfterValidator(_check_content_type)]
Metadata = Annotated[Mapping[str, str], AfterValidator(_check_metadata)]

_SOURCES = {
    "text/markdown": ".md",
    "text/javascript": ".js .mjs",
    "text/plain": (
        ".cc .cfg .conf .cpp .cs .diff .go .hpp .ini .java .jsonl .jsx .kt .log .lua .patch .php .pl .rb .rs .rst .scss"
        " .sh .sql .svelte .swift .toml .ts .tsx .vue .yaml .yml .zig"
    ),
}


def _types() -> MimeTypes:
    """The list that Python carries, not the machine's own, and the source texts that it lacks or that only newer
    releases have: the same name means the same type everywhere."""
    types = MimeTypes(filenames=())
    for kind, extensions in _SOURCES.items():
        for extension in extensions.split():
            types.add_type(kind, extension)
    return types


_TYPES = _types()


class Description(BaseModel):
    """What is known about a file besides its content. `source` is `upload`, `run:<id>` or `runtime:<id>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    content_type: str
    source: str
    metadata: Mapping[str, str] = {}
    created_at: float = 0
    updated_at: float = 0


class StoredFile(BaseModel):
    """One row. `version` is unique inside its namespace and grows with every change there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tree: str
    path: str
    sha256: str
    size_bytes: int
    version: int
    expires_at: float | None
    description: Description


class FileView(Answer):
    uri: str
    """Reads as a resource; a space's own files are named by its id."""
    namespace: str
    path: str
    size_bytes: int
    sha256: str
    content_type: str
    version: int
    source: str
    metadata: Mapping[str, str] | None = None
    created_at: str
    updated_at: str
    expires_at: str | None = None

    @classmethod
    def of(cls, namespace: str, file: StoredFile) -> FileView:
        about = file.description
        tree = file.tree if namespace == OWN_NAMESPACE else namespace
        return cls(
            uri=f"storage://{tree}/{quote(file.path, safe=URI_SAFE)}",
            namespace=namespace,
            path=file.path,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            content_type=about.content_type,
            version=file.version,
            source=about.source,
            metadata=dict(about.metadata) or None,
            created_at=iso(about.created_at),
            updated_at=iso(about.updated_at),
            expires_at=None if file.expires_at is None else iso(file.expires_at),
        )


class ContentRange(Answer):
    """A piece of some content. `next_offset` is absent at the end."""

    content: str
    encoding: Encoding
    offset: int
    size_bytes: int
    next_offset: int | None = None


def bytes_for(encoding: Encoding, limit: int | None) -> int:
    """How many bytes to read: what was asked, or what keeps an answer within ANSWER_CHARACTERS."""
    if limit is not None:
        return limit
    return ANSWER_CHARACTERS if encoding == "utf-8" else BASE64_BYTES


def content_range(raw: bytes, *, encoding: Encoding, offset: int, size_bytes: int) -> ContentRange:
    """`raw`, read at `offset`, as an answer. A character cut at the end is left for the next range.

    Raises WrongState when it is no UTF-8, or when `offset` stands inside a character.
    """
    if encoding == "base64":
        text, used = base64.b64encode(raw).decode(), len(raw)
    else:
        try:
            text, used = codecs.utf_8_decode(raw, "strict", offset + len(raw) >= size_bytes)
            if raw and not used:
                raise WrongState("The range is shorter than one character.", hint="Ask for a limit of 4 or more.")
        except UnicodeDecodeError:
            raise WrongState("This is not UTF-8 text.", hint="Read it with encoding=base64.") from None
    end = offset + used
    return ContentRange(
        content=text,
        encoding=encoding,
        offset=offset,
        size_bytes=size_bytes,
        next_offset=end if used and end < size_bytes else None,
    )


def content_type_of(path: str) -> str:
    """By the extension; `application/octet-stream` when that says nothing."""
    guessed, compression = _TYPES.guess_type(path.rpartition("/")[2])
    return "application/octet-stream" if guessed is None or compression else guessed


def ends_at(expires_in_s: float | None, *, now: float) -> float | None:
    """In seconds since 1970; None: it is kept until somebody deletes it."""
    return None if expires_in_s is None else now + expires_in_s


def iso(at: float) -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
