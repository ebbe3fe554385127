"""What walks whole trees: list, glob, search, recursive delete. Runs in a process of its own that can be killed,
since a tree may be huge and a pattern may backtrack for ever. Each function reports entries and returns the result."""

from __future__ import annotations

import os
import stat

from mcp_spaces.sandbox.agent.files import PART, READ, describe
from mcp_spaces.sandbox.agent.globs import glob_matcher
from mcp_spaces.sandbox.agent.paths import Refused, Workspace, locate
from mcp_spaces.sandbox.agent.wire import number, pack, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator, Sequence

    Report = Callable[[bytes], None]

MAX_SEARCHED_BYTES = 10 << 20
HEAD_BYTES = 32 << 10
"""Of a larger file, to see whether it is text at all."""
MAX_TEXT_BYTES = 1000
MAX_DEPTH = 100
MAX_PATH_BYTES = 4096
"""What is called more cannot be asked for, and an answer has no room for many of them: it is passed over."""
OTHERS_WORK = frozenset({b"node_modules", b"venv", b"__pycache__"})
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def list_tree(workspace: Workspace, fields: Sequence[bytes], report: Report) -> list[bytes]:
    """Fields: path, depth, limit."""
    depth, limit = number(fields, 1), number(fields, 2)
    found = 0
    with locate(workspace, fields[0], follow=True, follow_last=True) as place:
        if place.status is None:
            raise Refused("absent")
        if not stat.S_ISDIR(place.status.st_mode):
            raise Refused("not_folder")
        base = place.enter_last()
        for path, status in _tree(place.folder, base, depth, limit + 1):
            if found == limit:
                return [whole(1)]
            report(pack(describe(path, status)))
            found += 1
    return [whole(0)]


def glob_tree(workspace: Workspace, fields: Sequence[bytes], report: Report) -> list[bytes]:
    """Fields: pattern, limit."""
    matches = glob_matcher(fields[0])
    limit, found = number(fields, 1), 0
    for path, status in _tree(workspace.fd, b"", MAX_DEPTH, 0, own_work_first=True):
        if stat.S_ISREG(status.st_mode) and matches(path):
            if found == limit:
                return [whole(1)]
            report(pack(describe(path, status)))
            found += 1
    return [whole(0)]


def search_tree(workspace: Workspace, fields: Sequence[bytes], report: Report) -> list[bytes]:
    """Fields: expression, path, glob (or empty), limit. Reports path, line number, text. Returns whether it was cut,
    and how many texts were too large to be searched."""
    import re

    try:
        expression = re.compile(fields[0])
    except (re.error, OverflowError, RecursionError, ValueError):
        # ValueError: flags that exclude each other.
        raise Refused("expression") from None
    matches = glob_matcher(fields[2]) if fields[2] else None
    limit, found, too_large = number(fields, 3), 0, 0
    for path, folder, name in _searched(workspace, fields[1]):
        if matches is not None and not matches(path):
            continue
        content = _content(folder, name)
        if content is None:
            too_large += 1
            continue
        for line, text in _lines(content, expression):
            if found == limit:
                return [whole(1), whole(too_large)]
            report(pack([path, whole(line), text[:MAX_TEXT_BYTES]]))
            found += 1
    return [whole(0), whole(too_large)]


