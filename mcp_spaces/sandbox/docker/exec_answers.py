"""What the scripts of `exec_scripts.py` answer, as the port has it. A sandbox may say anything: what makes no sense is
RuntimeUnavailable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.path_order import Order, by_name, own_work_first
from mcp_spaces.sandbox.port import WORKSPACE, FileContent, FileKind, FileStat, Listing, SandboxUsage, SearchMatch

KINDS = {"f": FileKind.FILE, "d": FileKind.DIRECTORY, "l": FileKind.LINK}
LONG_KINDS = {
    "regular file": FileKind.FILE,
    "regular empty file": FileKind.FILE,
    "directory": FileKind.DIRECTORY,
    "symbolic link": FileKind.LINK,
}
LINE_BYTES = 1000


def content_of(answer: bytes, *, offset: int, limit: int) -> FileContent:
    size, _, rest = answer.partition(b"\n")
    version, _, rest = rest.partition(b"\n")
    real, _, content = rest.partition(b"\0")
    return FileContent(
        content=content[:limit],
        offset=offset,
        size_bytes=number(size),
        resolved_path=_shown(_text(real)),
        version=_text(version),
    )


@dataclass(frozen=True, slots=True)
class Searched:
    """`matches` by path and line, one's own work first; `too_large`: paths of texts that were not searched."""

    matches: list[SearchMatch]
    too_large: list[str]


def searched_of(answer: bytes) -> Searched:
    found, too_large, rest = [], [], answer
    # Not line by line: a name may hold the end of one.
    while rest:
        name, zero, rest = rest.partition(b"\0")
        line, _, rest = rest.partition(b"\n")
        at, colon, text = line.partition(b":")
        if not zero:
            raise _nonsense()
        path = _shown(_text(name))
        if colon:
            found.append(SearchMatch(path, number(at), _text(text[:LINE_BYTES])))
        elif number(at):
            # How many of its lines match: of what is no text none do.
            too_large.append(path)
    found.sort(key=lambda match: (own_work_first(match.path), match.line))
    return Searched(found, too_large)


def number(said: bytes) -> int:
    stripped = said.strip()
    if not stripped.isdigit() or len(stripped) > 18:
        raise _nonsense()
    return int(stripped)


def usage_of(answer: bytes) -> SandboxUsage:
    said = answer.split()
    if len(said) != 3:
        # A command of the script found no process to run in.
        raise _nonsense()
    memory, disk, pids = map(number, said)
    return SandboxUsage(memory_bytes=memory, disk_bytes=disk, pids=pids)


def kills_of(answer: bytes) -> int:
    """How often the kernel killed something there for want of memory; 0 where it does not say."""
    for line in answer.splitlines():
        name, _, count = line.partition(b" ")
        if name == b"oom_kill":
            return number(count)
    return 0


def described(answer: bytes) -> FileStat:
    name, kind, size, modified, mode = _split(_text(answer).removesuffix("\n"))
    return _entry(name, LONG_KINDS.get(kind, FileKind.OTHER), size, modified, mode)


def entries(answer: bytes) -> list[FileStat]:
    found = []
    for record in _text(answer).split("\0")[:-1]:
        name, kind, size, modified, mode = _split(record)
        found.append(_entry(name, KINDS.get(kind, FileKind.OTHER), size, modified, mode))
    return found


def listing(found: list[FileStat], limit: int, *, order: Order = by_name) -> Listing:
    found.sort(key=lambda entry: order(entry.path))
    return Listing(entries=tuple(found[:limit]), truncated=len(found) > limit)


def _split(record: str) -> list[str]:
    # From the right: a name may hold the separator.
    parts = record.rsplit("|", 4)
    if len(parts) != 5:
        raise _nonsense()
    return parts


def _entry(name: str, kind: FileKind, size: str, modified: str, mode: str) -> FileStat:
    try:
        executable = kind is FileKind.FILE and bool(int(mode, 8) & 0o111)
        modified_at = float(modified)
    except ValueError:
        raise _nonsense() from None
    if not math.isfinite(modified_at):
        raise _nonsense()
    return FileStat(_shown(name), kind, number(size.encode()), modified_at, executable)


def _nonsense() -> RuntimeUnavailable:
    return RuntimeUnavailable("The sandbox answered nonsense.", hint="Start it again.")


def _shown(absolute: str) -> str:
    return absolute.removeprefix(WORKSPACE).lstrip("/") or "."


def _text(said: bytes) -> str:
    return said.decode("utf-8", "backslashreplace")
