"""An agent that has no descriptor left: anybody inside may take them all, or the limit, which is their user's."""

# ruff: noqa: ASYNC110, ASYNC240 - what happens inside a sandbox can only be asked for
from __future__ import annotations

import errno
import os
import resource
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from mcp_spaces.errors import QuotaExceeded
from mcp_spaces.sandbox.agent.loop import READABLE, Loop
from mcp_spaces.sandbox.agent.main import SPARES
from mcp_spaces.sandbox.agent.proxy_ports import REST_S, Proxies
from mcp_spaces.sandbox.port import Sandbox, TerminalSize
from tests.sandbox.contract.connections import Accepted, offered
from tests.sandbox.fake import FAKE_IMAGE, FakeDriver
from tests.sandbox.rigs import PATIENCE_S, Output, eventually_empty, sandbox_of, shell, start

pytestmark = pytest.mark.anyio
DESCRIPTORS_OF_A_COMMAND = 6
"""Three pipes; one whose order is longer than a socket takes needs a file for that."""


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    driver = FakeDriver(tmp_path / "sandboxes")
    async with sandbox_of(driver, image=FAKE_IMAGE) as launched:
        await at_rest(launched)
        yield launched
    await driver.aclose()


async def at_rest(sandbox: Sandbox) -> None:
    """Until it has forked the supervisors that wait for commands, and so opens nothing more by itself."""
    agent = agent_of(sandbox)
    with anyio.fail_after(PATIENCE_S):
        while len(Path(f"/proc/{agent}/task/{agent}/children").read_text().split()) < SPARES:
            await anyio.sleep(0.005)
    await sandbox.usage()


def agent_of(sandbox: Sandbox) -> int:
    return int(sandbox.container_id.removeprefix("fake-"))


@contextmanager
def descriptors_left(sandbox: Sandbox, count: int) -> Iterator[None]:
    taken = {int(fd.name) for fd in Path(f"/proc/{agent_of(sandbox)}/fd").iterdir()}
    free = [fd for fd in range(len(taken) + count + 1) if fd not in taken]
    with limited_to(sandbox, free[count]):
        yield


@contextmanager
def limited_to(sandbox: Sandbox, most: int) -> Iterator[None]:
    agent = agent_of(sandbox)
    before = resource.prlimit(agent, resource.RLIMIT_NOFILE)
    resource.prlimit(agent, resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(agent, resource.RLIMIT_NOFILE, before)


class Counting(Loop):
    """How often it did something because a descriptor was ready."""

    handled = 0

    def watch(self, fd: int, handler: Callable[[], None], events: int = READABLE) -> None:
        def counted() -> None:
            self.handled += 1
            handler()

        super().watch(fd, counted, events)


def test_a_connection_that_cannot_be_taken_is_looked_at_now_and_then() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket() as client:
        loop = Counting(theirs.fileno(), theirs.fileno())
        proxies = Proxies(loop, {})
        port = proxies.listen(0)
        loop.later(4.5 * REST_S, ours.close)
        free = os.dup(0)
        os.close(free)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        client.connect(("127.0.0.1", port))
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        try:
            loop.run()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            proxies.withdraw(port)
    assert 1 <= loop.handled <= 5


def test_nobody_listens_at_a_withdrawn_port_although_a_process_that_is_being_forked_still_holds_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket() as client:
        proxies = Proxies(Loop(theirs.fileno(), theirs.fileno()), {})
        port = proxies.listen(0)
        held = os.dup(proxies.listening[port].fileno())
        try:
            proxies.withdraw(port)
            assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
            assert proxies.listen(port) == port
        finally:
            os.close(held)
            proxies.withdraw(port)


async def test_who_connects_to_a_proxy_port_waits_until_a_descriptor_is_left(sandbox: Sandbox) -> None:
    accepted = Accepted()
    port = await offered(sandbox, accepted)
    with socket.socket() as client:
        with descriptors_left(sandbox, 0):
            client.connect(("127.0.0.1", port))
            with pytest.raises(QuotaExceeded):
                await shell(sandbox, "true")
        connection = await accepted.next()
        client.sendall(b"at last")
        assert await connection.receive() == b"at last"
        connection.close()


async def test_a_port_that_is_withdrawn_while_somebody_waits_there_stays_withdrawn(sandbox: Sandbox) -> None:
    accepted = Accepted()
    port = await offered(sandbox, accepted)
    with descriptors_left(sandbox, 0), socket.create_connection(("127.0.0.1", port)):
        with pytest.raises(QuotaExceeded):
            await shell(sandbox, "true")
        await sandbox.withdraw_proxy(port)
    # Until it would have looked for a descriptor again.
    await shell(sandbox, f"sleep {2 * REST_S}")
    again = await offered(sandbox, accepted)
    with socket.create_connection(("127.0.0.1", again)):
        (await accepted.next()).close()


async def test_what_needs_a_descriptor_is_refused_where_none_is_left(sandbox: Sandbox) -> None:
    with descriptors_left(sandbox, 0), anyio.fail_after(PATIENCE_S):
        for call in (
            start(sandbox, "echo"),
            start(sandbox, "echo", terminal=TerminalSize(24, 80)),
            sandbox.dial(9),
            sandbox.list_files("."),
            sandbox.read_file("file", limit=1),
        ):
            with pytest.raises(QuotaExceeded):
                await call
    assert (await shell(sandbox, "echo alive")).stdout == b"alive\n"


async def test_a_long_command_that_lacks_one_descriptor_is_refused_and_costs_none(sandbox: Sandbox) -> None:
    with descriptors_left(sandbox, DESCRIPTORS_OF_A_COMMAND), anyio.fail_after(PATIENCE_S):
        for _ in range(3):
            with pytest.raises(QuotaExceeded):
                await start(sandbox, "echo", "x" * 40_000)
        assert (await shell(sandbox, "echo alive")).stdout == b"alive\n"


async def test_a_process_that_is_forked_needs_no_descriptor_more_than_the_agent_had_left(sandbox: Sandbox) -> None:
    await sandbox.write_file("file", b"", overwrite=False)
    with descriptors_left(sandbox, 2), anyio.fail_after(PATIENCE_S):
        assert [entry.path for entry in (await sandbox.list_files(".")).entries] == ["file"]


async def test_a_command_is_killed_with_all_its_children_also_where_no_descriptor_is_left(sandbox: Sandbox) -> None:
    output, seconds = Output(), str(1_000_000 + secrets.randbelow(1_000_000))
    process = await start(sandbox, "sh", "-c", f"setsid sleep {seconds} & echo there; sleep {seconds}", output=output)
    await output.until(b"there")
    with descriptors_left(sandbox, 0), anyio.fail_after(PATIENCE_S):
        await process.kill()
    await eventually_empty(sandbox, f"pgrep -x sleep -a | grep {seconds}")


async def test_a_kill_waits_where_not_even_a_look_at_what_runs_is_possible(sandbox: Sandbox) -> None:
    process = await start(sandbox, "sleep", "1000")
    async with anyio.create_task_group() as group:
        with limited_to(sandbox, 3):
            group.start_soon(process.kill)
            # Answered after the kill was heard.
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(QuotaExceeded):
                await sandbox.usage()
        with anyio.fail_after(PATIENCE_S):
            assert (await process.wait()).exit_code == 137
