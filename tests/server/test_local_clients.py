"""Clients on this machine: their own pipes where the shim can lend them, copies where it cannot."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import select
import signal
import socket
import subprocess
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest

from mcp_spaces import places
from mcp_spaces.server.local_clients import NoClient, met
from mcp_spaces.server.shim import GREETING
from tests.descriptors import open_here
from tests.server.doors import ROOT
from tests.server.test_daemon import daemon, environment, state
from tests.server.test_shim import HELLO, SHIM
from tests.turns import cancelled_at, cancelled_everywhere, meanwhile, some_turns

__all__ = ["state"]

ANSWER_S = 30


@contextmanager
def spawned(state: Path, *, stdin: int | IO[bytes], stdout: int | IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A shim, which is gone at the end whatever became of the test."""
    with subprocess.Popen(
        SHIM, env=environment(state), cwd=ROOT, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE
    ) as shim:
        try:
            yield shim
        finally:
            shim.kill()


def descriptors(pid: int) -> set[str]:
    """What the descriptors of a process lead to."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(link.readlink()))
    return found


def standard(pid: int) -> set[str]:
    """What its standard input and output lead to."""
    return {str(Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in (0, 1)}


def greet(shim: subprocess.Popen[bytes]) -> None:
    assert shim.stdin is not None
    assert shim.stdout is not None
    shim.stdin.write(HELLO)
    shim.stdin.flush()
    assert b'"serverInfo"' in shim.stdout.readline()


def answered(connection: socket.socket) -> bytes:
    connection.settimeout(ANSWER_S)
    with connection.makefile("rb") as lines:
        return lines.readline()


def test_the_daemon_talks_to_the_client_by_the_pipes_that_the_shim_was_given(state: Path) -> None:
    with daemon(state) as serving, spawned(state, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shim:
        greet(shim)
        lent = standard(shim.pid)
        assert lent <= descriptors(serving.pid)
        _, said = shim.communicate(timeout=ANSWER_S)
        assert shim.returncode == 0, said
        assert lent.isdisjoint(descriptors(serving.pid))


def test_a_client_that_reads_no_more_has_left(state: Path) -> None:
    with daemon(state), spawned(state, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shim:
        greet(shim)
        assert shim.stdout is not None
        shim.stdout.close()
        assert shim.wait(ANSWER_S) == 0


def test_sockets_will_do_as_pipes_since_node_gives_what_it_spawns_such(state: Path) -> None:
    with daemon(state) as serving, ExitStack() as stack:
        requests, stdin = (stack.enter_context(one) for one in socket.socketpair())
        answers, stdout = (stack.enter_context(one) for one in socket.socketpair())
        shim = stack.enter_context(spawned(state, stdin=stdin.fileno(), stdout=stdout.fileno()))
        stdin.close()
        stdout.close()
        requests.sendall(HELLO)
        assert b'"serverInfo"' in answered(answers)
        assert standard(shim.pid) <= descriptors(serving.pid)
        requests.close()
        assert shim.wait(ANSWER_S) == 0


@pytest.mark.parametrize("waits", [True, False])
def test_one_socket_for_both_ways_is_copied_whether_its_client_waits_or_not(state: Path, waits: bool) -> None:
    with daemon(state) as serving, ExitStack() as stack:
        client, theirs = (stack.enter_context(one) for one in socket.socketpair())
        theirs.setblocking(waits)
        shim = stack.enter_context(spawned(state, stdin=theirs.fileno(), stdout=theirs.fileno()))
        theirs.close()
        client.sendall(HELLO)
        assert b'"serverInfo"' in answered(client)
        assert standard(shim.pid).isdisjoint(descriptors(serving.pid))
        client.shutdown(socket.SHUT_WR)
        assert shim.wait(ANSWER_S) == 0


def test_files_are_copied(state: Path, tmp_path: Path) -> None:
    (tmp_path / "requests").write_bytes(HELLO)
    with (
        daemon(state),
        (tmp_path / "requests").open("rb") as requests,
        (tmp_path / "answers").open("wb") as answers,
        spawned(state, stdin=requests, stdout=answers) as shim,
    ):
        assert shim.wait(ANSWER_S) == 0
    assert b'"serverInfo"' in (tmp_path / "answers").read_bytes()


def test_a_terminal_s_client_that_reads_no_more_has_left(state: Path) -> None:
    with daemon(state), ExitStack() as stack:
        person, terminal = os.openpty()
        stack.callback(os.close, person)
        stack.callback(os.close, terminal)
        shim = stack.enter_context(spawned(state, stdin=terminal, stdout=subprocess.PIPE))
        assert shim.stdout is not None
        shim.stdout.close()
        os.write(person, HELLO)
        assert shim.wait(ANSWER_S) == 0


def test_what_cannot_be_read_has_no_client(state: Path, tmp_path: Path) -> None:
    with (
        daemon(state),
        (tmp_path / "only-written").open("wb") as requests,
        spawned(state, stdin=requests, stdout=subprocess.PIPE) as shim,
    ):
        _, said = shim.communicate(timeout=ANSWER_S)
        assert (shim.returncode, said) == (0, b"")


def test_a_daemon_that_leaves_before_it_has_read_a_word_is_said_without_a_traceback(state: Path) -> None:
    state.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(places.agent_socket(str(state)))
        listener.listen()
        with spawned(state, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shim:
            connection, _ = listener.accept()
            with connection:
                # The greeting is there, and stays unread.
                assert select.select([connection], [], [], ANSWER_S)[0]
            _, said = shim.communicate(timeout=ANSWER_S)
            assert shim.returncode == 4 and b"The daemon closed the connection." in said and b"Traceback" not in said


def test_a_copying_shim_says_that_the_daemon_left_also_where_it_could_send_no_more(state: Path, tmp_path: Path) -> None:
    """What the client still had to say was no farewell of its own."""
    (tmp_path / "requests").write_bytes(HELLO * 100_000)
    state.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener, (tmp_path / "requests").open("rb") as requests:
        listener.bind(places.agent_socket(str(state)))
        listener.listen()
        with spawned(state, stdin=requests, stdout=subprocess.PIPE) as shim:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(len(HELLO))
                connection.shutdown(socket.SHUT_RD)
                # The thread that sends has ended by then.
                while len(list(Path(f"/proc/{shim.pid}/task").iterdir())) > 1:
                    assert shim.poll() is None
            assert shim.wait(ANSWER_S) == 4


def test_a_shim_that_is_killed_takes_its_session_along(state: Path) -> None:
    with daemon(state), spawned(state, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shim:
        greet(shim)
        shim.send_signal(signal.SIGKILL)
        # Its end comes when the daemon has let go of the pipe too, with the client still there.
        assert shim.stdout is not None
        assert shim.stdout.read() == b""


@pytest.mark.parametrize("lent", [("file", "pipe"), ("pipe", "file"), ("pipe",), ("pipe", "pipe", "pipe")])
def test_what_is_lent_has_to_be_two_pipes(state: Path, tmp_path: Path, lent: tuple[str, ...]) -> None:
    with daemon(state) as serving, ExitStack() as stack:
        fds = []
        for kind in lent:
            if kind == "file":
                fds.append(stack.enter_context((tmp_path / "file").open("w+b")).fileno())
            else:
                here, there = os.pipe()
                stack.callback(os.close, here)
                stack.callback(os.close, there)
                fds.append(there)
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(places.agent_socket(str(state)))
        socket.send_fds(client, [GREETING], fds)
        assert answered(client) == b""
        assert {str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in fds}.isdisjoint(descriptors(serving.pid))
        # Others are served as before.
        shim = subprocess.run(SHIM, env=environment(state), cwd=ROOT, input=HELLO, capture_output=True, timeout=60)
        assert b'"serverInfo"' in shim.stdout


@pytest.mark.anyio
@pytest.mark.parametrize("lent", [("file", "pipe"), ("pipe", "file"), ("pipe",), ("pipe", "pipe", "pipe")])
async def test_what_is_lent_and_are_not_two_pipes_is_told_as_that(tmp_path: Path, lent: tuple[str, ...]) -> None:
    ours, theirs = socket.socketpair()
    (here, pipe), file = os.pipe(), os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    with theirs, ExitStack() as stack:
        for one in (here, pipe, file):
            stack.callback(os.close, one)
        socket.send_fds(theirs, [GREETING], [pipe if kind == "pipe" else file for kind in lent])
        with pytest.raises(NoClient, match="not two pipes"):
            async with met(ours, line_bytes_max=1 << 16):
                pytest.fail("it was served")


def test_pipes_come_with_a_whole_line_or_not_at_all(state: Path) -> None:
    with daemon(state), socket.socket(socket.AF_UNIX) as client:
        here, there = os.pipe()
        client.connect(places.agent_socket(str(state)))
        socket.send_fds(client, [b'{"mcp-'], [here, there])
        os.close(here)
        os.close(there)
        assert answered(client) == b""


@pytest.mark.anyio
async def test_a_shim_that_is_gone_before_its_pipes_are_used_is_no_client_and_no_fault() -> None:
    ours, theirs = socket.socketpair()
    (requests, to_daemon), (from_daemon, answers) = os.pipe(), os.pipe()
    with ExitStack() as stack:
        stack.callback(os.close, to_daemon)
        stack.callback(os.close, from_daemon)
        socket.send_fds(theirs, [GREETING], [requests, answers])
        theirs.close()
        os.close(requests)
        os.close(answers)
        with pytest.raises(NoClient, match="it left"):
            async with met(ours, line_bytes_max=1 << 16):
                pytest.fail("there is nobody to be served")


@pytest.mark.anyio
@pytest.mark.parametrize("room", [0, 1])
async def test_a_shim_whose_pipes_no_descriptor_is_left_for_is_not_left_waiting(room: int) -> None:
    """It would wait for what nobody answers, with its client."""
    ours, theirs = socket.socketpair()
    (requests, to_daemon), (from_daemon, answers) = os.pipe(), os.pipe()
    with theirs, ExitStack() as stack:
        for pipe in (requests, to_daemon, from_daemon, answers):
            stack.callback(os.close, pipe)
        socket.send_fds(theirs, [GREETING], [requests, answers])
        with descriptors_left(room), pytest.raises(NoClient, match="not two pipes"):
            async with met(ours, line_bytes_max=1 << 16):
                pytest.fail("it was served without its pipes")
        assert theirs.recv(1) == b""


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """For this process, so many and no more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    # What earlier tests left would make room just when there has to be none.
    gc.collect()
    taken = {number for number, _ in open_here()}
    free = [number for number in range(len(taken) + 2) if number not in taken]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[count], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.anyio
