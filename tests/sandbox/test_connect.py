"""A person's terminal: however the shell or its sandbox ends, they are told what happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

import anyio
import pytest
from anyio.lowlevel import checkpoint

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.connect import attached
from mcp_spaces.server.terminal import Frame, SocketTerminal, frame
from tests.sandbox.app_fixture import Room

pytestmark = pytest.mark.anyio


@dataclass
class Person:
    """Types `first`, and then nothing, or without a pause."""

    first: bytes = b""
    restless: bool = False
    shown: anyio.Event = field(default_factory=anyio.Event)

    def show(self, output: bytes) -> None:
        if output:
            self.shown.set()

    async def typed(self) -> AsyncIterator[bytes | tuple[int, int]]:
        yield self.first
        while self.restless:
            await checkpoint()
            yield b"\n"
        await anyio.sleep_forever()


async def test_whoever_types_on_while_the_shell_ends_is_told_its_exit_code(room: Room) -> None:
    with attached(Person(b"exit 3\n", restless=True)), anyio.fail_after(20):
        ended = await room.call("sandbox.connect", caller=room.identity.operator(), runtime="main")
    assert ended.exit_code == 3


async def test_a_sandbox_that_is_stopped_under_a_terminal_is_said_to_be_gone(room: Room) -> None:
    person, (runtime,) = Person(), room.runtimes.of_space(room.space.id)

    async def stop() -> None:
        await person.shown.wait()
        await room.service.stop(runtime.id, reason="a test")

    async with anyio.create_task_group() as stopping:
        stopping.start_soon(stop)
        with attached(person), anyio.fail_after(20), pytest.raises(RuntimeUnavailable, match="is gone"):
            await room.call("sandbox.connect", caller=room.identity.operator(), runtime="main")


@pytest.mark.parametrize("size", [b"no JSON", b"\xff", b'{"rows": 0, "columns": 80}', b"[]"])
async def test_a_client_that_sends_no_size_has_left(size: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(frame(Frame.INPUT, b"ls\n") + frame(Frame.RESIZE, size) + frame(Frame.INPUT, b"more\n"))
    terminal = SocketTerminal(reader, cast(asyncio.StreamWriter, None))
    assert [typed async for typed in terminal.typed()] == [b"ls\n"]
