"""The heads of HTTP/1.x messages, read strictly (RFC 9112): what two readers could understand differently is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mcp_spaces.network.model import Reason, Refused

MAX_LINE = 8 * 1024
MAX_HEAD = 64 * 1024
MAX_FIELDS = 200
END = b"\r\n\r\n"
HOP_BY_HOP = frozenset(
    (
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "http2-settings",
    )
)  # fmt: skip
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_BAD_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_VERSIONS = (b"HTTP/1.0", b"HTTP/1.1")
_LENGTH = re.compile(r"[0-9]{1,18}")

Fields = list[tuple[str, str]]
"""Names as they came; values as Latin-1 without blanks around them."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    method: str
    target: str
    version: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class ResponseHead:
    status: int
    phrase: str
    version: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class Framing:
    """How a body ends: after `length` bytes, with its last chunk, or (neither) with the connection."""

    length: int | None = None
    chunked: bool = False


def malformed(words: str) -> Refused:
    return Refused(Reason.MALFORMED, words, status=400)


def check_growth(content: bytes | bytearray) -> None:
    """For a head that is still arriving. Raises Refused when it is too long, or can no longer become one."""
    line = content.rfind(b"\n") + 1
    if len(content) > MAX_HEAD:
        raise Refused(Reason.TOO_LARGE, "the head is longer than 64 KiB", status=431)
    if len(content) - line > MAX_LINE:
        raise Refused(Reason.TOO_LARGE, "a line is longer than 8 KiB", status=431)


def request_head(content: bytes) -> RequestHead:
    """Without the empty line at its end. Raises Refused."""
    first, fields = _lines(content)
    parts = first.split(b" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or len(parts[0]) > 32:
        raise malformed("that is no request line")
    method, target, version = parts
    if version not in _VERSIONS or not _TARGET.fullmatch(target):
        raise malformed("that is no HTTP/1.1 request")
    return RequestHead(method.decode(), target.decode(), version.decode(), fields)


def response_head(content: bytes) -> ResponseHead:
    """Raises Refused."""
    first, fields = _lines(content)
    version, _, rest = first.partition(b" ")
    status, _, phrase = rest.partition(b" ")
    if version not in _VERSIONS or len(status) != 3 or not status.isdigit() or not b"100" <= status <= b"599":
        raise malformed("that is no status line")
    if _BAD_IN_VALUE.search(phrase):
        raise malformed("that is no status line")
    return ResponseHead(int(status), phrase.decode("latin-1"), version.decode(), fields)


def _lines(content: bytes) -> tuple[bytes, Fields]:
    lines = content.split(b"\r\n")
    if any(len(line) > MAX_LINE for line in lines):
        raise Refused(Reason.TOO_LARGE, "a line is longer than 8 KiB", status=431)
    if len(lines) > MAX_FIELDS + 1:
        raise Refused(Reason.TOO_LARGE, f"more than {MAX_FIELDS} fields", status=431)
    fields = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or _BAD_IN_VALUE.search(value):
            raise malformed("that is no header field")
        fields.append((name.decode(), value.strip(b" \t").decode("latin-1")))
    return lines[0], fields


def values(fields: Fields, name: str) -> list[str]:
    return [value for key, value in fields if key.lower() == name]


def listed(fields: Fields, name: str) -> list[str]:
    """The members of a comma-separated field, in lower case."""
    return [part.strip().lower() for value in values(fields, name) for part in value.split(",") if part.strip()]


def framing(fields: Fields, *, version: str) -> Framing:
    """Raises Refused where length and encoding could be read in two ways (request smuggling)."""
    lengths, encodings = values(fields, "content-length"), values(fields, "transfer-encoding")
    if encodings:
        if lengths or version == "HTTP/1.0" or [one.strip().lower() for one in encodings] != ["chunked"]:
            raise malformed("the body's length is ambiguous")
        return Framing(chunked=True)
    if not lengths:
        return Framing()
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise malformed("the body's length is ambiguous")
    return Framing(length=int(lengths[0]))


def end_to_end(fields: Fields, *, without: Iterable[str] = ()) -> Fields:
    """What a proxy passes on: neither hop-by-hop fields nor those that `Connection` names."""
    dropped = {*HOP_BY_HOP, *listed(fields, "connection"), *without}
    # Naming these in `Connection` would take away what decides where a message goes and ends.
    dropped -= {"host", "content-length"} - set(without)
    return [(name, value) for name, value in fields if name.lower() not in dropped]


def written(first: str, fields: Fields) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join(lines).encode("latin-1") + END
