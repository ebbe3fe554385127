"""Matching paths against globs in time that no pattern and no name can blow up."""

from __future__ import annotations


def matches(pattern: str, path: str) -> bool:
    """`*`, `?` and `[…]` stay within a name, `**` as a whole name crosses folders."""
    names = path.split("/")
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    # reached[i]: the first i names are matched by the parts so far.
    reached = [True] + [False] * len(names)
    for index, part in enumerate(parts):
        if part == "**":
            first = reached.index(True) if True in reached else len(reached)
            # As the last part it wants at least one name.
            last = index == len(parts) - 1
            reached = [at > first or (at == first and not last) for at in range(len(reached))]
        else:
            reached = [False] + [reached[at] and _name(part, names[at]) for at in range(len(names))]
    return reached[-1]


def _name(pattern: str, name: str) -> bool:
    """Two pointers; only the last star is ever tried again."""
    at = place = 0
    star, resume = -1, 0
    while place < len(name):
        length, fits = _one(pattern, at, name[place]) if at < len(pattern) else (0, False)
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, place
            at += 1
        elif fits:
            at += length
            place += 1
        elif star >= 0:
            at = star + 1
            resume += 1
            place = resume
        else:
            return False
    return not pattern[at:].strip("*")


def _one(pattern: str, at: int, char: str) -> tuple[int, bool]:
    """How long the pattern's next piece is, and whether it stands for `char`."""
    if pattern[at] == "?":
        return 1, True
    end = pattern.find("]", at + 2) if pattern[at] == "[" else -1
    if end < 0:
        return 1, pattern[at] == char
    body = pattern[at + 1 : end]
    negated = body[:1] in ("!", "^")
    body = body[1:] if negated else body
    found, index = False, 0
    while index < len(body):
        if body[index + 1 : index + 2] == "-" and index + 2 < len(body):
            found |= body[index] <= char <= body[index + 2]
            index += 3
        else:
            found |= body[index] == char
            index += 1
    return end - at + 1, found != negated
