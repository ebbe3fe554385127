"""Commands that need no shell: a program and words that mean themselves. Started as such, they save bash its own start,
which takes longer than many of them. GNU make tells plain commands apart in the same way.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[A-Za-z0-9_./+-]+(?: +[A-Za-z0-9_./+,:@%=-]+)*")
"""Nothing that bash expands, quotes, redirects or assigns (a `=` in the first word), and no character beyond ASCII."""

_OF_THE_SHELL = frozenset(
    ". [ alias bg bind break builtin caller case cd command compgen complete compopt continue coproc declare dirs disown"
    " do done echo elif else enable esac eval exec exit export fc fg fi for function getopts hash help history if in"
    " jobs kill let local logout mapfile popd printf pushd pwd read readarray readonly return select set shift shopt"
    " source suspend test then time times trap type typeset ulimit umask unalias unset until wait while".split()
)
"""Builtins and keywords of bash 5.2 (`compgen -bk`), but for `true` and `false`: the programs do just that."""


def plain_words(command: str) -> tuple[str, ...] | None:
    """The words of a command that bash would start as they stand; None for all others."""
    if not _PLAIN.fullmatch(command):
        return None
    words = tuple(command.split())
    return None if words[0] in _OF_THE_SHELL else words
