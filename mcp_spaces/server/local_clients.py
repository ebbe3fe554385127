"""What a local client talks through: its connection, or the pipes that it gave the shim, which the shim lends.

A shim that copied each message would be woken twice for a call. So with its first line it hands over the pipes, and
then only waits: its connection is the lifeline, which ends when either side does.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio

from mcp_spaces.server.shim import CLIENT_LEFT

GREETING_BYTES = 1 << 16
PIPES = 2
"""Standard input and standard output of what the client spawned."""
CLOSING_S = 1.0
"""How long the last answers may take to be read. Later ones still arrive, but nobody here waits for them."""


class NoClient(Exception):
    """Whoever connected does not speak as shims and clients do."""


@dataclass(frozen=True, slots=True)
class LocalClient:
    """`first_line` was read already, with its end; it is empty where the client said nothing."""

    first_line: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@asynccontextmanager
async def met(connection: socket.socket, *, line_bytes_max: int) -> AsyncIterator[LocalClient]:
    """The client behind an accepted connection, which is closed at the end. The body is cancelled, and left in silence,
    when a shim goes away whose pipes are used, or when nobody reads the answers any more.

    Raises NoClient.
    """
    try:
        early, pipes = await _greeting(connection)
    except BaseException:
        connection.close()
        raise
    meeting = _lent(connection, early, pipes, line_bytes_max) if pipes else _direct(connection, early, line_bytes_max)
    async with meeting as client:
        yield client


@asynccontextmanager
async def _direct(connection: socket.socket, early: bytes, line_bytes_max: int) -> AsyncIterator[LocalClient]:
    reader = asyncio.StreamReader(limit=line_bytes_max)
    protocol = asyncio.StreamReaderProtocol(reader)
    if early:
        reader.feed_data(early)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    try:
        yield LocalClient(await first_line(reader), reader, writer)
    finally:
        await _closed(writer)


@asynccontextmanager
async def _lent(
    connection: socket.socket, greeting: bytes, pipes: Sequence[int], line_bytes_max: int
) -> AsyncIterator[LocalClient]:
    served = False
    with anyio.CancelScope() as scope:
        loop = asyncio.get_running_loop()
        try:
            lifeline, _ = await loop.connect_accepted_socket(lambda: _Lifeline(scope.cancel), connection)
        except BaseException:
            for pipe in pipes:
                os.close(pipe)
            raise
        client_left = False
        try:
            async with _piped(pipes, line_bytes_max, on_unread=scope.cancel) as (reader, writer):
                served = True
                try:
                    yield LocalClient(greeting, reader, writer)
                finally:
                    # It writes no more, or it reads no more.
                    client_left = reader.at_eof() or writer.is_closing()
        finally:
            if client_left:
                lifeline.write(CLIENT_LEFT)
            lifeline.close()
    if not served:
        raise NoClient("it left before a word was read")


class _Lifeline(asyncio.Protocol):
    """The connection of a shim that only waits."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()


class _Answers(asyncio.StreamReaderProtocol):
    """The pipe that a client reads, whose other end asyncio watches."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        super().__init__(asyncio.StreamReader())  # StreamWriter waits by such a protocol
        self._on_lost = on_lost

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._on_lost()


@asynccontextmanager
async def _piped(
    pipes: Sequence[int], line_bytes_max: int, *, on_unread: Callable[[], None]
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The transports close the pipes, the second one when the last answer is read. `on_unread` is called when it is
    closed, by whichever side."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=line_bytes_max)
    questions, answers = os.fdopen(pipes[0], "rb", buffering=0), os.fdopen(pipes[1], "wb", buffering=0)
    try:
        incoming, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), questions)
    except BaseException:
        # No transport has it yet: the shim is gone in this very moment.
        answers.close()
        raise
    try:
        outgoing, protocol = await loop.connect_write_pipe(lambda: _Answers(on_unread), answers)
        writer = asyncio.StreamWriter(outgoing, protocol, None, loop)
        try:
            yield reader, writer
        finally:
            await _closed(writer)
    finally:
        incoming.close()


async def _greeting(connection: socket.socket) -> tuple[bytes, Sequence[int]]:
    """The first bytes, and the pipes that came with them: two, or none. Raises NoClient."""
    connection.setblocking(False)
    await anyio.wait_readable(connection)
    try:
        early, pipes, flags, _ = socket.recv_fds(connection, GREETING_BYTES, PIPES)
    except OSError as error:
        raise NoClient(error.strerror) from None
    for pipe in pipes:
        os.set_inheritable(pipe, False)
    # The kernel drops those for which no descriptor is left, all of them if need be.
    are_whole = not flags & socket.MSG_CTRUNC and (not pipes or _are_lent(early, pipes))
    if not are_whole:
        for pipe in pipes:
            os.close(pipe)
        raise NoClient("what it lends are not two pipes")
    return early, pipes


def _are_lent(greeting: bytes, pipes: Sequence[int]) -> bool:
    is_line = greeting.endswith(b"\n")
    return is_line and len(pipes) == PIPES and all(is_pipe(os.fstat(pipe)) for pipe in pipes)


def is_pipe(found: os.stat_result) -> bool:
    """Whether it can be waited for like one: Node gives what it spawns sockets."""
    return stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode)


async def first_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError:
        return b""  # it is still to be read, and refused, by the reader of messages


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with anyio.move_on_after(CLOSING_S, shield=True), suppress(ConnectionError):
        await writer.wait_closed()
