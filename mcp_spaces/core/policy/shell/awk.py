"""Does an awk program run others? A pipe, `system`, an indirect call or an extension does; a `|` in a text or pattern not.

What is not understood counts as yes; what only a variable knows, as in `awk "/$pattern/"`, is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mcp_spaces.core.policy.shell.words import Word

MAX_PROGRAM_CHARS = 4_096
"""A longer one is not read: it counts as one that executes."""

_BLANK = re.compile(r"(?:[ \t\r]|\\\r?\n|#[^\n]*)+")
_STRING = re.compile(r'"(?:\\.|[^"\\\n])*"', re.DOTALL)
_PATTERN = re.compile(r"/(?:\\.|[^/\\\n])*/")
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NUMBER = re.compile(r"\.?\d[\d.]*", re.ASCII)
_SIGN = re.compile(r"\|\||\+\+|--")
# A `/` after one of them begins a pattern; after any other name it divides.
_BEFORE_PATTERN = frozenset("print printf return else do case delete exit BEGIN END BEGINFILE ENDFILE in".split())
_BEFORE_CONDITION = frozenset({"if", "while", "for", "switch"})
# A bracket expression that begins with its own end, in which some awks let a `/` stand.
_ODD_BRACKETS = re.compile(r"\[\^?\]")

_VALUED = frozenset({"-F", "-v", "--field-separator", "--assign"})
_FILES = frozenset({"-f", "--file", "-E", "--exec"})
_PROGRAMS = frozenset({"-e", "--source"})
_FLAGS = re.compile(r"-[bcPrsStOnNMh]+\Z|--(?:posix|traditional|re-interval|sandbox|bignum|characters-as-bytes|csv)\Z")


def executes(arguments: Sequence[Word]) -> bool:
    return any(_executes(word.text, whole=word.literal) for word in _programs(arguments))


def _programs(arguments: Sequence[Word]) -> Iterator[Word]:
    from_elsewhere = False
    place = 0
    while place < len(arguments):
        word = arguments[place]
        text = word.text
        place += 1
        if text == "--" or text == "-" or not text.startswith("-"):
            if not from_elsewhere:
                yield from arguments[place - (text != "--") :][:1]
            return
        short = text[:2]
        option, has_value, value = text.partition("=") if text.startswith("--") else (short, text[2:], text[2:])
        if option in _VALUED | _FILES | _PROGRAMS:
            from_elsewhere = from_elsewhere or option not in _VALUED
            if option in _PROGRAMS:
                yield Word(value, word.literal) if has_value else arguments[place] if place < len(arguments) else word
            place += not has_value
        elif not _FLAGS.match(text):
            # It may have a value, or load what runs: then any word may be the program.
            yield Word("@")
            return


def _executes(program: str, *, whole: bool) -> bool:
    """`whole`: otherwise the program goes on with what is only known when it runs."""
    if len(program) > MAX_PROGRAM_CHARS:
        return True
    brackets: list[bool] = []
    before = "\n"
    at = 0
    while at < len(program):
        if blank := _BLANK.match(program, at):
            at = blank.end()
            continue
        if program[at] == '"' or program[at] == "/" and _pattern_begins(before):
            literal = (_STRING if program[at] == '"' else _PATTERN).match(program, at)
            if literal is None:
                return whole
            if program[at] == "/" and _open_brackets(literal.group()):
                return True
            before, at = '"', literal.end()
            continue
        if program[at] == "/" and before in {"getline", "if)"}:
            return True
        found = _NAME.match(program, at) or _NUMBER.match(program, at) or _SIGN.match(program, at)
        part = found.group() if found else program[at]
        at += len(part)
        if part in {"|", "@", "system"}:
            return True
        if part == "(":
            brackets.append(before in _BEFORE_CONDITION)
        before = "if)" if part == ")" and brackets and brackets.pop() else part
    return False


def _pattern_begins(before: str) -> bool:
    if _NAME.match(before):
        return before in _BEFORE_PATTERN
    return before not in {'"', ")", "]", "if)", "++", "--", "$"} and not _NUMBER.match(before)


def _open_brackets(pattern: str) -> bool:
    plain = re.sub(r"\\.", "", pattern)
    return plain.rfind("[") > plain.rfind("]") or _ODD_BRACKETS.search(plain) is not None
