"""One process per command, its supervisor: starts the program, and is the parent of all that the program leaves behind.

Being a subreaper, it keeps every descendant findable whatever session or group it moved to. Supervisors are forked
before they are needed, with their pipes, so that a command costs one spawn and not a fork of the agent.
"""

from __future__ import annotations

import errno
import os
import signal
import time

from mcp_spaces.sandbox.agent.processes import PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, prctl
from mcp_spaces.sandbox.agent.wire import LENGTH, number, pack, unpack, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Optional

DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"
RESET = [signal.SIGPIPE, signal.SIGINT, signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
if hasattr(signal, "SIGXFSZ"):
    RESET.append(signal.SIGXFSZ)


class Supervisor:
    """The agent's end: the process id and our ends of its pipes. With a terminal, `stdin` and `stdout` are its master."""

    def __init__(self, pid: int, request: int, status: int, stdin: int, stdout: int, stderr: int) -> None:
        self.pid = pid
        self.request = request
        self.status = status
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr

    def order(self, marker: bytes, cwd: bytes, argv: list[bytes], env: list[bytes]) -> None:
        body = pack([marker, cwd, whole(len(argv))] + argv + env)
        rest = memoryview(LENGTH.pack(len(body)) + body)
        while rest:
            rest = rest[os.write(self.request, rest) :]
        os.close(self.request)
        self.request = -1

    def close(self) -> None:
        for fd in {self.request, self.status, self.stdin, self.stdout, self.stderr}:
            if fd >= 0:
                os.close(fd)


def hire(root: bytes, terminal: Optional[tuple[int, int]] = None) -> Supervisor:
    """Fork a supervisor that waits for its order. Raises OSError when there is no process left."""
    ours: list[int] = []
    theirs: list[int] = []
    try:
        request_r, request_w = os.pipe()
        ours.append(request_w)
        theirs.append(request_r)
        status_r, status_w = os.pipe()
        ours.append(status_r)
        theirs.append(status_w)
        if terminal is not None:
            master, slave = os.openpty()
            ours.append(master)
            theirs.append(slave)
            size_terminal(master, *terminal)
            keep = (slave, slave, slave)
            mine = (master, master, -1)
        else:
            stdin_r, stdin_w = os.pipe()
            ours.append(stdin_w)
            theirs.append(stdin_r)
            stdout_r, stdout_w = os.pipe()
            ours.append(stdout_r)
            theirs.append(stdout_w)
            stderr_r, stderr_w = os.pipe()
            ours.append(stderr_r)
            theirs.append(stderr_w)
            keep = (stdin_r, stdout_w, stderr_w)
            mine = (stdin_w, stdout_r, stderr_r)
        pid = os.fork()
    except BaseException:
        for fd in ours + theirs:
            os.close(fd)
        raise
    if pid == 0:
        try:
            _supervise(root, request_r, status_w, keep, terminal is not None)
        finally:
            os._exit(70)
    for fd in theirs:
        os.close(fd)
    for fd in set(mine):
        if fd >= 0:
            os.set_blocking(fd, False)
    os.set_blocking(status_r, False)
    return Supervisor(pid, request_w, status_r, *mine)


def size_terminal(fd: int, rows: int, columns: int) -> None:
    import fcntl
    import struct
    import termios

    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def leave_the_agent(keep: set[int]) -> None:
    """After a fork: nothing of the agent may be reached from here, and the kernel's OOM killer takes us first."""
    signal.set_wakeup_fd(-1)
    for number_ in RESET:
        signal.signal(number_, signal.SIG_DFL)
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass
    # Only a dumpable process may write its own score; afterwards its files in /proc are closed to others again.
    prctl(PR_SET_DUMPABLE, 1)
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(fd, b"1000")
        os.close(fd)
    except OSError:
        pass
    prctl(PR_SET_DUMPABLE, 0)


def _supervise(root: bytes, request: int, status: int, streams: tuple[int, int, int], terminal: bool) -> NoReturn:
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    leave_the_agent({request, status, *streams})
    fields = _order(request)
    if fields is None:
        os._exit(0)
    os.close(request)
    marker, cwd, count = fields[0], fields[1], number(fields, 2)
    argv = fields[3 : 3 + count]
    env = {}
    for pair in fields[3 + count :]:
        key, _, value = pair.partition(b"=")
        env[key] = value
    if marker:
        env[b"MCP_SPACES_COMMAND"] = marker
    try:
        os.chdir(root + b"/" + cwd)
    except OSError as error:
        _tell(status, b"F", error.errno or errno.EIO)
        os._exit(0)
    began = time.monotonic()
    try:
        pid = _start(argv, env, streams, terminal)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.ENOMEM):
            _tell(status, b"P", error.errno)
            os._exit(0)
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        code, words = (127, b"not found") if missing else (126, os.strerror(error.errno or errno.EIO).encode())
        _tell(status, b"S", 0)
        try:
            os.write(streams[2], argv[0] + b": " + words + b"\n")
        except OSError:
            pass
        _tell(status, b"E", code, int((time.monotonic() - began) * 1e6))
        os._exit(0)
    _tell(status, b"S", pid)
    for fd in set(streams):
        os.close(fd)
    while True:
        try:
            ended, how = os.waitpid(-1, 0)
        except ChildProcessError:
            os._exit(0)
        if ended == pid:
            code = os.WEXITSTATUS(how) if os.WIFEXITED(how) else 128 + os.WTERMSIG(how)
            _tell(status, b"E", code, int((time.monotonic() - began) * 1e6))
            os.close(status)


