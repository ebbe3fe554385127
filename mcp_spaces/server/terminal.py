"""An interactive terminal over the operator's socket: after one line of JSON, frames of bytes both ways.

A tool's answer is one document, so a shell that a person types into does not fit into one. The connection's first line
is `{"mcp-spaces":1,"terminal":{"space":…,"runtime":…,"rows":…,"columns":…}}`; what follows is the operation
`sandbox.connect`, called through the pipeline as any other: recorded, decided, cancellable.

A frame is one byte that says what it is, its length in 4 bytes (big-endian), and that many bytes. Both sides import
this module, so it imports nothing heavy.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from mcp_spaces.core.caller import Caller
    from mcp_spaces.server.port import Application

HEADER = struct.Struct(">cI")
FRAME_BYTES_MAX = 1 << 16
BACKLOG_BYTES_MAX = 4 << 20
"""What a terminal that does not read may have waiting. Beyond, output is dropped: the daemon's memory is not its."""


class Frame(Enum):
    """What a frame holds. Clients send INPUT and RESIZE, the daemon the others."""

    INPUT = b"i"
    RESIZE = b"r"
    """`{"rows": …, "columns": …}`"""
    OUTPUT = b"o"
    EXIT = b"x"
    """The operation's output, as JSON. Nothing follows."""
    ERROR = b"e"
    """An error as tools describe it, as JSON. Nothing follows."""


class BrokenFrame(ValueError):
    """The other side does not speak this."""


def frame(kind: Frame, content: bytes) -> bytes:
    return HEADER.pack(kind.value, len(content)) + content


def header(packed: bytes) -> tuple[Frame, int]:
    """What comes next, and how long it is. Raises BrokenFrame."""
    kind, length = HEADER.unpack(packed)
    try:
        found = Frame(kind)
    except ValueError:
        raise BrokenFrame(f"no such frame: {kind!r}") from None
    if length > FRAME_BYTES_MAX:
        raise BrokenFrame(f"a frame of {length} bytes")
    return found, length


def preamble(arguments: Mapping[str, Any]) -> bytes:
    """The first line of a connection that is to be a terminal."""
    return json.dumps({"mcp-spaces": 1, "terminal": arguments}).encode() + b"\n"


def wanted(line: bytes) -> dict[str, Any] | None:
    """The arguments in a connection's first line; None where it asks for no terminal."""
    if not line.startswith(b'{"mcp-spaces":'):
        return None
    from mcp_spaces.server import strict_json

    try:
        said = strict_json.parse(line)
    except strict_json.AmbiguousJsonError:
        return None
    match said:
        case {"mcp-spaces": 1, "terminal": dict() as arguments, **rest} if not rest:
            return arguments
        case _:
            return None


@dataclass(frozen=True, slots=True)
class SocketTerminal:
    """The person's side, as `sandbox.connect` uses it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def show(self, output: bytes) -> None:
        if self.writer.is_closing() or self.writer.transport.get_write_buffer_size() > BACKLOG_BYTES_MAX:
            return
        for start in range(0, len(output), FRAME_BYTES_MAX):
            self.writer.write(frame(Frame.OUTPUT, output[start : start + FRAME_BYTES_MAX]))

    async def typed(self) -> AsyncIterator[bytes | tuple[int, int]]:
        """What the person types, and `(rows, columns)` when the window changes. Ends when they leave."""
        from asyncio import IncompleteReadError  # the commands would wait for it, and never need it

        try:
            while True:
                kind, length = header(await self.reader.readexactly(HEADER.size))
                content = await self.reader.readexactly(length)
                if kind is Frame.INPUT:
                    yield content
                elif kind is Frame.RESIZE:
                    yield _size(content)
                else:
                    raise BrokenFrame(f"{kind.name} comes from the daemon only")
        except (IncompleteReadError, ConnectionError, ValueError):
            return


async def serve_terminal(
    app: Application,
    caller: Caller,
    arguments: Mapping[str, Any],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Run one terminal until the shell ends or the person leaves."""
    from mcp_spaces.errors import SpacesError
    from mcp_spaces.sandbox.connect import CONNECT, attached
    from mcp_spaces.server.results import described

    terminal = SocketTerminal(reader, writer)
    try:
        with attached(terminal):
            outcome = await app.pipeline.call(caller, CONNECT.id, arguments)
        last = frame(Frame.EXIT, outcome.output.model_dump_json().encode())
    except SpacesError as error:
        last = frame(Frame.ERROR, json.dumps(described(error)).encode())
    if not writer.is_closing():
        writer.write(last)
        await writer.drain()


def _size(content: bytes) -> tuple[int, int]:
    match json.loads(content):
        case {"rows": int() as rows, "columns": int() as columns} if 0 < rows <= 1000 and 0 < columns <= 1000:
            return rows, columns
        case _:
            raise BrokenFrame("no size")
