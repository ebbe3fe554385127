"""The stream's daemon side against an agent that lies: whatever arrives, nothing but the one sandbox is lost."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from importlib import resources
from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_spaces.errors import RuntimeUnavailable, SpacesError
from mcp_spaces.sandbox.agent import files, wire
from mcp_spaces.sandbox.port import Command
from mcp_spaces.sandbox.refusals import REFUSALS, error_of
from mcp_spaces.sandbox.stream.protocol import MUX_HEADER, Demultiplexer, FrameReader, Violation, fields_of, text, whole
from tests.sandbox.liar import HELLO, liar
from tests.sandbox.rigs import PATIENCE_S, Output

pytestmark = pytest.mark.anyio
KINDS = st.sampled_from([wire.HELLO, wire.GRANT, wire.STARTED, wire.STDOUT, wire.EXIT, wire.REPLY, wire.RESULT])


def cut(content: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(point % (len(content) + 1) for point in at), len(content)]
    return [content[begin:end] for begin, end in pairwise(edges)]


@given(st.lists(st.tuples(KINDS, st.integers(0, 2**32 - 1), st.binary(max_size=300))), st.lists(st.integers(0, 10**6)))
def test_frames_arrive_however_the_bytes_are_cut(frames: list[tuple[int, int, bytes]], at: list[int]) -> None:
    got: list[tuple[int, int, bytes]] = []
    reader = FrameReader(lambda kind, channel, payload: got.append((kind, channel, payload)))
    demultiplexer = Demultiplexer(stdout=reader.feed, stderr=lambda _: None)
    multiplexed = b"".join(
        MUX_HEADER.pack(1, len(piece)) + piece for piece in cut(b"".join(wire.frame(*frame) for frame in frames), at)
    )
    for piece in cut(multiplexed, [point * 7 for point in at]):
        demultiplexer.feed(memoryview(piece))
    assert got == frames


@given(st.binary(max_size=2000))
def test_noise_is_a_violation_or_nothing(noise: bytes) -> None:
    with suppress(Violation):
        Demultiplexer(stdout=FrameReader(lambda *_: None).feed, stderr=lambda _: None).feed(memoryview(noise))


@given(st.lists(st.binary(max_size=100)))
def test_fields_survive_packing(fields: list[bytes]) -> None:
    assert wire.unpack(wire.pack(fields)) == fields


@given(st.binary(max_size=200))
def test_broken_fields_are_malformed_and_nothing_else(payload: bytes) -> None:
    try:
        assert wire.pack(wire.unpack(payload)) == payload
    except wire.Malformed:
        return


@pytest.mark.parametrize("kind", [0, wire.OPEN, wire.ROOM, 15, 28, 255])
def test_a_kind_that_no_agent_has_is_shown_to_nobody(kind: int) -> None:
    got: list[object] = []
    with pytest.raises(Violation):
        FrameReader(lambda *frame: got.append(frame)).feed(memoryview(wire.frame(kind, 1)))
    assert got == []


def test_numbers_and_texts_have_bounds() -> None:
    assert whole(wire.whole(5), high=5) == 5
    for low, high, field in ((0, 4, wire.whole(5)), (0, 9, wire.whole(-1)), (0, 9, b"short")):
        with pytest.raises(Violation):
            whole(field, low=low, high=high)
    with pytest.raises(Violation):
        text(b"x" * 4097)
    assert len(text(b"x" * 4096)) == 4096
    assert text(b"a\xff") == "a\\xff"
    with pytest.raises(Violation):
        fields_of(wire.pack([b"1"]), 2)


def test_every_refusal_has_a_message_and_a_hint() -> None:
    for word in REFUSALS:
        error = error_of(word, path="a/b")
        assert isinstance(error, SpacesError)
        assert error.message
        assert error.hint
    with pytest.raises(Violation):
        error_of(b"surprise", path="a")


LIES: dict[str, list[bytes]] = {
    "an unknown kind": [wire.HEADER.pack(0, 99, 1)],
    "a kind that only the daemon has": [wire.frame(wire.OPEN, 1)],
    "an oversized frame": [wire.HEADER.pack(wire.MAX_PAYLOAD + 1, wire.REPLY, 1)],
    "four gibibytes": [wire.HEADER.pack(2**32 - 1, wire.REPLY, 1)],
    "a frame for no call": [wire.frame(wire.STDOUT, 4321, b"x")],
    "a second greeting": [HELLO],
    "more content than asked for": [wire.frame(wire.REPLY, 1, b"x" * 11)],
    "more room than there is": [wire.frame(wire.GRANT, 1, wire.pack([wire.whole(wire.WINDOW)]))],
    "a negative grant": [wire.frame(wire.GRANT, 1, wire.pack([wire.whole(-5)]))],
    "malformed fields": [wire.frame(wire.RESULT, 1, b"\0\0\0\xff")],
    "too few fields": [wire.frame(wire.RESULT, 1, wire.pack([b"one"]))],
    "a number that is none": [wire.frame(wire.RESULT, 1, wire.pack([b"x", b"y"]))],
    "an unknown refusal": [wire.frame(wire.FAILURE, 1, wire.pack([b"surprise"]))],
    "the frame of another call": [wire.frame(wire.EXIT, 1)],
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_costs_the_sandbox_and_says_so(lie: str) -> None:
    async with liar() as agent:
        caught: list[BaseException] = []

        async def ask() -> None:
            try:
                await agent.sandbox.read_file("file", limit=10)
            except RuntimeUnavailable as error:
                caught.append(error)

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await agent.receive()
                await agent.say(*LIES[lie])
            assert "protocol" in await agent.sandbox.closed()
        assert len(caught) == 1
        with pytest.raises(RuntimeUnavailable):
            await agent.sandbox.stat("file")


EARLY: dict[str, list[bytes]] = {
    "output before the start": [wire.frame(wire.STDOUT, 1, b"x")],
    "an end before the start": [wire.frame(wire.EXIT, 1, wire.pack([wire.whole(0)] * 3))],
    "an exit code that is none": [
        wire.frame(wire.STARTED, 1),
        wire.frame(wire.EXIT, 1, wire.pack([wire.whole(900), wire.whole(0), wire.whole(0)])),
    ],
    "gone before the end": [wire.frame(wire.STARTED, 1), wire.frame(wire.GONE, 1)],
    "output after the end": [
        wire.frame(wire.STARTED, 1),
        wire.frame(wire.EXIT, 1, wire.pack([wire.whole(0)] * 3)),
        wire.frame(wire.STDOUT, 1, b"x"),
    ],
    "a second start": [wire.frame(wire.STARTED, 1), wire.frame(wire.STARTED, 1)],
    "a refusal after the start": [wire.frame(wire.STARTED, 1), wire.frame(wire.FAILURE, 1, wire.pack([b"absent"]))],
    "a second end": [
        wire.frame(wire.STARTED, 1),
        wire.frame(wire.EXIT, 1, wire.pack([wire.whole(0)] * 3)),
        wire.frame(wire.EXIT, 1, wire.pack([wire.whole(0)] * 3)),
    ],
    "more than out of memory": [
        wire.frame(wire.STARTED, 1),
        wire.frame(wire.EXIT, 1, wire.pack([wire.whole(1), wire.whole(0), wire.whole(2)])),
    ],
    "room that was not taken": [wire.frame(wire.STARTED, 1), wire.frame(wire.GRANT, 1, wire.pack([wire.whole(1)]))],
    "a chunk over 64 KiB": [wire.frame(wire.STARTED, 1), wire.frame(wire.STDOUT, 1, bytes(wire.CHUNK + 1))],
}


@pytest.mark.parametrize("lie", EARLY)
async def test_a_command_out_of_turn_costs_the_sandbox(lie: str) -> None:
    async with liar() as agent:
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(_tolerant(lambda: agent.sandbox.start(Command(["true"]), output=Output())))
                await agent.receive()
                await agent.say(*EARLY[lie])
            assert "protocol" in await agent.sandbox.closed()


PORT = wire.pack([wire.whole(3128)])
ELSEWHERE = wire.pack([wire.whole(3129)])
UNASKED = [wire.frame(wire.ACCEPTED, 2, PORT)]
CONNECTIONS: dict[str, list[bytes]] = {
    "a connection on the daemon's own channel": [wire.frame(wire.ACCEPTED, 5, PORT)],
    "a connection on channel 0": [wire.frame(wire.ACCEPTED, 0, PORT)],
    "bytes of a connection that nobody made": [wire.frame(wire.REPLY, 2, PORT)],
    "the same connection twice": [wire.frame(wire.ACCEPTED, 2, PORT), wire.frame(wire.ACCEPTED, 2, PORT)],
    "a connection to a port that is not offered": [wire.frame(wire.ACCEPTED, 2, ELSEWHERE)],
    "a connection without a port": [wire.frame(wire.ACCEPTED, 2)],
    "too many connections": [
        wire.frame(wire.ACCEPTED, 2 * number, PORT) for number in range(1, wire.MAX_CONNECTIONS + 2)
    ],
    "more bytes than there is room for": [
        wire.frame(wire.ACCEPTED, 2, PORT),
        *[wire.frame(wire.REPLY, 2, bytes(wire.CHUNK)) for _ in range(5)],
    ],
    "no bytes": [wire.frame(wire.ACCEPTED, 2, PORT), wire.frame(wire.REPLY, 2)],
    "bytes after their end": [
        wire.frame(wire.ACCEPTED, 2, PORT),
        wire.frame(wire.FINISHED, 2),
        wire.frame(wire.REPLY, 2, b"x"),
    ],
    "a second end": [wire.frame(wire.ACCEPTED, 2, PORT), wire.frame(wire.FINISHED, 2), wire.frame(wire.FINISHED, 2)],
    "a start of what has begun": [wire.frame(wire.ACCEPTED, 2, PORT), wire.frame(wire.STARTED, 2)],
    "room that was not taken": [
        wire.frame(wire.ACCEPTED, 2, PORT),
        wire.frame(wire.GRANT, 2, wire.pack([wire.whole(1)])),
    ],
    "an answer to no question": [wire.frame(wire.ACCEPTED, 2, PORT), wire.frame(wire.RESULT, 2)],
}


DIALLED: dict[str, list[bytes]] = {
    "bytes before the start": [wire.frame(wire.REPLY, 1, b"x")],
    "an end before the start": [wire.frame(wire.FINISHED, 1)],
    "gone before the start": [wire.frame(wire.GONE, 1)],
    "a refusal after the start": [wire.frame(wire.STARTED, 1), wire.frame(wire.FAILURE, 1, wire.pack([b"nobody"]))],
}


@pytest.mark.parametrize("lie", DIALLED)
async def test_a_dialled_connection_out_of_turn_costs_the_sandbox(lie: str) -> None:
    async with liar() as agent:
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(_tolerant(lambda: agent.sandbox.dial(80)))
                await agent.receive()
                await agent.say(*DIALLED[lie])
            assert "protocol" in await agent.sandbox.closed()


async def test_a_connection_that_nobody_offered_costs_the_sandbox() -> None:
    async with liar() as agent:
        await agent.say(*UNASKED)
        with anyio.fail_after(PATIENCE_S):
            assert "protocol" in await agent.sandbox.closed()


@pytest.mark.parametrize("lie", CONNECTIONS)
async def test_a_connection_out_of_turn_costs_the_sandbox(lie: str) -> None:
    async with liar() as agent:
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:

                async def offer() -> None:
                    await agent.sandbox.offer_proxy(lambda _: None, environment=dict, port=3128)

                group.start_soon(offer)
                await agent.receive()
                await agent.say(wire.frame(wire.RESULT, 1, wire.pack([wire.whole(3128)])))
            await agent.say(*CONNECTIONS[lie])
            assert "protocol" in await agent.sandbox.closed()


def _tolerant(ask: Callable[[], Awaitable[object]]) -> Callable[[], Coroutine[Any, Any, None]]:
    async def call() -> None:
        try:
            await ask()
        except RuntimeUnavailable:
            return

    return call


async def test_a_cancelled_call_is_taken_back_and_its_late_answer_is_ignored() -> None:
    async with liar() as agent:
        with anyio.move_on_after(0.05):
            await agent.sandbox.stat("file")
        asked = await agent.receive()
        assert asked.endswith(wire.frame(wire.KILL, 1))
        await agent.say(wire.frame(wire.RESULT, 1, wire.pack([b"late"])))
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(agent.sandbox.ping)
                await agent.receive()
                await agent.say(wire.frame(wire.RESULT, 3))


async def test_stdin_waits_for_room() -> None:
    async with liar() as agent:
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                started: list[object] = []

                async def begin() -> None:
                    process = await agent.sandbox.start(Command(["cat"]), output=Output())
                    started.append(process)
                    await process.write(bytes(wire.WINDOW + 1))
                    started.append("written")

                group.start_soon(begin)
                await agent.receive()
                await agent.say(wire.frame(wire.STARTED, 1))
                received = 0
                while received < wire.WINDOW:
                    received += len(await agent.receive())
                await anyio.sleep(0.01)
                assert len(started) == 1
                await agent.say(wire.frame(wire.GRANT, 1, wire.pack([wire.whole(10)])))
        assert started[-1] == "written"


def test_every_word_that_an_agent_of_ours_refuses_with_is_known() -> None:
    agent = resources.files("mcp_spaces.sandbox.agent")
    sources = [file.read_text("utf-8") for file in agent.iterdir() if file.name.endswith(".py")]
    words = {word.encode() for source in sources for word in re.findall(r'Refused\("(\w+)"\)', source)}
    words |= {word.encode() for word in files.WORDS.values()}
    # An order that no daemon gives.
    assert words - {b"unknown"} <= set(REFUSALS)


@pytest.mark.parametrize("word", [b"no_process", b"no_memory"])
def test_a_sandbox_in_which_nothing_can_be_started_is_ended_from_outside(word: bytes) -> None:
    hint = error_of(word, path="").hint
    assert "sandbox_stop" in hint and "sandbox_launch" in hint
