"""Shells: the script or text that one is started with, and settings by which it reads what follows otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mcp_spaces.core.policy.shell.dangers import Danger
from mcp_spaces.core.policy.shell.prefixes import Inner, RunsFile, text_of
from mcp_spaces.core.policy.shell.words import Word

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "rbash"})
_SAFE_SHOPT = frozenset(
    "-s -u -q -p nullglob globstar dotglob failglob nocaseglob nocasematch lastpipe inherit_errexit".split()
)


def shell(name: str, arguments: Sequence[Word]) -> Iterator[Inner]:
    """What shell `name` runs when it is started with these arguments."""
    place = 0
    wants_text = False
    if _reads_otherwise(arguments):
        yield Danger.DYNAMIC_COMMAND
    while place < len(arguments):
        word = arguments[place]
        if not word.fixed:
            yield Danger.DYNAMIC_COMMAND
            return
        if word.text in {"--version", "--help"}:
            return
        if word.text in {"--", "-"} or word.text[:1] not in {"-", "+"}:
            place += word.text in {"--", "-"}
            break
        if word.text.startswith("--"):
            if word.text not in {"--norc", "--noprofile", "--posix", "--login", "--verbose"}:
                yield Danger.DYNAMIC_COMMAND
                return
        else:
            wants_text = wants_text or "c" in word.text and word.text[0] == "-"
            if set(word.text) & set("si"):
                yield Danger.DYNAMIC_COMMAND
                return
            place += word.text.count("o") + word.text.count("O")
        place += 1
    if place >= len(arguments):
        # A shell without a script reads it from its standard input.
        yield Danger.DYNAMIC_COMMAND
    elif wants_text:
        yield from text_of(arguments[place], strict_sh=name != "bash")
    else:
        yield RunsFile(arguments[place].text) if arguments[place].fixed else Danger.DYNAMIC_COMMAND


def harmless_setting(name: str, arguments: Sequence[Word]) -> bool:
    """Whether the builtin `name` changes nothing by which the script is read, and runs nothing."""
    if name == "shopt":
        return all(word.fixed and word.text in _SAFE_SHOPT for word in arguments)
    if name == "set":
        return not _reads_otherwise(arguments)
    return name == "hash" and all(word.fixed and word.text == "-r" for word in arguments)


def _reads_otherwise(options: Sequence[Word]) -> bool:
    """`set -k` makes variables of arguments, `-H` makes commands of `!word`."""
    place = 0
    while place < len(options) and options[place].fixed and re.match(r"[-+]\w", options[place].text):
        text = options[place].text
        values = text.count("o") + text.count("O")
        names = {word.text for word in options[place + 1 : place + 1 + values]}
        if text[0] == "-" and (set("kH") & set(text) or {"keyword", "histexpand"} & names):
            return True
        if "O" in text and not names <= _SAFE_SHOPT:
            return True
        place += 1 + values
    return False