@pytest.mark.parametrize("at_once", [False, True])
async def test_pipes_and_shim_are_let_go_of_in_whichever_moment_their_meeting_ends(at_once: bool) -> None:
    """`at_once`: in this very turn of the loop, else in the next one."""

    async def attempt(suspension: int) -> bool:
        ours, theirs = socket.socketpair()
        (requests, to_daemon), (from_daemon, answers) = os.pipe(), os.pipe()
        with ExitStack() as stack:
            stack.callback(os.close, to_daemon)
            stack.callback(os.close, from_daemon)
            stack.callback(theirs.close)
            socket.send_fds(theirs, [GREETING], [requests, answers])
            os.close(requests)
            os.close(answers)

            async def meet() -> None:
                async with met(ours, line_bytes_max=1 << 16):
                    pass

            if at_once:
                meeting = asyncio.create_task(cancelled_by_itself(suspension, meet()))
                await asyncio.wait({meeting})
                more = meeting.cancelled()
            else:
                more = await cancelled_at(suspension, meet())
            await some_turns()
            os.set_blocking(from_daemon, False)
            assert os.read(from_daemon, 1) == b""
            with pytest.raises(BrokenPipeError):
                os.write(to_daemon, b"x")
            theirs.settimeout(ANSWER_S)
            with suppress(ConnectionResetError):
                assert theirs.recv(1) == b""
        return more

    assert await cancelled_everywhere(attempt) > 3


async def cancelled_by_itself(suspension: int, work: Coroutine[Any, Any, object]) -> None:
    task = asyncio.current_task()
    assert task is not None
    await meanwhile(suspension, work, task.cancel)


def test_a_client_that_leaves_without_a_word_disturbs_nobody(state: Path) -> None:
    with daemon(state):
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(places.agent_socket(str(state)))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(places.agent_socket(str(state)))
            client.sendall(HELLO)
            assert b'"serverInfo"' in answered(client)
