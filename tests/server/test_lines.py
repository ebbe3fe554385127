"""Messages, one a line, as they come from a socket and go into one."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp.shared.message import SessionMessage

from mcp_spaces.server.lines import LineReader, LineWriter

LIMIT = 4096
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'


class Ends:
    """A reader and a writer of ours, and what the other side holds."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: socket.socket) -> None:
        self.writer = writer
        self.client = client
        self.reader = reader
        self.answers = LineWriter(writer)

    def said(self) -> list[Any]:
        """The answers that wait to be read."""
        self.client.setblocking(False)
        try:
            return [json.loads(line) for line in self.client.recv(1 << 16).splitlines()]
        except BlockingIOError:
            return []


@asynccontextmanager
async def ends() -> AsyncIterator[Ends]:
    ours, client = socket.socketpair()
    with client:
        reader, writer = await asyncio.open_connection(sock=ours, limit=LIMIT)
        try:
            with anyio.fail_after(20):
                yield Ends(reader, writer, client)
        finally:
            writer.transport.abort()


def answer(text: str) -> SessionMessage:
    return SessionMessage(types.JSONRPCResponse(jsonrpc="2.0", id=1, result={"text": text}))


async def send_on(at: Ends) -> None:
    while True:
        await at.answers.send(answer("x"))


async def methods(messages: LineReader) -> list[str]:
    found = []
    async for message in messages:
        assert isinstance(message, SessionMessage)
        assert isinstance(message.message, types.JSONRPCRequest)
        found.append(message.message.method)
    return found


async def test_what_was_read_before_comes_first_and_empty_lines_are_passed_over() -> None:
    async with ends() as at:
        at.client.sendall(
            b"\n \r\n" + PING.replace(b"ping", b"second") + b"\n" + PING.rstrip().replace(b"ping", b"last")
        )
        at.client.shutdown(socket.SHUT_WR)
        first = LineReader(at.reader, at.answers, first_line=PING)
        assert await methods(first) == ["ping", "second", "last"]
        assert at.said() == []


@pytest.mark.parametrize("length", [LIMIT + 1, 3 * LIMIT])
async def test_d09_of_a_line_too_long_only_the_ends_are_kept_and_the_next_line_is_read(length: int) -> None:
    async with ends() as at:
        sending = asyncio.create_task(
            asyncio.to_thread(at.client.sendall, b'{"id":7,"a":"' + b"x" * length + b'"}\n' + PING)
        )
        message = await LineReader(at.reader, at.answers).receive()
        await sending
        assert isinstance(message, SessionMessage)
        (refused,) = at.said()
        assert (refused["id"], refused["error"]["code"]) == (7, types.INVALID_REQUEST)


FAR = b" " * (LIMIT + 1)


@pytest.mark.parametrize("parts", [(b"{" + FAR + b'"id":7,"a":', FAR, b"1}\n"), (b"{" + FAR, b'"id":7' + FAR, b"}\n")])
async def test_an_id_far_from_both_ends_of_a_line_too_long_is_not_kept(parts: tuple[bytes, ...]) -> None:
    async with ends() as at, anyio.create_task_group() as tasks:
        tasks.start_soon(LineReader(at.reader, at.answers).receive)
        for part in parts:
            await anyio.wait_all_tasks_blocked()
            at.reader.feed_data(part)
        at.reader.feed_data(PING)
        await anyio.wait_all_tasks_blocked()
        assert [one["id"] for one in at.said()] == [None]


async def test_a_line_too_long_that_never_ends_is_the_end() -> None:
    async with ends() as at:
        at.client.sendall(b"x" * (LIMIT + 1))
        at.client.shutdown(socket.SHUT_WR)
        with pytest.raises(anyio.EndOfStream):
            await LineReader(at.reader, at.answers).receive()
        assert at.said() == []


async def test_a_connection_that_breaks_is_the_end() -> None:
    async with ends() as at:
        at.reader.set_exception(ConnectionResetError())
        with pytest.raises(anyio.EndOfStream):
            await LineReader(at.reader, at.answers).receive()


async def test_an_answer_to_somebody_who_left_is_an_error_that_the_sdk_knows() -> None:
    async with ends() as at:
        at.client.close()
        with pytest.raises(anyio.BrokenResourceError):
            await send_on(at)
        at.writer.close()
        with pytest.raises(anyio.ClosedResourceError):
            await at.answers.send(answer("x"))


async def test_a_writer_waits_for_a_reader_that_is_slow() -> None:
    async with ends() as at:
        sent = 0

        async def send_all() -> None:
            nonlocal sent
            while sent < 100:
                await at.answers.send(answer("x" * 100_000))
                sent += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_all)
            await anyio.wait_all_tasks_blocked()
            assert sent < 100
            tasks.cancel_scope.cancel()


async def test_half_a_surrogate_pair_goes_out_as_an_escape_that_json_permits() -> None:
    async with ends() as at:
        await at.answers.send(answer("a\ud800b"))
        assert b"a\\ud800b" in at.client.recv(1 << 16)
