"""Finding and killing processes by their place in the tree of parents."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator
else:
    import _signal as signal

PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
TIGHT_ROUNDS = 50
NAME = b"mcp-spaces"
"""Of the agent and what it forks."""
ARG_START, ARG_END = 45, 46
"""Where a process's arguments are in its memory: proc_pid_stat(5), counted from behind the name."""
THREADS = 17
"""How many threads it has: one whose first thread has ended looks like a zombie, and its others run on."""


def prctl(option: int, value: int) -> bool:
    """False where this Python has no ctypes."""
    try:
        import ctypes

        return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


def take_name() -> None:
    """Be listed as what it is, not as a Python with a page of code; and let `pkill python3` end the caller's own alone.

    Before the process closes its files in /proc.
    """
    try:
        with open("/proc/self/comm", "wb") as comm:
            comm.write(NAME)
        with open("/proc/self/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        start, size = int(fields[ARG_START]), int(fields[ARG_END]) - int(fields[ARG_START])
        import ctypes

        if start and size > len(NAME):
            ctypes.memmove(start, NAME.ljust(size, b"\0"), size)
    except (ImportError, OSError, IndexError):
        # It keeps the name that it was started with.
        pass


class _Kept:
    """A descriptor that is kept for a look at what runs: who is out of descriptors still finds what it has to kill."""

    fd = -1

    def __enter__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __exit__(self, *_: object) -> None:
        keep_one_descriptor()


_kept = _Kept()


def keep_one_descriptor() -> None:
    try:
        _kept.fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        # Next time, maybe.
        pass


def parents() -> dict[int, tuple[int, bool]]:
    """Every process: its parent, and whether it still runs (a zombie does not). Raises OSError when it cannot look."""
    found = {}
    with _kept:
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    fd = os.open("/proc/" + name + "/stat", os.O_RDONLY | os.O_CLOEXEC)
                    try:
                        line = os.read(fd, 512)
                    finally:
                        os.close(fd)
                except OSError:
                    continue
                # The name in brackets is the process's own choice and may hold brackets and spaces.
                fields = line[line.rfind(b")") + 2 :].split()
                if len(fields) > THREADS:
                    found[int(name)] = (int(fields[1]), fields[0] not in (b"Z", b"X") or int(fields[THREADS]) > 1)
    return found


def below(roots: set[int], tree: dict[int, tuple[int, bool]]) -> list[int]:
    """Descendants of `roots`, without them. Parents come before their children: a shell whose child is killed first
    would go on with its next command."""
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in tree.items():
        children.setdefault(parent, []).append(pid)
    found: dict[int, None] = {}
    todo = list(roots)
    while todo:
        for child in children.get(todo.pop(), ()):
            if child not in found and child not in roots:
                found[child] = None
                todo.append(child)
    return list(found)


def kill_below(root: int) -> Iterator[int]:
    """Kill every descendant of `root`; yields, after each pass, how many were still there: 1 where it could not look."""
    while True:
        try:
            tree = parents()
        except OSError:
            yield 1
            continue
        alive = [pid for pid in below({root}, tree) if tree[pid][1]]
        for pid in alive:
            kill(pid)
        if alive:
            _kill_children_tightly(root)
        yield len(alive)


def kill_orphans(known: set[int]) -> int:
    """Kill what was reparented to this process and below: nobody's, since its supervisor is gone. 1 where it could not
    look."""
    try:
        tree, here = parents(), os.getpid()
    except OSError:
        return 1
    strays = {pid for pid, (parent, alive) in tree.items() if parent == here and alive and pid not in known}
    for pid in [*strays, *below(strays, tree)]:
        kill(pid)
    return len(strays)


def _kill_children_tightly(root: int) -> None:
    """A process that forks and exits without pause outruns a scan of /proc; its child is always a child of the
    subreaper, though, and this list is read and shot at in microseconds."""
    path = "/proc/%d/task/%d/children" % (root, root)
    with _kept:
        for _ in range(TIGHT_ROUNDS):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return
            try:
                children = os.read(fd, 65536).split()
            except OSError:
                return
            finally:
                os.close(fd)
            if not children:
                return
            for child in children:
                kill(int(child))


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass


def marked(marker: bytes) -> set[int]:
    """Processes with this in their environment: the second best, where there is no subreaper."""
    found = set()
    with _kept:
        try:
            names = os.listdir("/proc")
        except OSError:
            names = []
        for name in names:
            if name.isdigit() and name != "1":
                try:
                    with open("/proc/" + name + "/environ", "rb") as file:
                        if marker in file.read():
                            found.add(int(name))
                except OSError:
                    continue
    return found
