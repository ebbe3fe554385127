"""Variables that change which code runs, and the variables that builtins set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile

from mcp_spaces.core.policy.shell.arithmetic import variables_set
from mcp_spaces.core.policy.shell.script import Assignment
from mcp_spaces.core.policy.shell.words import UNKNOWN, Word

_NAMES = frozenset(
    "PATH IFS ENV BASH_ENV BASH_CMDS BASH_ALIASES SHELL SHELLOPTS BASHOPTS PROMPT_COMMAND PS0 PS4 CDPATH EXECIGNORE"
    " FIGNORE LESSOPEN LESSCLOSE GCONV_PATH GIT_EXTERNAL_DIFF GIT_PROXY_COMMAND GIT_EXEC_PATH GIT_TEMPLATE_DIR"
    " GIT_ASKPASS SSH_ASKPASS RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER PERL5OPT PERL5DB PYTHONSTARTUP PYTHONINSPECT"
    " JAVA_TOOL_OPTIONS NODE_OPTIONS RUBYOPT _JAVA_OPTIONS JDK_JAVA_OPTIONS GOFLAGS GNUMAKEFLAGS MAKEFILES MAKEFLAGS"
    " TAR_OPTIONS RSYNC_RSH RIPGREP_CONFIG_PATH ZDOTDIR INPUTRC".split()
)
_FAMILIES = ("LD_", "DYLD_", "MALLOC_", "BASH_FUNC_", "GIT_SSH", "GIT_CONFIG", "SUDO_")
# Their value is a command line: it is judged as one.
PROGRAM_VARIABLES = frozenset(
    "PAGER EDITOR VISUAL GIT_EDITOR GIT_SEQUENCE_EDITOR GIT_PAGER MANPAGER BROWSER MANROFFOPT".split()
)
DECLARES = frozenset({"export", "declare", "typeset", "readonly", "local"})
# Letters of the options with a value that is no variable's name.
_VALUED = {"read": "dinNptu", "mapfile": "dnOsuCc", "readarray": "dnOsuCc"}
_NAME_ENDS = re.compile(r"\W")


def changes_execution(name: str, *, command: str) -> bool:
    """Does setting this variable change which code runs? `IFS= read` does not: it splits what is read."""
    if name == "IFS" and command in {"read", "mapfile", "readarray"}:
        return False
    return name in _NAMES or name.startswith(_FAMILIES)


def may_change_execution(start: str) -> bool:
    """The same of a name of which only the start is known, as `LD_$x`."""
    return start.startswith(_FAMILIES) or any(name.startswith(start) for name in (*_NAMES, *_FAMILIES))


def assignments(name: str, arguments: Sequence[Word]) -> Iterator[Assignment]:
    """Of builtin `name`. Those of `read` and the like may be words that are an option's value."""
    if name in DECLARES:
        yield from _declared(name, arguments)
    elif name == "unset":
        # Programs are then looked for in the folder where the shell is.
        functions = options_begin(arguments, "-f")
        unknown = [] if functions else [word.text for word in arguments if _is_start(word)]
        if any(word.text == "PATH" for word in arguments) or any(map("PATH".startswith, unknown)):
            yield Assignment("PATH", Word(""))
    elif name == "printf":
        if options_begin(arguments, "-v"):
            yield from (_set(Word(word.text.removeprefix("-v"), word.literal)) for word in arguments[:2])
    elif name == "getopts":
        yield from map(_set, arguments[1:2])
    elif name == "wait":
        yield from (_set(word) for word in arguments if word.literal)
        yield from (_set(word) for option, word in pairwise(arguments) if option.text == "-p")
    elif name in {"read", "mapfile", "readarray"}:
        for place, word in enumerate(arguments):
            if word.literal or not _is_value(name, arguments[place - 1 : place]):
                yield _set(word)


def references(name: str, arguments: Sequence[Word]) -> Iterator[str]:
    """`declare -n r=PATH`: what is assigned to r sets PATH."""
    if name in {"declare", "typeset", "local"} and "n" in _letters(arguments):
        yield from (_NAME_ENDS.split(word.text, maxsplit=1)[0] for word in arguments if word.text[:1] not in "-+")


def options_begin(arguments: Sequence[Word], option: str) -> bool:
    return bool(arguments) and arguments[0].text.startswith(option)


def _set(word: Word) -> Assignment:
    return Assignment(_NAME_ENDS.split(word.text, maxsplit=1)[0], UNKNOWN, name_known=not _is_start(word))


def _is_start(word: Word) -> bool:
    """Is only the start of the name known? A subscript or a value stands behind all of it."""
    return not word.literal and not re.search(r"[\[=]", word.text)


def _declared(command: str, arguments: Sequence[Word]) -> Iterator[Assignment]:
    """`declare -i x=PATH=5`: the value is arithmetic. `export -f ls`: in the shells that are started, the function is
    what `ls` runs."""
    letters = _letters(arguments)
    exports_functions = "f" in letters and (command == "export" or "x" in letters)
    prints = "p" in letters or command != "export" and bool({"f", "F"} & set(letters))
    for word in arguments:
        if word.text.startswith("-") and word.literal:
            continue
        if exports_functions:
            yield Assignment(f"BASH_FUNC_{word.text}%%", Word("()"))
        name, is_assignment, text = word.text.partition("=")
        value = Word(text, word.literal, word.glob, word.splits)
        if is_assignment:
            yield Assignment(_NAME_ENDS.split(name, maxsplit=1)[0], value)
            if "i" in letters:
                yield from (Assignment(one, Word("0")) for one in variables_set(text))
        elif not prints and _is_start(word):
            yield Assignment(name, UNKNOWN, name_known=False)


def _letters(arguments: Sequence[Word]) -> str:
    options = takewhile(lambda word: word.text.startswith(("-", "+")), arguments)
    return "".join(word.text[1:] for word in options if word.text.startswith("-"))


def _is_value(name: str, before: Sequence[Word]) -> bool:
    return any(word.text.startswith("-") and word.text[-1:] in set(_VALUED[name]) for word in before)
