"""Programs that run a command for each of what they find or are given: find, fd, xargs, parallel, watch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mcp_spaces.core.policy.shell.dangers import Danger
from mcp_spaces.core.policy.shell.prefixes import (
    Enters,
    Inner,
    RunsWords,
    after_prefix,
    joined,
    prefix_of,
    text_of,
)
from mcp_spaces.core.policy.shell.words import UNKNOWN, Word

_FIND_EXECUTES = frozenset({"-exec", "-execdir", "-ok", "-okdir"})
_FIND_TAKES = frozenset(
    "-name -iname -path -ipath -wholename -iwholename -regex -iregex -newer -anewer -cnewer -samefile -lname -type -xtype"
    " -size -mtime -mmin -atime -amin -ctime -cmin -perm -user -group -maxdepth -mindepth -links -inum -fprint -fprintf"
    " -fprint0 -fls -printf -regextype -newermt".split()
)


_XARGS = prefix_of(
    "-a --arg-file -d --delimiter -E -L -n --max-args -P --max-procs -s --max-chars -R -S",
    "--max-lines -0 --null -r --no-run-if-empty -t --verbose -p --interactive -x --exit -o --open-tty",
)


def xargs(arguments: Sequence[Word]) -> Iterator[Inner]:
    """The words from standard input are appended, or put where the replaced text stands."""
    replaced: str | None = None
    rest: list[Word] = []
    place = 0
    while place < len(arguments):
        text = arguments[place].text
        if not arguments[place].literal or text[:1] != "-":
            break
        if text in {"-I", "-J"}:
            replaced = arguments[place + 1].text if place + 1 < len(arguments) else ""
            place += 2
        elif text == "--replace" or text.startswith(("-I", "-J", "-i", "--replace=")):
            replaced = (text[2:] if text[1] != "-" else text.partition("=")[2]) or "{}"
            place += 1
        elif text in _XARGS.valued:
            place += 2
        else:
            # Left to the common reading, which also refuses what it does not know.
            rest.append(arguments[place])
            place += 1
    for found in after_prefix([*rest, *arguments[place:]], _XARGS):
        if not isinstance(found, RunsWords):
            yield found
        elif replaced is None:
            yield RunsWords((*found.words, UNKNOWN))
        else:
            yield RunsWords(tuple(UNKNOWN if replaced in word.text else word for word in found.words))


def find(arguments: Sequence[Word]) -> Iterator[Inner]:
    """Whatever stands before an `-exec`: of some tests the version decides how many values they take."""
    in_expression = False
    for place, word in enumerate(arguments):
        in_expression = in_expression or word.literal and word.text[:1] in {"-", "(", "!"}
        is_value = place and arguments[place - 1].fixed and arguments[place - 1].text in _FIND_TAKES
        if word.fixed and word.text in _FIND_EXECUTES:
            end = next((at for at in range(place + 1, len(arguments)) if _ends_exec(arguments, at)), len(arguments))
            words = [UNKNOWN if "{}" in part.text else part for part in arguments[place + 1 : end]]
            yield RunsWords(tuple(words) or (UNKNOWN,))
        elif not word.literal and not is_value and (word.splits or in_expression):
            # It may become `-exec` and a command.
            yield Danger.DYNAMIC_COMMAND


def _ends_exec(arguments: Sequence[Word], place: int) -> bool:
    """A `+` ends only what `{}` stands right before."""
    return arguments[place].text == ";" or arguments[place].text == "+" and arguments[place - 1].text == "{}"


_FD_EXECUTES = re.compile(r"-[HIunsigaLlp0qFvh1]*[xX]")


def fd(arguments: Sequence[Word]) -> Iterator[Inner]:
    place = 0
    while place < len(arguments):
        word = arguments[place]
        place += 1
        if word.text in {"--exec", "--exec-batch"} or _FD_EXECUTES.fullmatch(word.text):
            words: list[Word] = []
            while place < len(arguments) and arguments[place].text != ";":
                part = arguments[place]
                words.append(UNKNOWN if "{" in part.text else part)
                place += 1
            yield RunsWords((*words, UNKNOWN) if words else (UNKNOWN,))
        elif word.text.startswith("--exec") or _FD_EXECUTES.match(word.text):
            yield Danger.DYNAMIC_COMMAND
        elif word.text.startswith("--base-directory"):
            value = word.text.partition("=")[2]
            yield Enters(Word(value) if value else arguments[place] if place < len(arguments) else UNKNOWN)


def repeated(name: str, arguments: Sequence[Word]) -> Iterator[Inner]:
    """watch and parallel give their words, joined, to a shell."""
    place = 0
    while place < len(arguments) and arguments[place].text.startswith("-") and arguments[place].fixed:
        place += 2 if arguments[place].text in {"-n", "-j", "--interval", "--jobs", "-q"} else 1
    words = list(arguments[place:])
    sources = [at for at, word in enumerate(words) if word.text.startswith(":::")]
    if name == "watch" and words:
        yield joined(words)
    elif sources and sources[0] == 0:
        for word in words[1:]:
            yield from text_of(word)
    elif words:
        command = words[: sources[0]] if sources else words
        yield Danger.DYNAMIC_COMMAND if any("{" in word.text for word in command[:1]) else joined(command)
        yield RunsWords((*command, UNKNOWN))
    elif name == "parallel":
        yield Danger.DYNAMIC_COMMAND
