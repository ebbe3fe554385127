"""`env`: the variables that it sets, the folder that it enters, and the command that it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mcp_spaces.core.policy.shell.dangers import Danger
from mcp_spaces.core.policy.shell.prefixes import Enters, Inner, RunsWords, Sets
from mcp_spaces.core.policy.shell.words import UNKNOWN, Word

_PLAIN = frozenset({"-i", "--ignore-environment", "-0", "--null", "-v", "--debug", "-"})
_VALUED = frozenset({"-u", "--unset", "-C", "--chdir", "-a", "--argv0"})


def env(arguments: Sequence[Word]) -> Iterator[Inner]:
    """What `env` does with these arguments."""
    place = 0
    while place < len(arguments):
        word = arguments[place]
        name, is_assignment, value = word.text.partition("=")
        if is_assignment and not word.text.startswith("-"):
            yield Sets(name, Word(value, word.literal, word.glob, word.splits))
            if not word.literal and word.splits:
                yield Danger.DYNAMIC_COMMAND
        elif not word.fixed:
            break
        elif word.text in _VALUED:
            if word.text in {"-C", "--chdir"} and place + 1 < len(arguments):
                yield Enters(arguments[place + 1])
            place += 1
        elif word.text.startswith(("-S", "--split-string", "-vS", "-iS")):
            attached = word.text.removeprefix("--split-string").lstrip("-viS").removeprefix("=")
            split, *rest = [*([Word(attached)] if attached else []), *arguments[place + 1 :]] or [UNKNOWN]
            # Quotes, escapes and comments are env's own there, not a shell's.
            if not split.fixed or re.search(r"[^\w@%+=:,./ -]", split.text):
                yield Danger.DYNAMIC_COMMAND
            else:
                yield from env([*map(Word, split.text.split()), *rest])
            return
        elif word.text == "--":
            place += 1
            break
        elif word.text.startswith("-") and word.text not in _PLAIN:
            if word.text.startswith(("-C", "--chdir=")):
                yield Enters(Word(word.text.removeprefix("-C").removeprefix("--chdir=")))
            elif not word.text.startswith(("-u", "--unset=")):
                yield Danger.DYNAMIC_COMMAND
                return
        elif word.text not in _PLAIN:
            break
        place += 1
    while place < len(arguments) and "=" in arguments[place].text and arguments[place].literal:
        name, _, value = arguments[place].text.partition("=")
        yield Sets(name, Word(value))
        place += 1
    if place < len(arguments):
        yield RunsWords(tuple(arguments[place:]))
