"""Programs whose arguments are commands: which words, or which text, they would run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mcp_spaces.core.policy.shell.dangers import Danger, long_option
from mcp_spaces.core.policy.shell.prefixes import (
    PREFIXES,
    RUNNERS,
    Inner,
    RunsFile,
    RunsText,
    RunsWords,
    Sets,
    after_prefix,
    prefix_of,
    text_of,
)
from mcp_spaces.core.policy.shell.words import UNKNOWN, Word

_MODULE = re.compile(r"-[A-Za-ln-z]*m(.*)", re.DOTALL)
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "rbash"})

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
    "go": ("-exec", "-toolexec"),
    "install": ("--strip-program",),
    "script": ("-c", "--command"),
    "su": ("-c", "--command", "--session-command"),
    "runuser": ("-c", "--command"),
    "make": ("--eval",),
    "wget": ("--use-askpass",),
    "mapfile": ("-C",),
    "readarray": ("-C",),
}
_FIND_EXECUTES = frozenset({"-exec", "-execdir", "-ok", "-okdir"})
_FIND_TAKES = frozenset(
    "-name -iname -path -ipath -wholename -iwholename -regex -iregex -newer -anewer -cnewer -samefile -lname -type -xtype"
    " -size -mtime -mmin -atime -amin -ctime -cmin -perm -user -group -maxdepth -mindepth -links -inum -fprint -fprintf"
    " -fprint0 -fls -printf -regextype -newermt".split()
)
_ASSIGNS = re.compile(r"(\w+)(?:\[[^\]]*\])?\+?=")
_ENV_PLAIN = frozenset({"-i", "--ignore-environment", "-0", "--null", "-v", "--debug", "-"})
_ENV_VALUED = frozenset({"-u", "--unset", "-C", "--chdir", "-a", "--argv0"})


def inner(name: str, arguments: Sequence[Word]) -> Iterator[Inner]:
    """What program `name` (a bare name) with these arguments would run besides itself."""
    if (options := _COMMAND_OPTIONS.get(name)) is not None:
        yield from _option_values(arguments, options, strict_sh=name not in {"mapfile", "readarray"})
    if name in SHELLS:
        yield from _shell(name, arguments)
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
        yield from _env(arguments)
    elif name == "xargs":
        yield from _xargs(arguments)
    elif name == "find":
        yield from _find(arguments)
    elif name in {"fd", "fdfind"}:
        yield from _fd(arguments)
    elif name == "eval":
        yield _joined([word for word in arguments if word.text != "--"], strict_sh=False)
    elif name == "trap":
        if arguments and arguments[0].text not in {"-", "-l", "-p", ""} or arguments and not arguments[0].literal:
            yield from text_of(next((word for word in arguments if word.text != "--"), UNKNOWN), strict_sh=False)
    elif name in {"source", "."}:
        operands = [word for word in arguments if word.text != "--"]
        yield RunsFile(operands[0].text) if operands and operands[0].fixed else Danger.DYNAMIC_COMMAND
    elif name in {"watch", "parallel"}:
        yield from _repeated(name, arguments)
    elif name.startswith("python"):
        yield from _module(arguments)
    elif name in {"alias", "enable", "hash", "bind", "complete", "compgen", "fc", "shopt"}:
        if not _harmless_setting(name, arguments):
            yield Danger.DYNAMIC_COMMAND
    elif name in {"ssh", "scp", "sftp"} and any("command" in word.text.lower() for word in arguments):
        yield Danger.HIDDEN_COMMAND
    for runner, prefix in RUNNERS.items():
        if runner[0] == name and tuple(word.text for word in arguments[: len(runner) - 1]) == runner[1:]:
            for found in after_prefix(arguments[len(runner) - 1 :], prefix):
                yield RunsWords(found.words, trusted_name=True) if isinstance(found, RunsWords) else found


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


def _joined(words: Sequence[Word], *, strict_sh: bool = True) -> Inner:
    if all(word.fixed for word in words):
        return RunsText(" ".join(word.text for word in words), strict_sh=strict_sh)
    return Danger.DYNAMIC_COMMAND


def _option_values(arguments: Sequence[Word], options: Sequence[str], *, strict_sh: bool) -> Iterator[Inner]:
    for place, word in enumerate(arguments):
        if word.text == "--" and word.fixed:
            return
        following = arguments[place + 1] if place + 1 < len(arguments) else UNKNOWN
        for option in options:
            if option.startswith("--") and long_option(word.text, option, least=min(len(option), 6)):
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
            elif word.text == option:
                yield from text_of(following, strict_sh=strict_sh)
            elif word.text.startswith(option + "="):
                yield from text_of(Word(word.text[len(option) + 1 :], word.literal), strict_sh=strict_sh)


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


def _shell(name: str, arguments: Sequence[Word]) -> Iterator[Inner]:
    place = 0
    wants_text = False
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
            place += set(word.text) & set("oO") != set()
        place += 1
    if place >= len(arguments):
        # A shell without a script reads it from its standard input.
        yield Danger.DYNAMIC_COMMAND
    elif wants_text:
        yield from text_of(arguments[place], strict_sh=name != "bash")
    else:
        yield RunsFile(arguments[place].text) if arguments[place].fixed else Danger.DYNAMIC_COMMAND


def _env(arguments: Sequence[Word]) -> Iterator[Inner]:
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
        elif word.text in _ENV_VALUED:
            place += 1
        elif word.text.startswith(("-S", "--split-string", "-vS", "-iS")):
            attached = word.text.removeprefix("--split-string").lstrip("-viS").removeprefix("=")
            rest = [*([Word(attached)] if attached else []), *arguments[place + 1 :]]
            if "$" in "".join(part.text for part in rest) or "\\" in "".join(part.text for part in rest):
                yield Danger.DYNAMIC_COMMAND
                return
            yield _joined([Word("env"), *rest])
            return
        elif word.text == "--":
            place += 1
            break
        elif word.text.startswith("-") and word.text not in _ENV_PLAIN:
            if not any(word.text.startswith(option) for option in ("-u", "--unset=", "-C", "--chdir=")):
                yield Danger.DYNAMIC_COMMAND
                return
        elif word.text not in _ENV_PLAIN:
            break
        place += 1
    while place < len(arguments) and "=" in arguments[place].text and arguments[place].literal:
        name, _, value = arguments[place].text.partition("=")
        yield Sets(name, Word(value))
        place += 1
    if place < len(arguments):
        yield RunsWords(tuple(arguments[place:]))


_XARGS = prefix_of(
    "-a --arg-file -d --delimiter -E -L --max-lines -n --max-args -P --max-procs -s --max-chars -R -S",
    "-0 --null -r --no-run-if-empty -t --verbose -p --interactive -x --exit -o --open-tty",
)


def _xargs(arguments: Sequence[Word]) -> Iterator[Inner]:
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


def _find(arguments: Sequence[Word]) -> Iterator[Inner]:
    place = 0
    in_expression = False
    while place < len(arguments):
        word = arguments[place]
        in_expression = in_expression or word.literal and word.text[:1] in {"-", "(", "!"}
        if word.fixed and word.text in _FIND_EXECUTES:
            words: list[Word] = []
            place += 1
            while place < len(arguments) and arguments[place].text not in {";", "+"}:
                part = arguments[place]
                words.append(UNKNOWN if "{}" in part.text else part)
                place += 1
            yield RunsWords(tuple(words) or (UNKNOWN,))
        elif word.fixed and word.text in _FIND_TAKES:
            place += 1
        elif not word.literal and (word.splits or in_expression):
            # It may become `-exec` and a command.
            yield Danger.DYNAMIC_COMMAND
        place += 1


def _fd(arguments: Sequence[Word]) -> Iterator[Inner]:
    for place, word in enumerate(arguments):
        if word.text in {"-x", "-X", "--exec", "--exec-batch"}:
            words = tuple(UNKNOWN if "{" in part.text else part for part in arguments[place + 1 :])
            yield RunsWords((*words, UNKNOWN) if words else (UNKNOWN,))
            return
        if word.text.startswith(("-x", "-X", "--exec")):
            yield Danger.DYNAMIC_COMMAND


def _repeated(name: str, arguments: Sequence[Word]) -> Iterator[Inner]:
    """watch and parallel give their words, joined, to a shell."""
    place = 0
    while place < len(arguments) and arguments[place].text.startswith("-") and arguments[place].fixed:
        place += 2 if arguments[place].text in {"-n", "-j", "--interval", "--jobs", "-q"} else 1
    words = list(arguments[place:])
    sources = [at for at, word in enumerate(words) if word.text.startswith(":::")]
    if name == "watch" and words:
        yield _joined(words)
    elif sources and sources[0] == 0:
        for word in words[1:]:
            yield from text_of(word)
    elif words:
        command = words[: sources[0]] if sources else words
        yield Danger.DYNAMIC_COMMAND if any("{" in word.text for word in command[:1]) else _joined(command)
        yield RunsWords((*command, UNKNOWN))
    elif name == "parallel":
        yield Danger.DYNAMIC_COMMAND


_SAFE_SHOPT = frozenset(
    "-s -u -q -p nullglob globstar dotglob failglob nocaseglob nocasematch lastpipe inherit_errexit".split()
)


def _harmless_setting(name: str, arguments: Sequence[Word]) -> bool:
    if name == "shopt":
        return all(word.fixed and word.text in _SAFE_SHOPT for word in arguments)
    return name == "hash" and all(word.fixed and word.text == "-r" for word in arguments)
