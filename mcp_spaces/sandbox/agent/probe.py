"""What this process sees of its walls, and what the sandbox uses. Only facts: the daemon judges them."""

from __future__ import annotations

import _socket
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CGROUP = "/sys/fs/cgroup"
FAMILIES = (
    (b"vsock", 40, _socket.SOCK_STREAM),
    (b"alg", 38, _socket.SOCK_SEQPACKET),
    (b"packet", 17, _socket.SOCK_STREAM),
)
"""Families that nothing in a sandbox needs, by their numbers: a Python need not know their names."""


def probe(root: bytes, addresses: Sequence[bytes]) -> list[bytes]:
    """`name=value` facts. `addresses` are tried, port 53 with UDP and others with TCP: nothing but `unreachable` is a wall."""
    facts = [b"interfaces=" + b",".join(sorted(_interfaces()))]
    status = _fields("/proc/self/status")
    for name in (b"CapEff", b"CapPrm", b"CapBnd", b"CapAmb", b"CapInh", b"NoNewPrivs", b"Seccomp"):
        facts.append(name + b"=" + status.get(name, b"?"))
    facts.append(b"uid=%d,%d,%d" % os.getresuid())
    facts.append(b"gid=%d,%d,%d" % os.getresgid())
    facts.append(b"pid=%d" % os.getpid())
    facts.append(b"root_read_only=%d" % bool(os.statvfs("/").f_flag & os.ST_RDONLY))
    facts.append(b"workspace_flags=%d,%d" % _mount_flags(root))
    facts.append(b"workspace_writable=%d" % os.access(root, os.W_OK))
    facts += [b"%s_limit=%d" % limit for limit in _limits()]
    facts += [b"connect " + address + b"=" + _connect(address.decode()) for address in addresses]
    facts += [b"socket " + name + b"=" + _make(family, kind) for name, family, kind in FAMILIES]
    return facts


def _interfaces() -> list[bytes]:
    with open("/proc/net/dev", "rb") as file:
        return [line.split(b":")[0].strip() for line in file.read().split(b"\n")[2:] if line]


def _mount_flags(root: bytes) -> tuple[bool, bool]:
    flags = os.statvfs(root).f_flag
    return bool(flags & os.ST_NOSUID), bool(flags & os.ST_NODEV)


def _limits() -> list[tuple[bytes, int]]:
    """What the kernel gives at most: bytes, processes, thousandths of a core. 0 is no limit."""
    return [
        (b"memory", _first("/memory.max", "/memory/memory.limit_in_bytes")),
        (b"pids", _first("/pids.max", "/pids/pids.max")),
        (b"cpu", _millicores()),
    ]


def _millicores() -> int:
    try:
        with open(CGROUP + "/cpu.max", "rb") as file:
            quota, period = file.read().split()
        return int(quota) * 1000 // int(period) if quota != b"max" else 0
    except OSError:
        quota_us = _first("/cpu/cpu.cfs_quota_us")
        return max(0, quota_us) * 1000 // (_first("/cpu/cpu.cfs_period_us") or 1)


def _connect(address: str) -> bytes:
    host, _, port = address.rpartition(":")
    kind = _socket.SOCK_DGRAM if port == "53" else _socket.SOCK_STREAM
    tried = _socket.socket(_socket.AF_INET, kind | _socket.SOCK_NONBLOCK)
    try:
        tried.connect((host, int(port)))
    except OSError as error:
        return b"unreachable" if error.errno == errno.ENETUNREACH else str(error.errno).encode()
    finally:
        tried.close()
    return b"reached"


def _make(family: int, kind: int) -> bytes:
    try:
        _socket.socket(family, kind).close()
    except OSError as error:
        return str(error.errno).encode()
    return b"made"


def _fields(path: str) -> dict[bytes, bytes]:
    with open(path, "rb") as file:
        pairs = [line.partition(b":") for line in file.read().split(b"\n")]
    return {name: value.strip() for name, _, value in pairs}


def _first(*paths: str) -> int:
    for path in paths:
        try:
            with open(CGROUP + path, "rb") as file:
                return int(file.read())
        except (OSError, ValueError):
            continue
    return 0


def memory_bytes() -> int:
    """Without what the kernel would give back at once: inactive cache of files."""
    used = _first("/memory.current", "/memory/memory.usage_in_bytes")
    for path, name in (("/memory.stat", b"inactive_file"), ("/memory/memory.stat", b"total_inactive_file")):
        try:
            with open(CGROUP + path, "rb") as file:
                for line in file:
                    if line.startswith(name + b" "):
                        return max(0, used - int(line.split()[1]))
        except OSError:
            continue
    return used


def pids() -> int:
    return _first("/pids.current", "/pids/pids.current") or sum(name.isdigit() for name in os.listdir("/proc"))


def disk_bytes(root: bytes) -> int:
    status = os.statvfs(root)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


class OutOfMemoryKills:
    """How often the kernel killed something here for want of memory: memory.events (cgroup v2) or memory.oom_control."""

    def __init__(self) -> None:
        self.fd = -1
        for path in ("/memory.events", "/memory/memory.oom_control"):
            try:
                self.fd = os.open(CGROUP + path, os.O_RDONLY | os.O_CLOEXEC)
                return
            except OSError:
                continue

    def count(self) -> int:
        if self.fd >= 0:
            for line in os.pread(self.fd, 4096, 0).split(b"\n"):
                if line.startswith(b"oom_kill "):
                    return int(line[9:])
        return 0