def _searched(workspace: Workspace, path: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    with locate(workspace, path, follow=True, follow_last=True) as place:
        if place.status is None:
            raise Refused("absent")
        if stat.S_ISREG(place.status.st_mode):
            # Who names a file hears that it may not be read.
            os.close(os.open(place.name, READ, dir_fd=place.folder))
            yield place.path, place.folder, place.name
            return
        if not stat.S_ISDIR(place.status.st_mode):
            raise Refused("not_regular")
        base = place.enter_last()
        prefix = len(base) + 1 if base else 0
        for found, status in _tree(place.folder, base, MAX_DEPTH, 0, own_work_first=True):
            if stat.S_ISREG(status.st_mode):
                try:
                    inner = locate(workspace.below(place.folder), found[prefix:], follow=False, follow_last=False)
                except (OSError, Refused):
                    continue
                with inner:
                    yield found, inner.folder, inner.name


def _content(folder: int, name: bytes) -> bytes | None:
    """Nothing of what cannot be read, or is no text; None of a text that is too large to be searched."""
    try:
        fd = os.open(name, READ, dir_fd=folder)
    except OSError:
        return b""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        return b""
    most = MAX_SEARCHED_BYTES if status.st_size <= MAX_SEARCHED_BYTES else HEAD_BYTES
    with open(fd, "rb", buffering=0) as file:
        content = file.read(most + 1) or b""
    if b"\0" in content:
        return b""
    return None if len(content) > most else content


def _lines(content: bytes, expression: re.Pattern[bytes]) -> Iterator[tuple[int, bytes]]:
    find = expression.search
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for at, text in enumerate(lines, 1):
        if find(text):
            yield at, text


def is_others_work(name: bytes) -> bool:
    """Of a folder: what tools and package managers keep there, and nobody means who looks for a file of theirs."""
    return name.startswith(b".") or name in OTHERS_WORK


def _tree(
    fd: int, base: bytes, depth: int, keep: int, *, own_work_first: bool = False
) -> Iterator[tuple[bytes, os.stat_result]]:
    """Everything below an open folder, a folder before its content, in the order of names. `keep` bounds how many
    names of one folder are held (0: no bound); what changes or vanishes meanwhile is passed over, and what may not be
    read. Raises OSError where that is the first folder.

    `own_work_first`: other folders come after all else beside them, and `.git` not at all."""
    # Opened anew: an O_PATH descriptor cannot be listed.
    here = os.open(b".", FOLDER, dir_fd=fd)
    try:
        yield from _entries(here, base, depth, keep, own_work_first=own_work_first)
    finally:
        os.close(here)


def _entries(
    here: int, base: bytes, depth: int, keep: int, *, own_work_first: bool
) -> Iterator[tuple[bytes, os.stat_result]]:
    for name in _names(here, keep, own_work_first=own_work_first):
        path = base + b"/" + name if base else name
        if (own_work_first and name == b".git") or len(path) > MAX_PATH_BYTES:
            continue
        try:
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
        except OSError:
            continue
        yield path, status
        if depth > 1 and stat.S_ISDIR(status.st_mode):
            yield from _below(here, name, path, depth - 1, keep, own_work_first=own_work_first)


def _below(
    here: int, name: bytes, path: bytes, depth: int, keep: int, *, own_work_first: bool
) -> Iterator[tuple[bytes, os.stat_result]]:
    try:
        fd = os.open(name, FOLDER, dir_fd=here)
    except OSError:
        return
    try:
        yield from _entries(fd, path, depth, keep, own_work_first=own_work_first)
    finally:
        os.close(fd)


def _names(fd: int, keep: int, *, own_work_first: bool) -> list[bytes]:
    names: list[bytes] = []
    others: list[bytes] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            if name.startswith(PART):
                continue
            is_others = own_work_first and is_others_work(name) and entry.is_dir(follow_symlinks=False)
            (others if is_others else names).append(name)
            if keep and len(names) > 2 * keep + 1000:
                names.sort()
                del names[keep:]
    return sorted(names) + sorted(others)


def remove_tree(workspace: Workspace, fields: Sequence[bytes], report: Report) -> list[bytes]:
    """Fields: path. Counts entries. Links are removed, never followed."""
    with locate(workspace, fields[0], follow=False, follow_last=False) as place:
        if place.status is None:
            raise Refused("absent")
        if not place.name:
            raise Refused("root")
        if not stat.S_ISDIR(place.status.st_mode):
            os.unlink(place.name, dir_fd=place.folder)
            return [whole(1)]
        top = _open_folder(place.folder, place.name)
        try:
            removed = _empty(top)
        finally:
            os.close(top)
        os.rmdir(place.name, dir_fd=place.folder)
    return [whole(removed + 1)]


def _open_folder(parent: int, name: bytes) -> int:
    try:
        return os.open(name, FOLDER, dir_fd=parent)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        return os.open(name, FOLDER, dir_fd=parent)


def _empty(top: int) -> int:
    """Remove what is in a folder. Folders further down are first moved up into it, so that a chain of ten thousand
    folders needs neither ten thousand descriptors nor a deep stack. What somebody else removes meanwhile is gone."""
    removed = moved = 0
    os.fchmod(top, 0o700)
    while True:
        names = _all_names(top)
        if not names:
            return removed
        for name in names:
            fd = -1
            try:
                if not _is_folder(name, top):
                    os.unlink(name, dir_fd=top)
                    removed += 1
                    continue
                fd = _open_folder(top, name)
                os.fchmod(fd, 0o700)
                for inner in _all_names(fd):
                    if _is_folder(inner, fd):
                        moved += 1
                        _move(inner, fd, PART + b"%d.%d" % (os.getpid(), moved), top)
                    else:
                        os.unlink(inner, dir_fd=fd)
                        removed += 1
                os.rmdir(name, dir_fd=top)
                removed += 1
            except FileNotFoundError:
                continue
            finally:
                if fd >= 0:
                    os.close(fd)


def _all_names(fd: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(fd)]


def _is_folder(name: bytes, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _move(folder: bytes, parent: int, name: bytes, new_parent: int) -> None:
    try:
        os.rename(folder, name, src_dir_fd=parent, dst_dir_fd=new_parent)
    except PermissionError:
        # A folder that changes its parent has to be writable itself.
        os.chmod(folder, 0o700, dir_fd=parent)
        os.rename(folder, name, src_dir_fd=parent, dst_dir_fd=new_parent)
