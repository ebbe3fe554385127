"""The stream's daemon side at its limits: what is taken of an agent, what is sent to it, and what ends both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from mcp_spaces.errors import DiskFull, InvalidInput, RuntimeUnavailable, SpacesError, WrongState
from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.port import Command, Connection, Process, Sandbox, TerminalSize
from mcp_spaces.sandbox.stream.attached import MAX_ENTRY_BYTES, SLACK_BYTES
from mcp_spaces.sandbox.stream.channel import Window
from mcp_spaces.sandbox.stream.fields import MAX_COMMAND_BYTES, run_fields
from tests.sandbox.liar import Liar, liar
from tests.sandbox.rigs import Output

pytestmark = pytest.mark.anyio
PATIENCE_S = 10
PORT = 3128
ACCEPTED = wire.pack([wire.whole(PORT)])


def accepted(number: int) -> bytes:
    return wire.frame(wire.ACCEPTED, number, ACCEPTED)


class Asked:
    """A call under way, and what came of it."""

    def __init__(self, call: Callable[[], Awaitable[object]]) -> None:
        self._call = call
        self.answer: object = None
        self.error: SpacesError | None = None

    async def __call__(self) -> None:
        try:
            self.answer = await self._call()
        except SpacesError as error:
            self.error = error


async def asked(agent: Liar, call: Callable[[], Awaitable[object]], *answer: bytes) -> Asked:
    """Call, let the agent hear of it and answer."""
    asking = Asked(call)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(asking)
            await agent.receive()
            await agent.say(*answer)
    return asking


async def command(agent: Liar) -> Process:
    starting = await asked(
        agent, lambda: agent.sandbox.start(Command(["cat"]), output=Output()), wire.frame(wire.STARTED, 1)
    )
    process: Process = starting.answer  # type: ignore[assignment]
    return process


async def offered(agent: Liar) -> list[Connection]:
    connections: list[Connection] = []
    await asked(
        agent,
        lambda: agent.sandbox.offer_proxy(connections.append, environment=dict, port=PORT),
        wire.frame(wire.RESULT, 1, ACCEPTED),
    )
    return connections


async def test_after_a_lie_nothing_is_heard_or_said_any_more() -> None:
    async with liar() as agent:
        await agent.say(wire.frame(wire.RESULT, 77))
        with anyio.fail_after(PATIENCE_S):
            assert await agent.receive() == b""


async def test_an_agent_of_another_version_is_not_spoken_to() -> None:
    other = wire.frame(wire.HELLO, 0, wire.pack([b"2", wire.whole(1)]))
    with anyio.fail_after(PATIENCE_S), pytest.raises(RuntimeUnavailable, match="another version"):
        async with liar(hello=other):
            raise AssertionError("it was believed")


async def test_who_writes_to_a_command_that_takes_nothing_hears_of_its_end() -> None:
    async with liar() as agent:
        process = await command(agent)
        writing = Asked(lambda: process.write(bytes(wire.WINDOW + 1)))
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(writing)
                taken = 0
                while taken < wire.WINDOW:
                    taken += len(await agent.receive())
                await agent.say(wire.frame(wire.EXIT, 1, wire.pack([wire.whole(0)] * 3)), wire.frame(wire.GONE, 1))
        assert isinstance(writing.error, WrongState)
        with pytest.raises(WrongState):
            await process.write(b"more")


@pytest.mark.timeout(3 * PATIENCE_S)
async def test_a_grant_of_nothing_holds_up_nobody_but_who_waits_for_more() -> None:
    async with liar() as agent:
        process = await command(agent)
        writing = Asked(lambda: process.write(bytes(wire.WINDOW + 1)))
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(writing)
                taken = 0
                while taken < wire.WINDOW:
                    taken += len(await agent.receive())
                nothing, more = (wire.frame(wire.GRANT, 1, wire.pack([wire.whole(size)])) for size in (0, 1))
                await agent.say(nothing, nothing)
                await asked(agent, agent.sandbox.ping, wire.frame(wire.RESULT, 3))
                await agent.say(more)
                assert (await agent.receive()).endswith(b"\0")
        assert writing.error is None


@pytest.mark.timeout(3 * PATIENCE_S)
async def test_a_window_gives_what_it_has_and_who_wants_more_waits() -> None:
    window, taken = Window(), list[int]()
    window.charge(5)
    assert not window.take_now(wire.WINDOW - 4)
    assert window.take_now(wire.WINDOW - 5)

    async def take() -> None:
        taken.append(await window.take(9))

    with anyio.fail_after(PATIENCE_S):
        for _ in range(2):
            async with anyio.create_task_group() as group:
                group.start_soon(take)
                await anyio.wait_all_tasks_blocked()
                window.grant(wire.pack([wire.whole(7)]))
    assert taken == [7, 7]
    assert not window.take_now(1)


async def test_a_refusal_in_the_middle_of_a_large_file_stops_its_sender() -> None:
    async with liar() as agent:
        writing = await asked(
            agent,
            lambda: agent.sandbox.write_file("large", bytes(8 * wire.WINDOW), overwrite=True),
            wire.frame(wire.FAILURE, 1, wire.pack([b"full"])),
        )
        assert isinstance(writing.error, DiskFull)


async def test_when_the_sandbox_goes_every_call_under_way_says_so() -> None:
    async with liar() as agent:
        process = await command(agent)
        calls = [
            Asked(process.wait),
            Asked(lambda: agent.sandbox.write_file("large", bytes(8 * wire.WINDOW), overwrite=True)),
            Asked(lambda: agent.sandbox.dial(80)),
            Asked(lambda: agent.sandbox.start(Command(["cat"]), output=Output())),
        ]
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                for call in calls:
                    group.start_soon(call)
                await agent.receive()
                agent.agent.close()
            assert await agent.sandbox.closed() == "its container ended"
        assert [type(call.error) for call in calls] == [RuntimeUnavailable] * len(calls)
        assert not agent.sandbox.alive


async def test_a_sandbox_is_freed_once_however_often_it_is_stopped() -> None:
    async with liar() as agent, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(agent.sandbox.stop)
    assert agent.freed == 1


async def test_connections_that_ended_make_room_for_others() -> None:
    async with liar() as agent:
        connections = await offered(agent)
        numbers = range(2, 2 * wire.MAX_CONNECTIONS + 1, 2)
        for _ in range(2):
            await agent.say(*map(accepted, numbers), *[wire.frame(wire.GONE, number) for number in numbers])
        await asked(agent, agent.sandbox.ping, wire.frame(wire.RESULT, 3))
        assert (len(connections), agent.sandbox.alive) == (2 * wire.MAX_CONNECTIONS, True)


async def test_a_connection_to_a_port_that_was_withdrawn_costs_the_sandbox() -> None:
    async with liar() as agent:
        connections = await offered(agent)
        await agent.say(accepted(2))
        await asked(agent, lambda: agent.sandbox.withdraw_proxy(PORT), wire.frame(wire.RESULT, 3))
        assert (len(connections), agent.sandbox.alive) == (1, True)
        await agent.say(accepted(4))
        with anyio.fail_after(PATIENCE_S):
            assert "nobody asked for" in await agent.sandbox.closed()
        assert len(connections) == 1


async def test_a_port_that_is_offered_again_while_it_is_withdrawn_has_its_new_owner() -> None:
    async with liar() as agent:
        await offered(agent)
        again: list[Connection] = []
        withdrawn = anyio.Event()

        async def withdraw() -> None:
            await agent.sandbox.withdraw_proxy(PORT)
            withdrawn.set()

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(withdraw)
                group.start_soon(Asked(lambda: agent.sandbox.offer_proxy(again.append, port=PORT)))
                await agent.receive()
                await agent.say(wire.frame(wire.RESULT, 3))
                await withdrawn.wait()
                # Somebody inside may be quicker than who hears that the port is offered.
                await agent.say(wire.frame(wire.RESULT, 5, ACCEPTED), accepted(2))
        await asked(agent, agent.sandbox.ping, wire.frame(wire.RESULT, 7))
        assert len(again) == 1


async def test_a_port_that_could_not_be_offered_has_no_owner() -> None:
    async with liar() as agent:
        connections: list[Connection] = []
        offering = await asked(
            agent,
            lambda: agent.sandbox.offer_proxy(connections.append, port=PORT),
            wire.frame(wire.FAILURE, 1, wire.pack([b"quota"])),
        )
        assert offering.error is not None
        await agent.say(accepted(2))
        with anyio.fail_after(PATIENCE_S):
            assert "nobody asked for" in await agent.sandbox.closed()
        assert connections == []


def entries(*them: list[bytes]) -> bytes:
    return wire.frame(wire.REPLY, 1, wire.pack([wire.pack(each) for each in them]))


FILE = [b"file", b"file", wire.whole(1), wire.whole(0), wire.whole(0)]
LISTS: dict[str, list[bytes]] = {
    "more entries than asked for": [entries(FILE, FILE)],
    "more bytes than entries can have": [
        *[wire.frame(wire.REPLY, 1, wire.pack([bytes(wire.CHUNK)]))] * ((MAX_ENTRY_BYTES + SLACK_BYTES) // wire.CHUNK + 1)
    ],
    "an entry without its size": [entries(FILE[:2])],
    "an entry that is cut": [wire.frame(wire.REPLY, 1, wire.pack([b"\0\0\0\xff"]))],
    "a kind of file that there is not": [entries([b"file", b"socket", *FILE[2:]])],
    "a negative size": [entries([*FILE[:2], wire.whole(-1), *FILE[3:]])],
    "a file that is executable twice": [entries([*FILE[:4], wire.whole(2)])],
    "a name without end": [entries([bytes(64 * 1024 + 1), *FILE[1:]])],
    "an end without its number": [wire.frame(wire.RESULT, 1, wire.pack([b"yes"]))],
}  # fmt: skip


@pytest.mark.parametrize("lie", LISTS)
async def test_a_list_that_lies_costs_the_sandbox(lie: str) -> None:
    async with liar() as agent:
        listing = await asked(agent, lambda: agent.sandbox.list_files(".", limit=1), *LISTS[lie])
        assert isinstance(listing.error, RuntimeUnavailable)
        assert "protocol" in await agent.sandbox.closed()


MATCH = [b"file", wire.whole(1), b"text"]


@pytest.mark.parametrize("match", [MATCH[:2], [b"file", wire.whole(-1), b"text"], [*MATCH[:2], bytes(4097)]])
async def test_a_match_that_lies_costs_the_sandbox(match: list[bytes]) -> None:
    async with liar() as agent:
        searching = await asked(agent, lambda: agent.sandbox.search("x", limit=1), entries(match))
        assert isinstance(searching.error, RuntimeUnavailable)
        assert "protocol" in await agent.sandbox.closed()


async def test_an_honest_list_is_taken_as_it_is() -> None:
    async with liar() as agent:
        listing = await asked(
            agent,
            lambda: agent.sandbox.list_files(".", limit=1),
            entries(FILE),
            wire.frame(wire.RESULT, 1, wire.pack([wire.whole(1)])),
        )
        assert listing.error is None
        assert listing.answer.truncated  # type: ignore[attr-defined]


UNASKABLE: dict[str, Callable[[Sandbox], Awaitable[object]]] = {
    "an offset before the file": lambda sandbox: sandbox.read_file("a", offset=-1, limit=1),
    "a negative limit": lambda sandbox: sandbox.read_file("a", limit=-1),
    "half of a hash": lambda sandbox: sandbox.write_file("a", b"", overwrite=True, base_sha256="a" * 63),
    "no entries": lambda sandbox: sandbox.list_files(".", limit=0),
    "too many entries": lambda sandbox: sandbox.glob("*", limit=100_001),
    "too many matches": lambda sandbox: sandbox.search("x", limit=100_001),
    "a pattern without end": lambda sandbox: sandbox.glob("x" * 1001),
    "an expression without end": lambda sandbox: sandbox.search("x" * 1001),
    "a glob with half a surrogate": lambda sandbox: sandbox.search("x", glob="\ud800"),
}


@pytest.mark.parametrize("what", UNASKABLE)
async def test_what_makes_no_sense_is_refused_before_the_agent_hears_of_it(what: str) -> None:
    async with liar() as agent:
        with pytest.raises(InvalidInput):
            await UNASKABLE[what](agent.sandbox)
        with pytest.raises(BlockingIOError):
            agent.agent.recv(1)


COMMANDS = {
    "no program": Command([]),
    "a program without a name": Command([""]),
    "half a surrogate": Command(["echo", "\ud800"]),
    "a NUL": Command(["echo", "\0"]),
    "a variable without a name": Command(["env"], env={"": "x"}),
    "a variable whose name has a value": Command(["env"], env={"A=B": "x"}),
    "a NUL in a variable": Command(["env"], env={"A": "\0"}),
    "too many bytes": Command(["echo", "x" * MAX_COMMAND_BYTES]),
    "too many bytes of variables": Command(["env"], env={"A": "x" * MAX_COMMAND_BYTES}),
    "a terminal without rows": Command(["sh"], terminal=TerminalSize(0, 80)),
    "a terminal without columns": Command(["sh"], terminal=TerminalSize(24, 0)),
    "a wall of a terminal": Command(["sh"], terminal=TerminalSize(1001, 80)),
    "a long terminal": Command(["sh"], terminal=TerminalSize(24, 1001)),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_what_no_process_can_be_started_with_is_refused(what: str) -> None:
    with pytest.raises(InvalidInput):
        run_fields(COMMANDS[what])


async def test_nothing_is_sent_on_a_connection_whose_end_was_said() -> None:
    async with liar() as agent:
        connections = await offered(agent)
        await agent.say(accepted(2))
        await asked(agent, agent.sandbox.ping, wire.frame(wire.RESULT, 3))
        (connection,) = connections
        await connection.finish()
        for content in (b"short", bytes(2 * wire.CHUNK)):
            with pytest.raises(RuntimeUnavailable):
                await connection.send(content)


async def test_what_arrives_on_a_closed_connection_is_dropped_and_no_error() -> None:
    async with liar() as agent:
        connections = await offered(agent)
        await agent.say(accepted(2))
        await asked(agent, agent.sandbox.ping, wire.frame(wire.RESULT, 3))
        (connection,) = connections
        connection.close()
        connection.close()
        await agent.say(wire.frame(wire.REPLY, 2, b"late"))
        await asked(agent, agent.sandbox.ping, wire.frame(wire.RESULT, 5))
        with pytest.raises(RuntimeUnavailable):
            await connection.receive()
        with pytest.raises(RuntimeUnavailable):
            await connection.send(b"late")


async def test_a_connection_that_was_cut_off_is_not_taken_for_one_that_ended() -> None:
    async with liar() as agent:
        connections = await offered(agent)
        await agent.say(
            *[accepted(2), wire.frame(wire.REPLY, 2, b"half"), wire.frame(wire.GONE, 2)],
            *[accepted(4), wire.frame(wire.REPLY, 4, b"all"), wire.frame(wire.FINISHED, 4), wire.frame(wire.GONE, 4)],
        )
        await asked(agent, agent.sandbox.ping, wire.frame(wire.RESULT, 3))
        cut, ended = connections
        assert (await cut.receive(), await ended.receive()) == (b"half", b"all")
        assert await ended.receive() == b""
        with pytest.raises(RuntimeUnavailable):
            await cut.receive()
