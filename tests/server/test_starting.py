"""How long a daemon may take to start, and what it says when nothing comes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest

from mcp_spaces.errors import TimedOut, WrongState
from mcp_spaces.server.daemon import announcement, only_daemon, run
from mcp_spaces.server.unix import make_private
from mcp_spaces.settings import Settings
from tests.browser.rigs import below
from tests.folders import files_of_at_most
from tests.security.app import nobody, short_folder
from tests.server.doors import ROOT
from tests.server.small_app import SmallApp, small_app
from tests.server.test_daemon import SECONDS, environment
from tests.server.test_shim import SHIM


async def test_a_daemon_whose_parts_hang_gives_up_in_the_time_that_it_has() -> None:
    ended = anyio.Event()

    @asynccontextmanager
    async def hanging(_: Settings) -> AsyncIterator[SmallApp]:
        try:
            await anyio.sleep_forever()
            raise AssertionError
            yield
        finally:
            ended.set()

    with short_folder() as folder, anyio.fail_after(20), pytest.raises(TimedOut, match="Nothing was ready"):
        await run(Settings(state_dir=folder, start_s=0.05), hanging, _nobody_waits)
    assert ended.is_set()


async def test_once_it_listens_nothing_ends_it_but_a_signal() -> None:
    ready, tell = os.pipe()
    os.set_blocking(ready, False)
    said: list[bytes] = []
    deadlines: list[float] = []

    @asynccontextmanager
    async def opened(settings: Settings) -> AsyncIterator[SmallApp]:
        async def work() -> None:
            await anyio.wait_readable(ready)
            said.extend([os.read(ready, 2), os.read(ready, 2)])
            deadlines.append(anyio.current_effective_deadline())
            outer.cancel_scope.cancel()

        async with small_app(settings.state_dir) as app, anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            yield app

    with short_folder() as folder:
        make_private(folder / "state")
        async with anyio.create_task_group() as outer:
            told = announcement(folder / "state", tell)
            outer.start_soon(run, Settings(state_dir=folder / "state", http_port=0), opened, told)
        assert not (folder / "state" / "agent.sock").exists()
    assert deadlines == [float("inf")]
    # One byte, and the end.
    assert said == [b"1", b""]
    os.close(ready)


SLOW = """
import os, sys
from contextlib import asynccontextmanager
from mcp_spaces.server.daemon import serve
from mcp_spaces.settings import read_settings
from tests.server.small_app import small_app

@asynccontextmanager
async def slowly(settings):
    print("opening", flush=True)
    sys.stdin.readline()
    async with small_app(settings.state_dir) as app:
        yield app

sys.exit(serve(read_settings(os.environ), open_app=slowly))
"""


def test_a_client_that_comes_while_a_service_starts_waits_for_it_and_starts_no_second_one() -> None:
    with short_folder() as folder:
        env = environment(folder / "state")
        slow = subprocess.Popen(
            [sys.executable, "-c", SLOW], env=env, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert slow.stdin is not None and slow.stdout is not None
        with slow, slow.stdin, slow.stdout:
            try:
                assert slow.stdout.readline() == b"opening\n"
                client = subprocess.Popen(SHIM, env=env, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
                while "start.lock" not in open_files(client.pid):
                    assert client.poll() is None
                slow.stdin.write(b"go on\n")
                slow.stdin.flush()
                _, said = client.communicate(b"", timeout=SECONDS)
                assert (client.returncode, said) == (0, b"")
                assert (folder / "state" / "daemon.lock").read_text() == str(slow.pid)
            finally:
                slow.terminate()


def test_a_client_that_comes_after_one_that_was_ended_while_it_started_the_daemon_gets_that_daemon() -> None:
    with short_folder() as folder:
        env, lock = environment(folder / "state"), folder / "state" / "daemon.lock"
        with subprocess.Popen(SHIM, env=env, cwd=ROOT, stdin=subprocess.PIPE) as first:
            while not lock.exists() or not lock.read_text():
                assert first.poll() is None
            starting = int(lock.read_text())
            os.kill(starting, signal.SIGSTOP)
            first.kill()
        try:
            assert not (folder / "state" / "agent.sock").exists()
            second = subprocess.Popen(SHIM, env=env, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
            while not any("daemon.lock" in open_files(pid) for pid in below(second.pid)):
                assert second.poll() is None
            os.kill(starting, signal.SIGCONT)
            _, said = second.communicate(b"", timeout=SECONDS)
            assert (second.returncode, said) == (0, b"")
            assert lock.read_text() == str(starting)
        finally:
            with suppress(ProcessLookupError):
                os.kill(starting, signal.SIGCONT)
            subprocess.run([sys.executable, "-m", "mcp_spaces", "stop"], env=env, cwd=ROOT, timeout=60, check=False)


STOPS = """
import os, sys
from contextlib import asynccontextmanager
import anyio
from mcp_spaces.server.daemon import serve
from mcp_spaces.settings import read_settings
from tests.server.small_app import small_app

