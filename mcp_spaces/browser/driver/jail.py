"""The process around a local Chromium. It runs by itself, on the standard library alone: see `local_host`.

As root: a network, process and mount namespace of its own, then another user. Chromium is never alone: it dies with
this process, and this process when the other end of its control socket does, which is the daemon's.

On the control socket `listen` is answered with a socket that listens on 127.0.0.1 where Chromium is: a socket belongs
to the namespace that it was made in, so the daemon accepts connections from inside without being there.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

NEW_MOUNTS, NEW_IPC, NEW_PIDS, NEW_NETWORK = 0x00020000, 0x08000000, 0x20000000, 0x40000000
NO_SETUID, NO_DEVICES, NO_PROGRAMS, REMOUNT, BIND, RECURSIVE, PRIVATE = 2, 4, 8, 32, 4096, 16384, 1 << 18
READ_ONLY = 1
DIE_WITH_PARENT, NO_NEW_PRIVILEGES, DROP_BOUND = 1, 38, 24
CAPABILITIES = 64
SET_FLAGS, UP_AND_RUNNING = 0x8914, 0x41
MOUNTS = "/proc/self/ns/mnt"
INSIDE = "/tmp"  # noqa: S108 - of a mount namespace of its own
DISPLAYS = "/tmp/.X11-unix"  # noqa: S108 - where X listens
HIDDEN = ("/home", "/root", "/run", "/mnt", "/media", "/srv", "/var/tmp", "/dev/shm")  # noqa: S108 - made empty

libc = ctypes.CDLL(None, use_errno=True)


class Wanted(NamedTuple):
    """`programs`: a folder that Chromium needs although the jail hides it, or ''. `uid`: None stays who we are."""

    control: int
    jailed: bool
    uid: int | None
    folder: str
    programs: str
    argv: list[str]
    environment: dict[str, str]


def main() -> int:
    wanted = Wanted(**json.loads(sys.argv[1]))
    control = socket.socket(fileno=wanted.control)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if wanted.jailed:
        enter(Path(wanted.folder), wanted.programs)
    child = os.fork()
    if not child:
        control.close()
        if wanted.jailed:
            first_process(wanted)
        become(wanted)
    quiet()
    return serve(control, child)


def enter(folder: Path, programs: str) -> None:
    """Everything but the process namespace, which begins with the next fork."""
    machines = Path(MOUNTS).readlink()
    called("unshare", libc.unshare(NEW_MOUNTS | NEW_IPC | NEW_PIDS | NEW_NETWORK))
    if Path(MOUNTS).readlink() == machines:
        # What follows would hide the machine's own folders from everybody.
        raise OSError(errno.EPERM, "there is no mount namespace of its own")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh22x", b"lo", UP_AND_RUNNING))
    mount(None, "/", None, RECURSIVE | PRIVATE)
    # Programs and X's sockets may lie below what is hidden next.
    for source, name in ((programs, "programs"), (DISPLAYS, ".X11-unix")):
        if source and Path(source).is_dir():
            (folder / name).mkdir(exist_ok=True)
            mount(source, str(folder / name), None, BIND)
    mount(str(folder), INSIDE, None, BIND | RECURSIVE)
    mount(None, INSIDE, None, REMOUNT | BIND | NO_SETUID | NO_DEVICES)
    for hidden in HIDDEN:
        if Path(hidden).is_dir() and not Path(hidden).is_symlink():
            mount("none", hidden, "tmpfs", READ_ONLY | NO_SETUID | NO_DEVICES | NO_PROGRAMS)


def first_process(wanted: Wanted) -> None:
    """Of the process namespace: with it everything in there ends. Never returns."""
    mount("proc", "/proc", "proc", NO_SETUID | NO_DEVICES | NO_PROGRAMS)
    lower(wanted)
    chromium = os.fork()
    if not chromium:
        become(wanted)
    quiet()
    while True:
        pid, status = os.wait()
        if pid == chromium:
            os._exit(exit_code(status))


def lower(wanted: Wanted) -> None:
    """To another user, without a way back. The signal is set last: changing the user clears it."""
    uid = wanted.uid
    if uid is not None and os.geteuid() != uid:
        for capability in range(CAPABILITIES):
            libc.prctl(DROP_BOUND, capability, 0, 0, 0)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    called("prctl", libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    called("prctl", libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0))


def become(wanted: Wanted) -> None:
    """Chromium. Its pipe is descriptors 3 and 4. Never returns."""
    try:
        os.setsid()
        lower(wanted)
        os.dup2(0, 3)
        os.dup2(1, 4)
        quiet(output=2)
        os.closerange(5, 1 << 16)
        os.umask(0o077)
        os.chdir(wanted.environment["HOME"])
        os.execve(wanted.argv[0], wanted.argv, wanted.environment)  # noqa: S606 - it has no shell, and needs none
    except OSError as error:
        say(f"Chromium cannot be started: {error}")
    os._exit(127)


def serve(control: socket.socket, child: int) -> int:
    """Until Chromium ends, or the daemon does."""
    ended = os.pidfd_open(child)
    # `control` has the number that it had in the daemon, and select takes none above 1,023.
    waiting = select.poll()
    for one in (control.fileno(), ended):
        waiting.register(one, select.POLLIN)
    while True:
        if any(ready == ended for ready, _ in waiting.poll()):
            return exit_code(os.waitpid(child, 0)[1])
        if not answer(control):
            break
    for kill in (os.kill, os.killpg):
        with suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 0


def answer(control: socket.socket) -> bool:
    """False when the daemon is gone, also where it left an answer unread."""
    try:
        if not control.recv(64):
            return False
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(256)
            fds = array.array("i", [listener.fileno()])
            control.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    except ConnectionError:
        return False
    return True


def exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def quiet(*, output: int | None = None) -> None:
    """Hold nothing of Chromium's pipe, so that its end shows at the other end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing if output is None else output, 1)


def mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    encoded = [None if one is None else os.fsencode(one) for one in (source, target, kind)]
    called(f"mount {target}", libc.mount(*encoded, ctypes.c_ulong(flags), None))


def called(what: str, result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def say(words: str) -> None:
    """On stderr, where the daemon tells it from Chromium's own words."""
    os.write(2, f"mcp-spaces: {words}\n".encode())


if __name__ == "__main__":
    try:
        code = main()
    except OSError as error:
        say(f"no walls can be built for Chromium: {error}")
        code = 126
    os._exit(code)
