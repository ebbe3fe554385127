"""Reading, writing and removing single files, in slices so that no call makes another one wait."""

from __future__ import annotations

import errno
import os
import stat

from mcp_spaces.sandbox.agent.paths import Place, Refused, Workspace, locate
from mcp_spaces.sandbox.agent.wire import CHUNK, number, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from typing import Any, Optional

    Slices = Generator[None, None, "Sequence[bytes]"]

KINDS = {stat.S_IFREG: b"file", stat.S_IFDIR: b"directory", stat.S_IFLNK: b"link"}
PART = b".mcp-spaces-part-"
"""How the name of a file begins that is not complete yet, or about to take another's place."""

# O_NONBLOCK: opening a FIFO would wait for its other end for ever.
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
WRITE = os.O_WRONLY | os.O_CLOEXEC
UNNAMED = getattr(os, "O_TMPFILE", 0)
NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
"""What a file system, or a kernel, answers that has no files without a name."""
FULL = (errno.ENOSPC, errno.EDQUOT)
WORDS = {
    # A link that was exchanged for a folder between two looks at it.
    errno.EINVAL: "link",
    errno.ENOENT: "absent",
    errno.ENOTDIR: "not_folder",
    errno.EISDIR: "folder",
    errno.EEXIST: "exists",
    errno.ELOOP: "link",
    errno.EACCES: "forbidden",
    errno.EPERM: "forbidden",
    errno.ENAMETOOLONG: "too_long",
    errno.ENOTEMPTY: "not_empty",
    errno.ENXIO: "not_regular",
    errno.EAGAIN: "no_process",
    errno.ENOMEM: "no_memory",
    errno.EMFILE: "no_process",
    errno.ENFILE: "no_process",
    errno.ETOOMANYREFS: "no_process",
}


def word_of(error: Exception) -> bytes:
    """Of the table in the daemon's `refusals.py`; `io` for what is no file's fault."""
    if isinstance(error, Refused):
        return error.word.encode()
    if isinstance(error, MemoryError):
        return b"no_memory"
    if isinstance(error, OSError):
        return b"full" if error.errno in FULL else WORDS.get(error.errno or 0, "io").encode()
    return b"io"


