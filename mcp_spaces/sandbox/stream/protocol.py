"""Taking the agent's stream apart. The other end is hostile: every length, kind and number is checked here."""

from __future__ import annotations

import struct
from collections.abc import Callable

from mcp_spaces.sandbox.agent import wire

FROM_AGENT = frozenset(
    (
        wire.HELLO,
        wire.GRANT,
        wire.STARTED,
        wire.STDOUT,
        wire.STDERR,
        wire.EXIT,
        wire.REPLY,
        wire.RESULT,
        wire.FAILURE,
        wire.GONE,
        wire.ACCEPTED,
        wire.FINISHED,
    )
)
OUTPUT = frozenset((wire.STDOUT, wire.STDERR))
MUX_HEADER = struct.Struct(">B3xI")
STDOUT, STDERR = 1, 2


class Violation(Exception):
    """The sandbox said something that its agent never says. The text holds nothing from inside."""


class FrameReader:
    """Bytes in, frames out. Holds at most one incomplete frame, however the bytes are cut."""

    def __init__(self, on_frame: Callable[[int, int, bytes], None]) -> None:
        self._on_frame = on_frame
        self._pending = bytearray()
        self._needed = wire.HEADER.size

    def feed(self, content: memoryview) -> None:
        """Raises Violation."""
        pending = self._pending
        pending += content
        if len(pending) < self._needed:
            return
        at, end, header = 0, len(pending), wire.HEADER.size
        while end - at >= header:
            size, kind, channel = wire.HEADER.unpack_from(pending, at)
            if kind not in FROM_AGENT:
                raise Violation("an unknown kind of frame")
            if size > (wire.CHUNK if kind in OUTPUT else wire.MAX_PAYLOAD):
                raise Violation("an oversized frame")
            if end - at - header < size:
                self._needed = header + size
                break
            at += header
            self._on_frame(kind, channel, bytes(pending[at : at + size]))
            at += size
        else:
            self._needed = header
        del pending[:at]


class Demultiplexer:
    """Docker's attach stream: a header of eight bytes (which stream, how long), then that many bytes."""

    def __init__(self, *, stdout: Callable[[memoryview], None], stderr: Callable[[memoryview], None]) -> None:
        self._sinks = {STDOUT: stdout, STDERR: stderr}
        self._sink = stdout
        self._left = 0
        self._header = bytearray()

    def feed(self, content: memoryview) -> None:
        """Raises Violation for a header that is none."""
        at, end = 0, len(content)
        while at < end:
            if self._left:
                piece = content[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                self._sink(piece)
                continue
            missing = MUX_HEADER.size - len(self._header)
            self._header += content[at : at + missing]
            at += missing
            if len(self._header) == MUX_HEADER.size:
                stream, self._left = MUX_HEADER.unpack(self._header)
                self._header.clear()
                if stream not in self._sinks:
                    raise Violation("an unknown stream")
                self._sink = self._sinks[stream]


def fields_in(payload: bytes) -> list[bytes]:
    """However many there are. Raises Violation."""
    try:
        return wire.unpack(payload)
    except wire.Malformed as error:
        raise Violation("malformed fields") from error


def fields_of(payload: bytes, count: int) -> list[bytes]:
    """Exactly `count` fields. Raises Violation."""
    fields = fields_in(payload)
    if len(fields) != count:
        raise Violation("a wrong number of fields")
    return fields


def whole(field: bytes, *, low: int = 0, high: int = 1 << 62) -> int:
    """Raises Violation when it is no number or out of bounds."""
    try:
        value = wire.number([field], 0)
    except wire.Malformed as error:
        raise Violation("malformed number") from error
    if not low <= value <= high:
        raise Violation("a number out of bounds")
    return value


def text(field: bytes, *, longest: int = 4096) -> str:
    """What is not UTF-8 shows as `\\xNN`: such a name can be seen, not addressed. Raises Violation when too long."""
    if len(field) > longest:
        raise Violation("an oversized text")
    return field.decode("utf-8", "backslashreplace")
