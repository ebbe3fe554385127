"""Disks for workspaces: one sparse ext4 file per runtime, so that the kernel enforces the size.

The file is attached to a loop device that lets go of it by itself (autoclear): Docker mounts the device, we close it
once the container runs, and the kernel detaches it at the unmount. Nothing has to be cleaned up, however we die.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcp_spaces.errors import Busy, DiskFull, InvalidInput, RuntimeUnavailable
from mcp_spaces.sandbox.docker.container import USER

LOOP_CONFIGURE = 0x4C0A
LOOP_CTL_GET_FREE = 0x4C82
LO_FLAGS_AUTOCLEAR = 4
LOOP_CONTROL = Path("/dev/loop-control")
ATTEMPTS = 50
MIN_BYTES = 8 << 20
"""The smallest disk."""
BYTES_PER_INODE = 8192
PROGRAMS = os.defpath + ":/usr/local/sbin:/usr/sbin:/sbin"
"""Where mkfs.ext4 is looked for, whatever PATH the daemon was started with."""
RUNTIME_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def checked_id(runtime_id: str) -> str:
    """The id is a file's name and a container's. Raises InvalidInput."""
    if not RUNTIME_ID.fullmatch(runtime_id):
        raise InvalidInput(f"Not a runtime id: {runtime_id!r}.", hint="Letters, digits, '.', '_' and '-'; at most 63.")
    return runtime_id


@dataclass(slots=True)
class Attached:
    """A loop device, held until the container has mounted it."""

    device: str
    fd: int

    def release(self) -> None:
        """Let go: the device stays while it is mounted, and no longer. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class DiskFiles:
    """The files below `<state folder>/workspaces`. Blocking: call it from a worker thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._templates = folder / "templates"

    def path(self, runtime_id: str) -> Path:
        return self.folder / f"{checked_id(runtime_id)}.ext4"

    def ids(self) -> Iterator[str]:
        """What cannot be one of ours, such as somebody's copy, is left alone."""
        if self.folder.is_dir():
            for path in sorted(self.folder.glob("*.ext4")):
                if RUNTIME_ID.fullmatch(path.stem) and path.is_file():
                    yield path.stem

    def make(self, runtime_id: str, disk_bytes: int) -> bool:
        """True when it was made now, False when it was there already. Raises DiskFull, RuntimeUnavailable."""
        path = self.path(runtime_id)
        if path.exists():
            return False
        template = self._template(disk_bytes)
        part = path.with_suffix(f".{secrets.token_hex(4)}.part")
        try:
            _copy_sparsely(template, part)
            part.rename(path)
        except OSError as error:
            raise _full(error) from error
        finally:
            part.unlink(missing_ok=True)
        return True

    def rename(self, old: str, new: str) -> None:
        if self.path(new).exists():
            raise FileExistsError(errno.EEXIST, "there is such a workspace")
        self.path(old).rename(self.path(new))

    def delete(self, runtime_id: str) -> None:
        """Idempotent."""
        self.path(runtime_id).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove files that a crash left half made."""
        for folder in (self.folder, self._templates):
            if folder.is_dir():
                for part in folder.glob("*.part"):
                    part.unlink(missing_ok=True)

    def _template(self, disk_bytes: int) -> Path:
        """An empty file system of this size, made once."""
        size = max(MIN_BYTES, disk_bytes) // 4096 * 4096
        template = self._templates / f"v1-{size}"
        if template.exists():
            return template
        self._templates.mkdir(parents=True, exist_ok=True)
        part = self._templates / f"{template.name}.{secrets.token_hex(4)}.part"
        try:
            with part.open("wb") as file:
                file.truncate(size)
            inodes = max(1024, size // BYTES_PER_INODE)
            options = f"root_owner={USER},lazy_itable_init=1,lazy_journal_init=1,nodiscard"
            _run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(inodes), "-J", "size=4" if size >= 64 << 20 else "size=1",
                 "-E", options, str(part))  # fmt: skip
            part.rename(template)
        except OSError as error:
            raise _full(error) from error
        finally:
            part.unlink(missing_ok=True)
        return template

    def wait_until_detached(self, runtime_id: str, *, timeout_s: float) -> None:
        """Two devices over one file would destroy what is in it: wait for the last container to let go. Raises Busy."""
        until = time.monotonic() + timeout_s
        while self.is_attached(runtime_id):
            if time.monotonic() > until:
                raise Busy("The workspace is still in use by a container.", hint="Try again in a moment.")
            time.sleep(0.02)

    def is_attached(self, runtime_id: str) -> bool:
        return str(self.path(runtime_id).resolve()) in _attached_files()

    def attach(self, runtime_id: str) -> Attached:
        """Raises RuntimeUnavailable where loop devices do not work."""
        try:
            backing = os.open(self.path(runtime_id), os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise _no_loop(error) from error
        try:
            return _attach(backing)
        except OSError as error:
            raise _no_loop(error) from error
        finally:
            os.close(backing)


def loop_works() -> str:
    """Empty when this process may attach loop devices and mkfs.ext4 is there; else what is missing."""
    if shutil.which("mkfs.ext4", path=PROGRAMS) is None:
        return "mkfs.ext4 is not installed"
    try:
        with LOOP_CONTROL.open("rb", buffering=0) as control:
            fcntl.ioctl(control, LOOP_CTL_GET_FREE)
    except OSError as error:
        return f"/dev/loop-control: {os.strerror(error.errno or 0)}"
    return ""


def _run(program: str, *arguments: str) -> None:
    found = shutil.which(program, path=PROGRAMS)
    if found is None:
        raise RuntimeUnavailable(f"{program} is not installed.", hint="apt install e2fsprogs")
    done = subprocess.run([found, *arguments], capture_output=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeUnavailable(
            f"{program} failed with exit code {done.returncode}.", hint="Is the state folder's disk full?"
        )


def _attached_files() -> set[str]:
    found = set()
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found.add(backing.read_text().strip())
        except OSError:
            continue
    return found


def _attach(backing: int) -> Attached:
    for _ in range(ATTEMPTS):
        with LOOP_CONTROL.open("rb", buffering=0) as control:
            number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
        device = f"/dev/loop{number}"
        if not Path(device).exists():
            # Where /dev is not the kernel's own.
            os.mknod(device, 0o600 | 0o060000, os.makedev(7, number))
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            # struct loop_config: fd, block size, struct loop_info64 (lo_flags at byte 52 of it), reserved.
            info64 = bytearray(232)
            struct.pack_into("I", info64, 52, LO_FLAGS_AUTOCLEAR)
            fcntl.ioctl(fd, LOOP_CONFIGURE, struct.pack("II", backing, 0) + bytes(info64) + bytes(64))
        except OSError as error:
            os.close(fd)
            # Somebody else took it between our two calls.
            if error.errno == errno.EBUSY:
                continue
            raise
        return Attached(device, fd)
    raise OSError(errno.EBUSY, "no free loop device")


def _copy_sparsely(source: Path, target: Path) -> None:
    """Only the parts that hold something: a new file system of 2 GiB is under 1 MiB of them."""
    with (
        source.open("rb") as reader,
        open(target, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as writer,
    ):
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        at = 0
        while at < size:
            try:
                begin = os.lseek(reader.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break
                raise
            at = os.lseek(reader.fileno(), begin, os.SEEK_HOLE)
            while begin < at:
                copied = os.copy_file_range(reader.fileno(), writer.fileno(), at - begin, begin, begin)
                if not copied:
                    break
                begin += copied


def _full(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("The state folder's disk is full.", hint="Free space there; nothing was created.")
    return RuntimeUnavailable("The workspace's disk could not be made.", hint="See the daemon's log.")


def _no_loop(error: OSError) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"The workspace's disk could not be attached ({errno.errorcode.get(error.errno or 0, 'error')}).",
        hint="Run `mcp-spaces doctor`: loop devices have to work.",
    )
