"""Does a sed script run programs? GNU sed's `e` command and flag do, and hide among addresses, labels and texts.

What is not understood counts as yes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

MAX_PROGRAM_CHARS = 4_096
"""A longer one is not read: it counts as one that executes."""

_BETWEEN = re.compile(r"[\s;]*")
_NUMBERS = re.compile(r"(?:\d+(?:~\d+)?|\$|[+~]\d+)")
_MARKS = re.compile(r"\s*[,!]?\s*")
_TEXT = re.compile(r"(?:\\.|[^\n\\])*", re.DOTALL)
_LINE = re.compile(r"[^\n]*")
_LABEL = re.compile(r"\s*[^\n;}\s]*")
_ARGUMENT = re.compile(r"[ \t]*\d*")
_REGEX_FLAGS = re.compile(r"[IM]*")
_FLAGS = re.compile(r"[gpiImM0-9]*")


def scripts_of(texts: Sequence[str]) -> Iterator[str]:
    """The scripts among sed's arguments: those of -e, joined as sed does it, or else the first that is no option."""
    given: list[str] = []
    operands: list[str] = []
    from_file = False
    place = 0
    while place < len(texts):
        text = texts[place]
        following = texts[place + 1] if place + 1 < len(texts) else ""
        place += 1
        if text == "--":
            operands += texts[place:]
            break
        if text.startswith("--"):
            name, has_value, value = text.partition("=")
            if len(name) > 2 and "--expression".startswith(name):
                given.append(value if has_value else following)
                place += not has_value
            elif len(name) > 3 and "--file".startswith(name):
                from_file = True
                place += not has_value
            elif len(name) > 4 and "--line-length".startswith(name):
                place += not has_value
        elif text.startswith("-") and text != "-":
            letters = re.match(r"-[nrEszu]*", text)
            at = letters.end() if letters else 1
            letter, value = text[at : at + 1], text[at + 1 :]
            if letter == "e":
                given.append(value or following)
            from_file = from_file or letter == "f"
            place += letter in {"e", "f", "l"} and not value
        else:
            operands.append(text)
    if given:
        yield "\n".join(given)
    elif not from_file:
        yield from operands[:1]


def executes(script: str) -> bool:
    """Is there an `e` in it, as a command or as a flag of `s`?"""
    return len(script) > MAX_PROGRAM_CHARS or _executes(script)


def _executes(script: str) -> bool:
    at = 0
    while True:
        at = _end(_BETWEEN, script, at)
        if at >= len(script):
            return False
        at = _after_addresses(script, at)
        command, at = script[at : at + 1], at + 1
        if command in "{}=dDgGhHnNpPxzF":
            continue
        if command == "s":
            at = _after_parts(script, at)
            at = _end(_FLAGS, script, at)
            if script[at : at + 1] == "e":
                return True
            if script[at : at + 1] == "w":
                at = _end(_LINE, script, at)
        elif command == "y":
            at = _after_parts(script, at)
        elif command in "aic":
            at = _end(_TEXT, script, at)
        elif command in "rRwW#":
            at = _end(_LINE, script, at)
        elif command in ":btTv":
            at = _end(_LABEL, script, at)
        elif command in "qQlL":
            at = _end(_ARGUMENT, script, at)
        else:
            return True


def _end(pattern: re.Pattern[str], script: str, at: int) -> int:
    found = pattern.match(script, at)
    return found.end() if found else at


def _after_addresses(script: str, at: int) -> int:
    for _ in range(4):
        if script[at : at + 1] in {"/", "\\"}:
            at += script[at] == "\\"
            at = _after_delimited(script, at + 1, script[at : at + 1])
            at = _end(_REGEX_FLAGS, script, at)
        else:
            at = _end(_NUMBERS, script, at)
        at = _end(_MARKS, script, at)
    return at


def _after_parts(script: str, at: int) -> int:
    delimiter = script[at : at + 1]
    return _after_delimited(script, _after_delimited(script, at + 1, delimiter), delimiter)


def _after_delimited(script: str, at: int, delimiter: str) -> int:
    while at < len(script) and script[at] != delimiter:
        at += 2 if script[at] == "\\" else 1
    return at + 1
