"""Programs whose arguments are commands: which words, or which text, they would run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mcp_spaces.core.policy.shell import repeats
from mcp_spaces.core.policy.shell.dangers import (
    SYSTEM_FOLDERS,
    Danger,
    long_option,
)
from mcp_spaces.core.policy.shell.env import env
from mcp_spaces.core.policy.shell.prefixes import (
    ENTERS,
    ENTERS_BY_LETTER,
    PREFIXES,
    RUNNERS,
    Enters,
    Inner,
    RunsFile,
    RunsText,
    RunsWords,
    Sets,
    after_prefix,
    joined,
    prefix_of,
    text_of,
)
from mcp_spaces.core.policy.shell.shells import SHELLS, harmless_setting, shell
from mcp_spaces.core.policy.shell.variables import PROGRAM_VARIABLES, changes_execution
from mcp_spaces.core.policy.shell.words import UNKNOWN, Word

_MODULE = re.compile(r"-[A-Za-ln-z]*m(.*)", re.DOTALL)

# Options whose value is a command line.
_COMMAND_OPTIONS: dict[str, tuple[str, ...]] = {
    "tar": (
        "--to-command",
        "--use-compress-program",
        "--rsh-command",
        "--rmt-command",
        "--info-script",
        "--new-volume-script",
        "-I",
        "-F",
    ),
    "rsync": ("--rsh", "--rsync-path", "-e"),
    "sort": ("--compress-program",),
    "rg": ("--pre", "--hostname-bin"),
    "ag": ("--pager",),
    "man": ("-P", "--pager", "-H", "--html"),
    "split": ("--filter",),
    "zip": ("-TT", "--unzip-command"),
    "scp": ("-S",),
    "sftp": ("-S",),
    "go": ("-exec", "-toolexec", "-vettool"),
    "install": ("--strip-program",),
    "script": ("-c", "--command"),
    "su": ("-c", "--command", "--session-command"),
    "runuser": ("-c", "--command"),
    "make": ("--eval", "-E"),
    "gmake": ("--eval", "-E"),
    "wget": ("--use-askpass",),
}
_JOBS = prefix_of("", "-l -n -p -r -s -x")
_ASSIGNS = re.compile(r"([A-Za-z_]\w*)(?:\[[^\]]*\])?\+?=", re.ASCII)


def inner(name: str, arguments: Sequence[Word]) -> Iterator[Inner]:
    """What program `name` (a bare name) with these arguments would run besides itself."""
    if (options := _COMMAND_OPTIONS.get(name)) is not None:
        yield from _option_values(arguments, options)
    if name in {"mapfile", "readarray"}:
        yield from map(_callback, _option_values(arguments, ("-C",), strict_sh=False))
    if name in SHELLS:
        yield from shell(name, arguments)
    elif (prefix := PREFIXES.get(name)) is not None:
        if name == "command" and any(word.text in {"-v", "-V", "-pv"} for word in arguments[:1]):
            return
        for found in after_prefix(arguments, prefix):
            if name in {"time", "coproc"} and isinstance(found, RunsWords):
                # Words of the shell's own: assignments and a `!` may follow them.
                yield from _assignments_first(found.words)
            else:
                yield found
    elif name == "env":
        yield from env(arguments)
    elif name == "cmake":
        yield from _cmake(arguments)
    elif name in {"make", "gmake"}:
        yield from _make(arguments)
    elif name == "hyperfine":
        # Its options' values may be commands as well; a number is none that does harm.
        for word in arguments:
            value = word.text.partition("=")[2] if word.text.startswith("-") else word.text
            if value:
                yield from text_of(Word(value, word.literal, word.glob, word.splits))
    elif name == "coverage" and arguments and arguments[0].text == "run":
        yield from _module(arguments[1:])
    elif name == "corepack" and arguments and arguments[0].text.partition("@")[0] in _COREPACK:
        yield RunsWords((Word(arguments[0].text.partition("@")[0]), *arguments[1:]))
    elif _runs_by_option(name, arguments):
        yield Danger.HIDDEN_COMMAND
    elif name == "xargs":
        yield from repeats.xargs(arguments)
    elif name == "find":
        yield from repeats.find(arguments)
    elif name in {"fd", "fdfind"}:
        yield from repeats.fd(arguments)
    elif name == "eval":
        yield joined(arguments[1:] if [word.text for word in arguments[:1]] == ["--"] else arguments, strict_sh=False)
    elif name == "trap":
        if arguments and arguments[0].text not in {"-", "-l", "-p", ""} or arguments and not arguments[0].literal:
            yield from text_of(next((word for word in arguments if word.text != "--"), UNKNOWN), strict_sh=False)
    elif name == "jobs" and any(word.text.startswith("-") and "x" in word.text for word in arguments):
        yield from after_prefix(arguments, _JOBS)
    elif name in {"source", "."}:
        operands = [word for word in arguments if word.text != "--"]
        yield RunsFile(operands[0].text) if operands and operands[0].fixed else Danger.DYNAMIC_COMMAND
    elif name in {"watch", "parallel"}:
        yield from repeats.repeated(name, arguments)
    elif name.startswith("python"):
        yield from _module(arguments)
    elif name in {"alias", "enable", "hash", "bind", "complete", "compgen", "fc", "shopt", "set"}:
        if not harmless_setting(name, arguments):
            yield Danger.DYNAMIC_COMMAND
    elif name in {"ssh", "scp", "sftp"} and any("command" in word.text.lower() for word in arguments):
        yield Danger.HIDDEN_COMMAND
    runs = False
    for runner, prefix in RUNNERS.items():
        if runner[0] == name and (at := _subcommand_ends(arguments, runner[1:])) is not None:
            runs = True
            for found in after_prefix(arguments[at:], prefix):
                yield RunsWords(found.words, trusted_name=True) if isinstance(found, RunsWords) else found
    if runs or name in PREFIXES:
        yield from _folders(arguments, ENTERS_BY_LETTER.get(name, ""))


def _subcommand_ends(arguments: Sequence[Word], subcommand: tuple[str, ...]) -> int | None:
    """The place after it, where nothing but options and maybe their values stands before it: `npm -w a exec x`."""
    for at in range(len(arguments) - len(subcommand) + 1):
        if tuple(word.text for word in arguments[at : at + len(subcommand)]) == subcommand:
            return at + len(subcommand)
        if not arguments[at].text.startswith("-") and not (at and arguments[at - 1].text.startswith("-")):
            return None
    return None


def _folders(arguments: Sequence[Word], letter: str) -> Iterator[Inner]:
    for place, word in enumerate(arguments):
        option, has_value, value = word.text.partition("=")
        if option in ENTERS and has_value:
            yield Enters(Word(value, word.literal))
        elif option in ENTERS or letter and option == letter:
            yield Enters(arguments[place + 1] if place + 1 < len(arguments) else UNKNOWN)


_COREPACK = frozenset({"npm", "npx", "pnpm", "pnpx", "yarn", "yarnpkg"})
_COMPILER = re.compile(r"(?:[\w.-]+-)?(?:gcc|g\+\+|cc|c\+\+|cpp|gfortran)(?:-[\d.]+)?\Z")
_RUNS_BY_SETTING = re.compile(r"alias|runner|wrapper|linker|rustc|rustdoc|credential|include|\.toml")


def _runs_by_option(name: str, arguments: Sequence[Word]) -> bool:
    """`gcc -wrapper x`; `cargo --config KEY=VALUE`, of a key that names a program, or of a file."""
    if _COMPILER.match(name):
        return any(word.text.startswith("-wrapper") for word in arguments)
    if name != "cargo":
        return False
    for place, word in enumerate(arguments):
        option, has_value, value = word.text.partition("=")
        if option == "--config":
            following = arguments[place + 1] if place + 1 < len(arguments) else UNKNOWN
            setting = Word(value, word.literal) if has_value else following
            if not setting.literal or _RUNS_BY_SETTING.search(setting.text):
                return True
    return False


# Those that the manual calls names of programs, and whose value a recipe of make's own runs.
_MAKE_PROGRAMS = frozenset("AR AS CC CXX CPP FC LD LEX YACC RM MAKE".split())
_MAKE_SETS = re.compile(r"([\w.]+)\s*([+?!]|:{1,3})?=(.*)", re.DOTALL | re.ASCII)
_MAKE_RUNS = re.compile(r"\$[({]\s*(?:shell|eval|guile|file|load)\b")


def _make(arguments: Sequence[Word]) -> Iterator[Inner]:
    """`make SHELL=x`: what is set so counts in the makefile, and reaches what its recipes run."""
    for word in arguments:
        head = _MAKE_SETS.match(word.text)
        if head is None or word.text.startswith("-"):
            continue
        name, how, value = head[1], head[2], Word(head[3], word.literal, word.glob, word.splits)
        if name == ".SHELLFLAGS" or how == "!" or _MAKE_RUNS.search(value.text):
            yield Danger.HIDDEN_COMMAND
        elif name in _MAKE_PROGRAMS:
            yield from text_of(value) if value.text or not value.literal else ()
        elif name == "SHELL" and value.literal and _is_systemshell(value.text):
            continue
        elif changes_execution(name, command="") or name in PROGRAM_VARIABLES:
            yield Sets(name, value)


def _is_systemshell(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return name in SHELLS and (not folder or folder in SYSTEM_FOLDERS)


def _cmake(arguments: Sequence[Word]) -> Iterator[Inner]:
    """`cmake -E` has commands of its own, some of which run others or take trees away."""
    if [word.text for word in arguments[:1]] != ["-E"] or len(arguments) < 2:
        return
    name, rest = arguments[1].text, tuple(arguments[2:])
    if name == "env":
        yield from env(rest)
    elif name == "chdir" and rest:
        yield Enters(rest[0])
        yield RunsWords(rest[1:] or (UNKNOWN,))
    elif name == "time":
        yield RunsWords(rest or (UNKNOWN,))
    elif name in {"rm", "remove_directory"}:
        yield RunsWords((Word("rm"), *([Word("-r")] if name != "rm" else []), *rest))


def _module(arguments: Sequence[Word]) -> Iterator[Inner]:
    """What `python -m MODULE` runs; letters may stand together (`-Im`), and so may the module (`-mMODULE`)."""
    for place, word in enumerate(arguments):
        value = place and arguments[place - 1].text in {"-W", "-X", "--check-hash-based-pycs"}
        if word.fixed and not value and (not word.text.startswith("-") or word.text in {"-c", "-"}):
            return
        if clustered := _MODULE.match(word.text):
            module = Word(clustered[1], word.literal)
            rest = arguments[place + 1 :]
            yield RunsWords((module, *rest) if clustered[1] else tuple(rest) or (UNKNOWN,), trusted_name=True)
            return


def _option_values(arguments: Sequence[Word], options: Sequence[str], *, strict_sh: bool = True) -> Iterator[Inner]:
    for place, word in enumerate(arguments):
        # A `--` may be an option's value, so that options follow.
        following = arguments[place + 1] if place + 1 < len(arguments) else UNKNOWN
        for option in options:
            if option.startswith("--") and long_option(word.text, option, least=3):
                _, has_value, value = word.text.partition("=")
                yield from text_of(
                    Word(value, word.literal, word.glob, word.splits) if has_value else following, strict_sh=strict_sh
                )
            elif len(option) == 2:
                if value_at := _in_cluster(word.text, option[1]):
                    value = word.text[value_at:].removeprefix("=")
                    yield from text_of(
                        Word(value, word.literal, word.glob, word.splits) if value else following, strict_sh=strict_sh
                    )
            elif found := re.match(rf"-\w*?{option[1:]}", word.text):
                # Behind other letters, and with its value or without: `zip -qTTx`.
                value = word.text[found.end() :].removeprefix("=")
                yield from text_of(Word(value, word.literal) if value else following, strict_sh=strict_sh)


def _callback(run: Inner) -> Inner:
    """mapfile adds an index and a line to it, which `timeout` would run."""
    return replace(run, text=f'{run.text} 0 "$line"') if isinstance(run, RunsText) else run


def _in_cluster(text: str, letter: str) -> int:
    """Where the value of option `letter` begins in `-avze`, `-Isudo`, `-xIsudo`; 0 where it is not given."""
    if not text.startswith("-") or text.startswith("--"):
        return 0
    at = text.find(letter, 1)
    # Letters after one that takes a value itself, like tar's -f, are that value.
    return at + 1 if at > 0 and text[1:at].isalpha() and not set(text[1:at]) & set("fCTX") or at == 1 else 0


def _assignments_first(words: Sequence[Word]) -> Iterator[Inner]:
    for place, word in enumerate(words):
        head = _ASSIGNS.match(word.text)
        if word.text == "!":
            continue
        if head is None:
            yield RunsWords(tuple(words[place:]))
            return
        yield Sets(head.group(1), Word(word.text[head.end() :], word.literal, word.glob, word.splits))
