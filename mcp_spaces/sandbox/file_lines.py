"""Lines of a file, found by counting from its start without keeping what was passed over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mcp_spaces.errors import InvalidInput
from mcp_spaces.sandbox.port import FileContent

COUNTED_BYTES = 64 << 20
"""How far into a file lines are counted."""

Read = Callable[[int, int], Awaitable[FileContent]]
"""Offset and limit in bytes → the range."""


async def offset_of_line(read: Read, line: int, *, window_bytes: int) -> int:
    """Where `line` (from 1) starts; the file's end when it has fewer. Raises InvalidInput past COUNTED_BYTES."""
    missing, offset = line - 1, 0
    while missing:
        found = await read(offset, window_bytes)
        breaks = found.content.count(b"\n")
        if breaks >= missing:
            return offset + _after_break(found.content, missing)
        missing -= breaks
        offset += len(found.content)
        if not found.content or offset >= found.size_bytes:
            return offset
        if offset >= COUNTED_BYTES:
            raise InvalidInput(
                f"Lines are counted in the first {COUNTED_BYTES:,} bytes only.", hint="Read by offset and limit."
            )
    return offset


def first_lines(content: bytes, most: int | None) -> bytes:
    """At most so many lines from the start of `content`."""
    if most is None or content.count(b"\n") < most:
        return content
    return content[: _after_break(content, most)]


def _after_break(content: bytes, number: int) -> int:
    position = 0
    for _ in range(number):
        position = content.index(b"\n", position) + 1
    return position
