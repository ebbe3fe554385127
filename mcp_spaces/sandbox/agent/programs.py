"""Starting programs: found as a shell finds them, then spawned, or forked where a terminal has to become theirs."""

from __future__ import annotations

import errno
import os

from mcp_spaces.sandbox.agent.wire import number, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

SHELLS = (b"/bin/bash", b"/bin/sh")
DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"


def start(argv: list[bytes], env: dict[bytes, bytes], streams: tuple[int, int, int], terminal: bool) -> int:
    """The process id of the leader of a session of its own; `streams` become its first three descriptors, with
    `terminal` all of them one, which controls it. Raises OSError."""
    path = _program(argv[0], env.get(b"PATH", DEFAULT_PATH))
    try:
        return _spawn(path, argv, env, streams, terminal)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # A script without `#!` is the shell's, as in every shell.
    shell = next(one for one in SHELLS if os.access(one, os.X_OK))
    return _spawn(shell, [shell, path] + argv[1:], env, streams, terminal)


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
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
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


def explain(stderr: int, program: bytes, error: OSError) -> None:
    """Why it was not started, as a shell would say it."""
    if error.errno == errno.ENOENT and b"/" not in program:
        words = b"command not found"
    elif error.errno == errno.ENOENT and os.path.exists(program):
        # What its first line names, maybe with a carriage return at the end.
        words = b"cannot execute: required file not found"
    else:
        words = os.strerror(error.errno or errno.EIO).encode()
    try:
        os.write(stderr, program + b": " + words + b"\n")
    except OSError:
        pass
