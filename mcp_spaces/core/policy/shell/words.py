"""One word of shell syntax, unquoted the way bash does it.

Written apart from the grammar on purpose: where the two disagree about a byte, the script is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


class Unparsable(Exception):
    """The script can be read in more than one way, or in none. The text says which part."""


@dataclass(frozen=True, slots=True)
class Word:
    """What is known of a word before it is expanded.

    `text` is the unquoted text; where `literal` is False, only the part before the first expansion.
    `glob`: holds an unquoted pattern, which stays in `text`. `splits`: may become several words, or none.
    """

    text: str
    literal: bool = True
    glob: bool = False
    splits: bool = False

    @property
    def fixed(self) -> bool:
        """Exactly this text, and nothing else, reaches the program."""
        return self.literal and not self.glob


UNKNOWN = Word("", literal=False, splits=True)

_SIMPLE = re.compile(r"(?:[\w@%+=:,./^-]+|\[)\Z", re.ASCII)
_EXPANDS = re.compile(r"\$(?:\\\n|[\w@*#?$!({\[-])", re.ASCII)
_ANSI = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "v": "\v"}
_ANSI_CODE = re.compile(r"([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})")
_BETWEEN_WORDS = frozenset(" \t\n;|&()<>")


def unquote(source: str) -> Word:
    """One word's source text as a Word.

    Raises:
        Unparsable: the text holds what would end a word, or a quote that does not close.
    """
    # By far the most words; `=~`-like tildes and braces are not in the class. A lone `[` is a command, no pattern.
    if _SIMPLE.match(source):
        return Word(source)
    text: list[str] = []
    glob = braces = False
    at = 0
    while at < len(source):
        char = source[at]
        if char == "'":
            end = source.find("'", at + 1)
            if end < 0:
                raise Unparsable("a quote does not close")
            text.append(source[at + 1 : end])
            at = end + 1
        elif char == '"' or source.startswith('$"', at):
            at += 1 if char == '"' else 2
            inside, at, known = _double_quoted(source, at)
            text.append(inside)
            if not known:
                return _expanded(source, text)
        elif source.startswith("$'", at):
            inside, at = _ansi_quoted(source, at + 2)
            text.append(inside)
        elif char == "`" or _EXPANDS.match(source, at) or source.startswith(("<(", ">("), at):
            return _expanded(source, text)
        elif char == "\\":
            if at + 1 >= len(source):
                raise Unparsable("a backslash ends the script")
            if source[at + 1] != "\n":
                text.append(source[at + 1])
            at += 2
        elif char in _BETWEEN_WORDS:
            raise Unparsable(f"{char!r} stands inside a word")
        else:
            glob = glob or char in "*?["
            braces = braces or char == "{"
            if braces and (char == "," or source.startswith("..", at)):
                return Word("".join(text).split("{")[0], literal=False, glob=glob, splits=True)
            text.append(char)
            at += 1
    return Word("".join(text), literal=not source.startswith("~"), glob=glob, splits=glob)


def _expanded(source: str, text: list[str]) -> Word:
    quoted = source.startswith('"') and source.endswith('"') and '"' not in source[1:-1] and "@" not in source
    return Word("".join(text), literal=False, splits=not quoted)


def _double_quoted(source: str, at: int) -> tuple[str, int, bool]:
    """The text up to the closing quote, the place after it, and whether nothing in it is expanded."""
    text: list[str] = []
    while at < len(source):
        char = source[at]
        if char == '"':
            return "".join(text), at + 1, True
        if char == "`" or _EXPANDS.match(source, at):
            return "".join(text), at, False
        if char == "\\" and at + 1 < len(source) and source[at + 1] in '$`"\\\n':
            if source[at + 1] != "\n":
                text.append(source[at + 1])
            at += 2
            continue
        text.append(char)
        at += 1
    raise Unparsable("a quote does not close")


def _ansi_quoted(source: str, at: int) -> tuple[str, int]:
    r"""The text of $'…', with \n, \x73, \163, \u0073 and the like decoded, and the place after it."""
    text: list[str] = []
    while at < len(source):
        char = source[at]
        if char == "'":
            return "".join(text), at + 1
        if char != "\\":
            text.append(char)
            at += 1
            continue
        if code := _ANSI_CODE.match(source, at + 1):
            octal, *hexadecimal = code.groups()
            number = int(octal, 8) & 0xFF if octal else int(next(digits for digits in hexadecimal if digits), 16)
            if number == 0 or number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
                raise Unparsable("an escape stands for no character")
            text.append(chr(number))
            at = code.end()
        elif source.startswith("c", at + 1) or at + 1 >= len(source):
            raise Unparsable("a control escape")
        else:
            text.append(
                _ANSI.get(source[at + 1], source[at + 1] if source[at + 1] in "\\'\"?" else source[at : at + 2])
            )
            at += 2
    raise Unparsable("a quote does not close")