@asynccontextmanager
async def opened(settings):
    # The next one is a whole daemon, and finds no other's database.
    elsewhere = settings.state_dir.parent / "app"
    elsewhere.mkdir()
    async with small_app(elsewhere) as app:
        try:
            print("open", flush=True)
            yield app
        finally:
            print("closing", flush=True)
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(sys.stdin.readline)

sys.exit(serve(read_settings(os.environ), open_app=opened, ready_fd=int(sys.argv[1])))
"""


def test_a_client_that_comes_back_while_the_daemon_stops_gets_the_next_one() -> None:
    with short_folder() as folder:
        env = environment(folder / "state")
        ready, tell = os.pipe()
        stops = subprocess.Popen(
            [sys.executable, "-c", STOPS, str(tell)],
            env=env,
            cwd=ROOT,
            pass_fds=(tell,),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        os.close(tell)
        assert stops.stdin is not None and stops.stdout is not None
        with stops, stops.stdin, stops.stdout:
            try:
                assert os.read(ready, 1) == b"1"
                stops.terminate()
                assert [stops.stdout.readline() for _ in range(2)] == [b"open\n", b"closing\n"]
                client = subprocess.Popen(SHIM, env=env, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
                while not any("daemon.lock" in open_files(pid) for pid in below(client.pid)):
                    assert client.poll() is None
                stops.stdin.write(b"go on\n")
                stops.stdin.flush()
                _, said = client.communicate(b"", timeout=SECONDS)
                assert (client.returncode, said) == (0, b"")
            finally:
                os.close(ready)
                stops.kill()
                subprocess.run([sys.executable, "-m", "mcp_spaces", "stop"], env=env, cwd=ROOT, timeout=60, check=False)


def open_files(pid: int) -> set[str]:
    """Of a process that has ended: none."""
    names = set()
    with suppress(FileNotFoundError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                names.add(link.readlink().name)
    return names


def _nobody_waits() -> None:
    pass


def test_a_state_directory_that_cannot_be_written_is_said_before_anything_else(tmp_path: Path) -> None:
    with pytest.raises(WrongState, match="cannot be written: No such file or directory"), only_daemon(tmp_path / "no"):
        pass
    with short_folder() as folder:
        folder.chmod(0o755)
        with nobody(), pytest.raises(WrongState, match="cannot be written"), only_daemon(folder):
            pass
        with nobody(), pytest.raises(WrongState, match="cannot be written"):
            announcement(folder, None)


def test_what_stands_in_the_place_of_the_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "daemon.lock").mkdir()
    with pytest.raises(WrongState, match=r"daemon\.lock cannot be written: Is a directory"), only_daemon(tmp_path):
        pass


def test_k18_the_lock_names_its_holder_alone_and_is_let_go_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "daemon.lock").write_text("123456789012345")
    with only_daemon(tmp_path):
        assert (tmp_path / "daemon.lock").read_text() == str(os.getpid())
        with pytest.raises(WrongState, match=f"process {os.getpid()}"), only_daemon(tmp_path, stopping_s=0):
            pass
    with only_daemon(tmp_path):
        pass


@pytest.mark.parametrize("room", [0, 1])
def test_a_lock_that_a_full_disk_does_not_take_whole_is_nobody_s(tmp_path: Path, room: int) -> None:
    """Part of a process's number would be another process."""
    with files_of_at_most(room), pytest.raises(WrongState, match="cannot be written"), only_daemon(tmp_path):
        pass
    assert (tmp_path / "daemon.lock").read_text() == ""
    with only_daemon(tmp_path):
        pass