def _order(request: int) -> Optional[list[bytes]]:
    """The order, or None when the agent let go of us."""
    content = b""
    size = -1
    while size < 0 or len(content) < size:
        piece = os.read(request, 65536)
        if not piece:
            return None
        content += piece
        if size < 0 and len(content) >= 4:
            size = LENGTH.unpack_from(content)[0]
            content = content[4:]
    return unpack(content)


def _tell(status: int, word: bytes, *numbers: int) -> None:
    os.write(status, word + b"".join([whole(each) for each in numbers]))


def _start(argv: list[bytes], env: dict[bytes, bytes], streams: tuple[int, int, int], terminal: bool) -> int:
    path = _program(argv[0], env.get(b"PATH", DEFAULT_PATH))
    try:
        return _spawn(path, argv, env, streams, terminal)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # A script without `#!` is the shell's, as in every shell.
    return _spawn(b"/bin/sh", [b"sh", path] + argv[1:], env, streams, terminal)


def _spawn(
    path: bytes, argv: list[bytes], env: dict[bytes, bytes], streams: tuple[int, int, int], terminal: bool
) -> int:
    if not terminal:
        try:
            return os.posix_spawn(
                path,
                argv,
                env,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, at) for at, fd in enumerate(streams)],
                setsid=True,
                setsigmask=[],
                setsigdef=RESET,
            )
        except NotImplementedError:
            pass
    return _fork(path, argv, env, streams, terminal)


def _fork(
    path: bytes, argv: list[bytes], env: dict[bytes, bytes], streams: tuple[int, int, int], terminal: bool
) -> int:
    """Where posix_spawn cannot: a terminal has to become the controlling one between fork and exec."""
    failed_r, failed_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            if terminal:
                # Opening a terminal makes it the controlling one of a session leader that has none.
                os.close(os.open(os.ttyname(streams[0]), os.O_RDWR))
            for at, fd in enumerate(streams):
                os.dup2(fd, at)
            os.execve(path, argv, env)
        except OSError as error:
            os.write(failed_w, whole(error.errno or errno.EIO))
        finally:
            os._exit(127)
    os.close(failed_w)
    failure = os.read(failed_r, 8)
    os.close(failed_r)
    if failure:
        os.waitpid(pid, 0)
        code = number([failure], 0)
        raise OSError(code, os.strerror(code))
    return pid


def _program(name: bytes, path: bytes) -> bytes:
    if b"/" in name:
        return name
    found = None
    for folder in path.split(b":"):
        candidate = (folder or b".") + b"/" + name
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
        if os.path.isfile(candidate):
            found = candidate
    if found:
        return found
    raise FileNotFoundError(errno.ENOENT, "not found")
