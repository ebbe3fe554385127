"""The rules about files: which paths are blocked, and what may be done to the rest."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import lru_cache

from mcp_spaces.core.facts import Access, FileFacts
from mcp_spaces.core.policy.model import Files, FilesAccess
from mcp_spaces.core.policy.verdict import ALLOWED, Decision, Deny


def blocking_pattern(path: str, patterns: Iterable[str]) -> str | None:
    """The first pattern that blocks `path`, at any depth of it, whatever the case of its letters.

    `*.env` matches a file or folder of any such name, and all below it; `.git/hooks/` matches a folder by its
    last parts; `.*` means dotfiles, and never `.` or `..`.
    """
    wanted = tuple(patterns)
    lowered = path.lower()
    shapes = {_shape(lowered), _shape(posixpath.normpath(lowered))} if ".." in lowered else {_shape(lowered)}
    if not any(_matcher(wanted).search(shape) for shape in shapes):
        return None
    return next(pattern for pattern in wanted if any(_matcher((pattern,)).search(shape) for shape in shapes))


def _shape(path: str) -> str:
    return "/" + "".join(f"{part}/" for part in path.split("/") if part not in ("", ".", ".."))


@lru_cache(maxsize=256)
def _matcher(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for all patterns: a command line may name thousands of paths. Of no patterns: nothing."""
    parts = [
        re.escape(pattern.lower().strip("/")).replace(r"\*", "[^/]*").replace(r"\?", "[^/]") for pattern in patterns
    ]
    return re.compile(f"/(?:{'|'.join(parts)})/" if parts else r"(?!)")


def paths_in(argument: str) -> Iterator[str]:
    """What an argument may name: itself, and the parts of `--file=x`, `@x`, `HEAD:x`, `-fx`."""
    yield argument
    if argument.startswith("-") and not argument.startswith("--"):
        yield argument[2:]
    for mark in "=:@,":
        if mark in argument:
            yield from argument.replace("=", ":").replace("@", ":").replace(",", ":").split(":")
            return


_MAX_GLOB_CHARS = 255
_CLASS = re.compile(r"\[[!^]?\]?[^\]]*\]")


@lru_cache(maxsize=64)
def _examples(patterns: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Names that each pattern blocks, to try a shell's own pattern on."""
    return tuple(
        (pattern, example)
        for pattern in patterns
        if "/" not in pattern
        for example in {pattern.replace("*", ""), pattern.replace("*", "x")}
    )


def blocked_by_glob(glob: str, patterns: tuple[str, ...]) -> str | None:
    """Does a shell pattern like `.e*` or `prod.k?y` reach for a blocked name? `*` alone reaches for everything: no.

    One that ends in `*` (`test*`) may always match more than is meant: only the shortest blocked names are tried on it.
    """
    last = glob.lower().rstrip("/").rpartition("/")[2]
    if not any(char.isalnum() for char in last):
        return None
    if len(last) > _MAX_GLOB_CHARS:
        return next(iter(patterns), None)
    if last.endswith("*"):
        return next((pattern for pattern, example in _examples(patterns) if fnmatchcase(example, last)), None)
    return next((pattern for pattern in patterns if "/" not in pattern and globs_meet(last, pattern.lower())), None)


def globs_meet(one: str, other: str) -> bool:
    """Is there a name that both patterns match? A class in brackets counts as any character."""
    ours, theirs = (_CLASS.sub("?", pattern) for pattern in (one, other))
    # reached[j]: what came of `ours` so far and the first j characters of `theirs` have a name in common.
    reached = [True] + [False] * len(theirs)
    for at, char in enumerate(theirs):
        reached[at + 1] = reached[at] and char == "*"
    for our in ours:
        before, reached = reached, [reached[0] and our == "*"] + [False] * len(theirs)
        for at, their in enumerate(theirs):
            if our == "*" or their == "*":
                reached[at + 1] = before[at + 1] or reached[at] or before[at]
            else:
                reached[at + 1] = before[at] and (our == their or "?" in (our, their))
    return reached[-1]


def decide_file(files: Files, facts: FileFacts) -> Decision:
    if pattern := blocking_pattern(facts.path, files.blocked_paths):
        return Deny(
            "files.blocked_paths",
            f"The path matches the blocked pattern {pattern}.",
            "Work with another file, or ask the operator to unblock this one; keep secrets in the vault.",
        )
    refusal = decide_access(files, reads=facts.access is Access.READ)
    if refusal is not ALLOWED:
        return refusal
    if facts.size_bytes is not None and facts.size_bytes > files.max_file_bytes:
        return Deny(
            "files.max_file_bytes",
            f"The file has {facts.size_bytes:,} bytes; the policy allows {files.max_file_bytes:,}.",
            "Read a range of it, or split it into smaller files.",
        )
    return ALLOWED


def decide_access(files: Files, *, reads: bool) -> Decision:
    if files.access is FilesAccess.READ_WRITE or reads and files.access is FilesAccess.READ:
        return ALLOWED
    what = "read" if reads else "changed"
    return Deny(
        "files.access",
        f"Files may not be {what}: access is {files.access}.",
        "Work with what you may read, or ask for a space with a wider policy.",
    )
