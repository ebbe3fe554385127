"""The process around a local Chromium, with something else in Chromium's place: it ends whatever is in it, always."""

from __future__ import annotations

import json
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fcntl import F_DUPFD_CLOEXEC, fcntl
from pathlib import Path

import pytest

from mcp_spaces.browser.driver import jail
from mcp_spaces.browser.driver.local_host import end_processes, memory_of
from tests.browser.rigs import PATIENCE_S, await_end

MIB = 1 << 20
BEYOND_SELECT = 1_024
WITH_A_CHILD = "sleep 1000 & echo $! >&2; wait"


@dataclass
class Jail:
    control: socket.socket
    process: subprocess.Popen[bytes]

    def line(self) -> str:
        """Of what is inside, on stderr."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().decode().strip()

    def answered(self) -> None:
        assert select.select([self.control], [], [], PATIENCE_S)[0], "nobody answers"


@contextmanager
def jailing(script: str, *, number: int = 0) -> Iterator[Jail]:
    """`number`: the least one that its end of the control socket may have."""
    ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs = socket.socket(fileno=fcntl(other.fileno(), F_DUPFD_CLOEXEC, number))
    other.close()
    wanted = jail.Wanted(theirs.fileno(), False, None, "/tmp", "", ["/bin/sh", "-c", script], {"HOME": "/tmp"})
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", jail.__file__, json.dumps(wanted._asdict())],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[theirs.fileno()],
    )  # fmt: skip
    theirs.close()
    with ours, process:
        yield Jail(ours, process)
        ours.close()


@pytest.fixture
def many_files() -> Iterator[None]:
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most <= BEYOND_SELECT:
        pytest.skip("this machine lets nobody have so many")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * BEYOND_SELECT, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


@pytest.mark.usefixtures("many_files")
def test_a_daemon_with_thousands_of_open_files_has_browsers_too() -> None:
    with jailing("exec sleep 1000", number=BEYOND_SELECT) as one:
        one.control.send(b"listen")
        one.answered()
        _, (descriptor,), _, _ = socket.recv_fds(one.control, 64, 1)
        with socket.socket(fileno=descriptor) as listener:
            assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("asked", [0, 1, 2])
def test_what_is_inside_goes_with_a_daemon_that_left_answers_unread(asked: int) -> None:
    with jailing(WITH_A_CHILD) as one:
        below = int(one.line())
        for _ in range(asked):
            one.control.send(b"listen")
            one.answered()
        one.control.close()
        await_end(below)
        assert one.process.wait(PATIENCE_S) == 0


def test_a_chromium_that_ends_ends_it_with_its_code() -> None:
    for script, code in (("exit 7", 7), ("kill -9 $$", 128 + signal.SIGKILL)):
        with jailing(script) as one:
            assert one.process.wait(PATIENCE_S) == code


HOLDS = f"held = bytearray(b'x') * {64 * MIB}; print('ready', flush=True)"
NAMES_ITSELF = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'\\rRssAnon: \\xff', 0, 0, 0)"
CHURNS = """
import threading, time
def churn():
    while True:
        one = threading.Thread(target=lambda: None)
        one.start()
        one.join()
for _ in range(8):
    threading.Thread(target=churn, daemon=True).start()
"""


STATUS = (
    "Name:\tchrome\nVmRSS:\t  900 kB\nRssAnon:\t  100 kB\nRssFile:\t  800 kB\nRssShmem:\t   30 kB\nVmSwap:\t    7 kB\n"
)


@pytest.mark.parametrize("script", [NAMES_ITSELF, CHURNS])
def test_d14_no_process_hides_its_memory(script: str) -> None:
    words = [sys.executable, "-c", f"{script}\n{HOLDS}\ntime.sleep(1000)"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            assert min(memory_of(process.pid) for _ in range(300)) >= 64 * MIB
        finally:
            process.kill()


def test_d14_what_is_swapped_out_counts_and_so_does_what_each_thread_started(tmp_path: Path) -> None:
    for pid, children in ((1, {"1": "2\n", "9": "3 4\n"}), (2, {"2": ""}), (3, {"3": ""})):
        for thread, begun in children.items():
            (tmp_path / f"{pid}/task/{thread}").mkdir(parents=True)
            (tmp_path / f"{pid}/task/{thread}/children").write_text(begun)
        (tmp_path / f"{pid}/status").write_text(STATUS)
    assert memory_of(1, processes=tmp_path) == 3 * (100 + 30 + 7) << 10


def test_what_nobody_drives_any_more_is_gone_before_its_folder_is_removed(tmp_path: Path) -> None:
    """Until then it puts files there."""
    words = [sys.executable, "-c", f"import time\n{HOLDS}\ntime.sleep(1000)", str(tmp_path)]
    with ExitStack() as started:
        left = [started.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE)) for _ in range(4)]
        for process in left:
            started.callback(process.kill)
            assert process.stdout is not None and process.stdout.readline()
        end_processes([str(tmp_path)])
        assert [process.poll() for process in left] == [-signal.SIGKILL] * len(left)


def test_without_a_mount_namespace_of_its_own_nothing_is_mounted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or the machine's own folders would be covered for everybody."""

    class Kernel:
        def unshare(self, _flags: int) -> int:
            return 0

    mounted: list[str] = []
    monkeypatch.setattr(jail, "libc", Kernel())
    monkeypatch.setattr(jail, "mount", lambda _source, target, *_: mounted.append(target))
    monkeypatch.setattr(jail, "SET_FLAGS", 0x8913)  # only looks at the interface
    with pytest.raises(OSError, match="mount namespace of its own"):
        jail.enter(tmp_path, "")
    assert mounted == []
