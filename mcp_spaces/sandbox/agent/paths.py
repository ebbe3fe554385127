"""Paths inside the workspace, walked folder by folder so that no link leads out, however the tree changes meanwhile."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

MAX_LINKS = 40
MAX_DEPTH = 200
# Every step opens the folder itself, never what a link in its place points to.
STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(Exception):
    """Why a file operation was not done, as a word of the table in the daemon's `refusals.py`."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Workspace:
    """The tree's root, opened once: nothing is ever looked up by an absolute name afterwards."""

    def __init__(self, root: str) -> None:
        self.root = os.fsencode(root)
        self.fd = os.open(root, STEP)
        self.device = os.fstat(self.fd).st_dev

    def below(self, fd: int) -> Workspace:
        """The same workspace, walked from an open folder in it."""
        below = object.__new__(Workspace)
        below.root, below.fd, below.device = self.root, fd, self.device
        return below


class Place:
    """Where a path leads: an open folder and a name in it; an empty name means the folder itself."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.fds = [os.dup(workspace.fd)]
        self.names: list[bytes] = []
        self.name = b""
        self.status: Optional[os.stat_result] = None

    @property
    def folder(self) -> int:
        return self.fds[-1]

    @property
    def path(self) -> bytes:
        """Relative to the workspace, links resolved; `.` for the workspace itself."""
        return b"/".join(self.names + ([self.name] if self.name else [])) or b"."

    def enter(self, name: bytes) -> None:
        """Raises OSError when the name is no folder (any more)."""
        fd = os.open(name, STEP, dir_fd=self.folder)
        if os.fstat(fd).st_dev != self.workspace.device:
            os.close(fd)
            raise Refused("outside")
        self.fds.append(fd)
        self.names.append(name)

    def enter_last(self) -> bytes:
        """Into the folder that the path leads to; returns that path, empty for the workspace itself. As `enter`."""
        if self.name:
            self.enter(self.name)
            self.name = b""
        return b"/".join(self.names)

    def leave(self) -> None:
        if not self.names:
            raise Refused("outside")
        self.names.pop()
        os.close(self.fds.pop())

    def restart(self) -> None:
        while self.names:
            self.leave()

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def locate(workspace: Workspace, path: bytes, *, follow: bool, follow_last: bool, make: bool = False) -> Place:
    """Walk to `path`. With `follow`, links on the way count if they stay inside; without it they are refused.

    The last name's status (of the link itself without `follow_last`) is in `status`, None when it does not exist.
    With `make`, missing folders on the way are made. Raises Refused, OSError.
    """
    place = Place(workspace)
    try:
        _walk(place, path, follow=follow, follow_last=follow_last, make=make)
    except BaseException:
        place.close()
        raise
    return place


def _walk(place: Place, path: bytes, *, follow: bool, follow_last: bool, make: bool) -> None:
    parts = _parts(path)
    links = 0
    while parts:
        part = parts.pop()
        if part == b"..":
            place.leave()
            continue
        if len(place.names) >= MAX_DEPTH:
            raise Refused("too_deep")
        last = not parts
        try:
            status = os.stat(part, dir_fd=place.folder, follow_symlinks=False)
        except FileNotFoundError:
            if last:
                place.name = part
                return
            if not make:
                raise Refused("absent") from None
            _make_folder(place, part)
            parts.append(part)
            continue
        if stat.S_ISLNK(status.st_mode) and (follow_last if last else True):
            if not follow:
                raise Refused("link")
            links += 1
            if links > MAX_LINKS:
                raise Refused("link_loop")
            parts.extend(_parts(_target(place, part)))
            continue
        if last:
            if status.st_dev != place.workspace.device:
                raise Refused("outside")
            place.name, place.status = part, status
            return
        if not stat.S_ISDIR(status.st_mode):
            raise Refused("not_folder")
        place.enter(part)
    place.status = os.fstat(place.folder)


def _parts(path: bytes) -> list[bytes]:
    """The names of a path, the first one at the end of the list."""
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]


def _target(place: Place, name: bytes) -> bytes:
    target = os.readlink(name, dir_fd=place.folder)
    if not target.startswith(b"/"):
        return target
    root = place.workspace.root
    if target != root and not target.startswith(root + b"/"):
        raise Refused("outside")
    place.restart()
    return target[len(root) :]


def _make_folder(place: Place, name: bytes) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=place.folder)
    except FileExistsError:
        pass