def describe(path: bytes, status: os.stat_result) -> list[bytes]:
    """The fields of one entry: path, kind, bytes, microseconds since 1970, executable."""
    kind = KINDS.get(stat.S_IFMT(status.st_mode), b"other")
    executable = kind == b"file" and bool(status.st_mode & 0o111)
    return [path, kind, whole(status.st_size), whole(status.st_mtime_ns // 1000), whole(int(executable))]


def _version(status: os.stat_result) -> tuple[int, ...]:
    """Another one after any change: nobody inside sets the time of the last change of an inode."""
    return (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def look(workspace: Workspace, fields: Sequence[bytes]) -> list[bytes]:
    """Fields: path. The fields of its entry."""
    with locate(workspace, fields[0], follow=True, follow_last=True) as place:
        if place.status is None:
            raise Refused("absent")
        return describe(place.path, place.status)


def read(workspace: Workspace, fields: Sequence[bytes], reply: Callable[[bytes], None]) -> Slices:
    """Fields: path, offset, limit. Answers with the content, then size, resolved path and version."""
    offset, left = number(fields, 1), number(fields, 2)
    with locate(workspace, fields[0], follow=True, follow_last=True) as place:
        resolved = place.path
        fd, status = _open_regular(place)
    try:
        if offset:
            os.lseek(fd, min(offset, status.st_size), os.SEEK_SET)
        while left > 0:
            piece = os.read(fd, min(CHUNK, left))
            if not piece:
                break
            reply(piece)
            left -= len(piece)
            yield
    finally:
        os.close(fd)
    return [whole(status.st_size), resolved, b".".join([b"%d" % part for part in _version(status)])]


def _open_regular(place: Place) -> tuple[int, os.stat_result]:
    if place.status is None:
        raise Refused("absent")
    if not place.name or stat.S_ISDIR(place.status.st_mode):
        raise Refused("folder")
    if not stat.S_ISREG(place.status.st_mode):
        raise Refused("not_regular")
    fd = os.open(place.name, READ, dir_fd=place.folder)
    status = os.fstat(fd)
    # Asked again of what was opened: the name may have changed hands since. A hard link cannot leave its device.
    if not stat.S_ISREG(status.st_mode) or status.st_dev != place.workspace.device:
        os.close(fd)
        raise Refused("not_regular")
    return fd, status


class Write:
    """One file being written: its content takes the old one's place at the end or not at all.

    Until then it has no name, so that nothing is left of it where its sandbox dies; where there are no files without a
    name it is a part file beside the old one.
    """

    def __init__(self, workspace: Workspace, fields: Sequence[bytes], nonce: bytes) -> None:
        """Fields: path, overwrite (0 or 1), sha256 of the content to be replaced (hex, or empty). `nonce`: no other
        write has it, one that was broken off in a former life of the workspace included."""
        self.overwrite = bool(number(fields, 1))
        self.base = fields[2]
        self.fd = -1
        self.nonce = nonce
        self.part = b""
        self.place = locate(workspace, fields[0], follow=False, follow_last=False, make=not self.base)
        try:
            self._check()
            self.fd = self._open()
            if self.place.status is not None:
                os.fchmod(self.fd, stat.S_IMODE(self.place.status.st_mode) & 0o777)
        except BaseException:
            self.close()
            raise

    def _open(self) -> int:
        if UNNAMED:
            try:
                return os.open(b".", UNNAMED | WRITE, 0o644, dir_fd=self.place.folder)
            except OSError as error:
                if error.errno not in NO_UNNAMED:
                    raise
        part = PART + self.nonce
        fd = os.open(part, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | WRITE, 0o644, dir_fd=self.place.folder)
        self.part = part
        return fd

    def _check(self) -> None:
        status = self.place.status
        if not self.place.name or (status is not None and stat.S_ISDIR(status.st_mode)):
            raise Refused("folder")
        if status is None:
            if self.base:
                raise Refused("changed")
            return
        if stat.S_ISLNK(status.st_mode):
            raise Refused("link")
        if not stat.S_ISREG(status.st_mode):
            raise Refused("not_regular")
        if not self.overwrite and not self.base:
            raise Refused("exists")

    def add(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self.fd, rest) :]

    def finish(self) -> Slices:
        before = self._now()
        if self.base:
            yield from self._compare()
        if self._now() != before:
            raise Refused("changed")
        if not self.overwrite and not self.base:
            # A rename would replace what somebody else put there in the meantime; a link never does.
            self._link(self.place.name)
        else:
            if not self.part:
                self._link(PART + self.nonce)
                self.part = PART + self.nonce
            os.rename(self.part, self.place.name, src_dir_fd=self.place.folder, dst_dir_fd=self.place.folder)
            self.part = b""
        return describe(self.place.path, os.fstat(self.fd))

    def _link(self, name: bytes) -> None:
        folder = self.place.folder
        if self.part:
            os.link(self.part, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        else:
            os.link(b"/proc/self/fd/%d" % self.fd, name, dst_dir_fd=folder, follow_symlinks=True)

    def _now(self) -> Optional[tuple[int, ...]]:
        """What the name means at this moment, to see whether it changed."""
        try:
            return _version(os.stat(self.place.name, dir_fd=self.place.folder, follow_symlinks=False))
        except FileNotFoundError:
            return None

    def _compare(self) -> Slices:
        digest = _sha256()
        status = self.place.status = os.stat(self.place.name, dir_fd=self.place.folder, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("changed")
        fd, _ = _open_regular(self.place)
        try:
            while True:
                piece = os.read(fd, CHUNK)
                if not piece:
                    break
                digest.update(piece)
                yield
        finally:
            os.close(fd)
        if digest.hexdigest().encode() != self.base:
            raise Refused("changed")
        return ()

    def close(self) -> None:
        """Also when it was broken off: then what was written goes and the file stays as it was."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            if self.part:
                try:
                    os.unlink(self.part, dir_fd=self.place.folder)
                except OSError:
                    pass
        self.place.close()


def _sha256() -> Any:
    # hashlib loads OpenSSL, which a minimal Python lacks and which costs milliseconds.
    for name in ("_sha2", "_sha256", "hashlib"):
        try:
            return __import__(name).sha256()
        except ImportError:
            continue
    raise Refused("io")


def remove(workspace: Workspace, fields: Sequence[bytes]) -> list[bytes]:
    """Fields: path. One entry that is no folder."""
    with locate(workspace, fields[0], follow=False, follow_last=False) as place:
        if place.status is None:
            raise Refused("absent")
        if not place.name:
            raise Refused("root")
        if stat.S_ISDIR(place.status.st_mode):
            raise Refused("folder")
        os.unlink(place.name, dir_fd=place.folder)
    return [whole(1)]
