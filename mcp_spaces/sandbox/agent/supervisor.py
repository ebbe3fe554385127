"""One process per command, its supervisor: starts the program, and is the parent of all that the program leaves behind.

Being a subreaper, it keeps every descendant findable whatever session or group it moved to. When nothing is left of a
command it takes the next, so that a command costs one spawn and no fork of the agent.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct
import time

from mcp_spaces.sandbox.agent.processes import PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, prctl
from mcp_spaces.sandbox.agent.programs import explain, start
from mcp_spaces.sandbox.agent.wire import LENGTH, number, pack, unpack, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping
    from typing import Any, NoReturn
else:
    import _signal as signal

INLINE_BYTES = 32 * 1024
ALONE_S = 0.005
"""How long the word that a program runs waits for its end: most end sooner, and then one message tells all."""
TOLD_BYTES = 17
"""What a supervisor tells is a letter and two numbers: S it runs, E ended (code, microseconds), X nothing is left,
F no such folder (errno), P no process left (errno)."""
FDS = struct.Struct("4i")
FDS_ONE = struct.Struct("i")
RESET = [signal.SIGPIPE, signal.SIGINT, signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
if hasattr(signal, "SIGXFSZ"):
    RESET.append(signal.SIGXFSZ)
CHILD_ENDED = [signal.SIGCHLD]


class Supervisor:
    """The agent's end of one: its process id and a socket for orders and what it tells."""

    def __init__(self, pid: int, socket: Any) -> None:
        self.pid = pid
        self.socket = socket

    def order(self, streams: tuple[int, int, int], fields: list[bytes]) -> None:
        """Start a program on these descriptors. Never blocks.

        Raises BrokenPipeError or ConnectionResetError when the supervisor is dead, another OSError when the order did
        not reach it.
        """
        body = pack(fields)
        fds = list(streams)
        try:
            if len(body) > INLINE_BYTES:
                # A stopped supervisor does not read, and a socket holds only so much.
                fds.append(os.memfd_create("order"))
                with open(fds[-1], "wb", closefd=False) as file:
                    file.write(body)
                body = b""
            content = LENGTH.pack(len(body)) + body
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, FDS.pack(*fds, *[-1] * (4 - len(fds)))[: 4 * len(fds)])]
            self.socket.sendmsg([content], rights)
        finally:
            if len(fds) > 3:
                os.close(fds[3])

    def close(self) -> None:
        self.socket.close()


def hire(root: bytes, environment: Mapping[bytes, bytes]) -> Supervisor:
    """Fork a supervisor that waits for orders; its programs get this environment and what an order adds to it.

    Raises OSError when there is no process left.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    with_both = [ours, theirs]
    try:
        pid = os.fork()
    except BaseException:
        for each in with_both:
            each.close()
        raise
    if pid == 0:
        try:
            _supervise(root, environment, theirs)
        finally:
            os._exit(70)
    theirs.close()
    ours.setblocking(False)
    return Supervisor(pid, ours)


def size_terminal(fd: int, rows: int, columns: int) -> None:
    """Raises OSError."""
    try:
        import fcntl
        import termios
    except ImportError as error:
        # There is no descriptor left to open them by.
        raise OSError(errno.EMFILE, str(error)) from error
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def leave_the_agent(keep: set[int]) -> None:
    """After a fork: nothing of the agent may be reached from here, and the kernel's OOM killer takes us first."""
    signal.set_wakeup_fd(-1)
    for number_ in RESET:
        signal.signal(number_, signal.SIG_DFL)
    # Never kept, and then there is one to look with, also when none was left.
    os.closerange(0, 3)
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


def _supervise(root: bytes, environment: Mapping[bytes, bytes], socket: Any) -> NoReturn:
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    leave_the_agent({socket.fileno()})
    # Kept until it is waited for, with a limit that waitpid does not have.
    signal.pthread_sigmask(signal.SIG_BLOCK, CHILD_ENDED)
    for fd in (0, 1, 2):
        # So that no descriptor that arrives takes one of these numbers.
        os.dup2(os.open("/dev/null", os.O_RDWR), fd)
    while True:
        streams, fields = _order(socket)
        try:
            _obey(root, environment, socket, streams, fields)
        except OSError:
            # Nobody listens any more.
            os._exit(0)


def _obey(
    root: bytes, environment: Mapping[bytes, bytes], socket: Any, streams: tuple[int, int, int], fields: list[bytes]
) -> None:
    """Run one program, and wait for all that it leaves behind."""
    marker, cwd, terminal, count = fields[0], fields[1], bool(number(fields, 2)), number(fields, 3)
    argv = fields[4 : 4 + count]
    env = dict(environment)
    for pair in fields[4 + count :]:
        key, _, value = pair.partition(b"=")
        env[key] = value
    # As a shell would set it, for programs that are started without one.
    env[b"PWD"] = root if cwd == b"." else root + b"/" + cwd
    if marker:
        env[b"MCP_SPACES_COMMAND"] = marker
    began = time.monotonic()
    pid, silent = -1, False
    try:
        os.chdir(root + b"/" + cwd)
    except OSError as error:
        _tell(socket, b"F", error.errno or errno.EIO)
    else:
        try:
            pid = start(argv, env, streams, terminal)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOMEM):
                _tell(socket, b"P", error.errno)
            else:
                explain(streams[2], argv[0], error)
                _tell(socket, b"S", 0)
                _tell(socket, b"E", 127 if error.errno == errno.ENOENT else 126, int((time.monotonic() - began) * 1e6))
        else:
            silent = True
    os.chdir("/")
    for fd in set(streams):
        os.close(fd)
    told = b""
    while True:
        if silent and not signal.sigtimedwait(CHILD_ENDED, max(0.0, began + ALONE_S - time.monotonic())):
            _tell(socket, b"S", pid)
            silent = False
        try:
            # What ended is told before the wait for what it left behind, and with the end of that where there is nothing.
            ended, how = os.waitpid(-1, os.WNOHANG if told or silent else 0)
        except ChildProcessError:
            break
        if ended == pid:
            pid, silent = -1, False
            code = os.WEXITSTATUS(how) if os.WIFEXITED(how) else 128 + os.WTERMSIG(how)
            told = _words(b"E", code, int((time.monotonic() - began) * 1e6))
        elif ended == 0 and told:
            socket.sendall(told)
            told = b""
    socket.sendall(told + _words(b"X"))


def _order(socket: Any) -> tuple[tuple[int, int, int], list[bytes]]:
    """The next order; ends the process when the agent let go of us."""
    content, rights, _, _ = socket.recvmsg(INLINE_BYTES + 4, 64, _socket.MSG_CMSG_CLOEXEC)
    if not content:
        os._exit(0)
    packed = b"".join([each[2] for each in rights])
    fds = [FDS_ONE.unpack_from(packed, at)[0] for at in range(0, len(packed) - 3, 4)]
    (size,) = LENGTH.unpack_from(content)
    content = content[4:]
    if not size:
        with open(fds[3], "rb") as file:
            file.seek(0)
            content = file.read()
    while len(content) < size:
        piece = socket.recv(size - len(content))
        if not piece:
            os._exit(0)
        content += piece
    return (fds[0], fds[1], fds[2]), unpack(content)


def _tell(socket: Any, word: bytes, first: int = 0, second: int = 0) -> None:
    socket.sendall(_words(word, first, second))


def _words(word: bytes, first: int = 0, second: int = 0) -> bytes:
    return word + whole(first) + whole(second)
