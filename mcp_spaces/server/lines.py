"""JSON-RPC messages, one a line, over a local socket: the SDK's stream contract without tasks or queues between.

Reading parses straight from the socket; writing hands the whole line to the transport at once, so that a cancelled
handler never leaves half a line behind, and then waits for a slow reader.
"""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Self

import anyio
import mcp_types as types
from mcp.shared.message import SessionMessage
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from mcp_spaces.server import strict_json

ENDS_BYTES = 1024
"""Of a line that is too long: where the id of its request is looked for."""


class LineReader:
    """The SDK's read stream. Ends when the client closes its side. A line above the limit is refused and skipped."""

    def __init__(self, reader: asyncio.StreamReader, answers: LineWriter, *, first_line: bytes = b"") -> None:
        self._reader = reader
        self._answers = answers
        self._first_line = first_line

    async def receive(self) -> SessionMessage | Exception:
        while line := await self._line():
            if message := self._message(line):
                return message
        raise anyio.EndOfStream

    async def _line(self) -> bytes:
        if self._first_line:
            line, self._first_line = self._first_line, b""
            return line
        while True:
            try:
                return await self._reader.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                return error.partial
            except asyncio.LimitOverrunError as error:
                if not await self._skip_line(error.consumed):
                    return b""
            except ConnectionError:
                return b""

    async def _skip_line(self, waiting_bytes: int) -> bool:
        """Read on to the end of a line that is too long, and refuse it; the calls under way go on. False: it ended."""
        head = tail = await self._reader.readexactly(waiting_bytes)
        head = head[:ENDS_BYTES]
        while True:
            tail = tail[-ENDS_BYTES:]
            try:
                tail += await self._reader.readuntil(b"\n")
                break
            except asyncio.LimitOverrunError as error:
                tail += await self._reader.readexactly(error.consumed)
            except (asyncio.IncompleteReadError, ConnectionError):
                return False
        request_id = strict_json.request_id_by_ends(head, tail)
        self._answers.refuse(request_id, types.INVALID_REQUEST, "The message is longer than this server reads.")
        return True

    def _message(self, line: bytes) -> SessionMessage | None:
        """The line's message; one that is none is answered here, since the SDK drops it in silence."""
        if line.isspace():
            return None
        try:
            return SessionMessage(types.jsonrpc_message_adapter.validate_python(strict_json.parse(line), by_name=False))
        except strict_json.AmbiguousJsonError as error:
            self._answers.refuse(strict_json.request_id(line), types.PARSE_ERROR, f"Parse error: {error}")
        except ValidationError:
            self._answers.refuse(strict_json.request_id(line), types.INVALID_REQUEST, "Not a JSON-RPC message")
        return None

    async def aclose(self) -> None:
        """The socket is closed by whoever opened it."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.aclose()


class LineWriter:
    """The SDK's write stream."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, item: SessionMessage, /) -> None:
        self._write(item.message)
        try:
            await self._writer.drain()
        except ConnectionError:
            raise anyio.BrokenResourceError from None

    def refuse(self, request_id: types.RequestId | None, code: int, message: str) -> None:
        self._write(types.JSONRPCError(jsonrpc="2.0", id=request_id, error=types.ErrorData(code=code, message=message)))

    def _write(self, message: types.JSONRPCMessage) -> None:
        if self._writer.is_closing():
            raise anyio.ClosedResourceError
        try:
            line = message.model_dump_json(by_alias=True, exclude_unset=True).encode()
        except (PydanticSerializationError, UnicodeEncodeError):
            # A lone surrogate that slipped through: ASCII escapes carry it.
            line = json.dumps(message.model_dump(mode="python", by_alias=True, exclude_unset=True)).encode()
        self._writer.write(line + b"\n")

    async def aclose(self) -> None:
        """The socket is closed by whoever opened it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.aclose()
