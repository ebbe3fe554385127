"""Programs whose arguments are commands: which words, or which text, they would run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcp_spaces.core.shell_dangers import Danger, long_option
from mcp_spaces.core.shell_words import UNKNOWN, Word

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "rbash"})


@dataclass(frozen=True, slots=True)
class RunsWords:
    """These words are a command. `trusted_name`: the project's tool runner resolves the name."""

    words: tuple[Word, ...]
    trusted_name: bool = False


@dataclass(frozen=True, slots=True)
class RunsText:
    """This text is a shell script; `strict_sh` where the shell may not be bash."""

    text: str
    strict_sh: bool = True


@dataclass(frozen=True, slots=True)
class RunsFile:
    """This file is read as a shell script."""

    path: str


@dataclass(frozen=True, slots=True)
class Sets:
    """This variable is set for what runs."""

    name: str
    value: Word


Inner = RunsWords | RunsText | RunsFile | Sets | Danger


@dataclass(frozen=True, slots=True)
class _Prefix:
    """`[options] [operands] COMMAND …`: options with a value, options without, operands before the command."""

    valued: frozenset[str] = frozenset()
    plain: frozenset[str] = frozenset()
    operands: int = 0
    text: frozenset[str] = frozenset()


def _prefix(valued: str = "", plain: str = "", operands: int = 0, text: str = "") -> _Prefix:
    return _Prefix(frozenset(valued.split()), frozenset(plain.split()), operands, frozenset(text.split()))


_PREFIXES: dict[str, _Prefix] = {
    "nice": _prefix("-n --adjustment"),
    "nohup": _prefix(),
    "timeout": _prefix("-k --kill-after -s --signal", "--foreground --preserve-status -v --verbose -p -f", 1),
    "time": _prefix("-f --format -o --output", "-p -a -v -q --append --portability --verbose --quiet"),
    "setsid": _prefix("", "-c -f -w --ctty --fork --wait"),
    "stdbuf": _prefix("-i -o -e --input --output --error"),
    "ionice": _prefix("-c -n --class --classdata", "-t --ignore"),
    "chrt": _prefix("-T -P -D", "-a -b -d -f -i -o -r -v -R --batch --fifo --rr --other --idle", 1),
    "taskset": _prefix("", "-a -c --all-tasks --cpu-list", 1),
    "command": _prefix("", "-p"),
    "builtin": _prefix(),
    "exec": _prefix("-a", "-c -l"),
    "coproc": _prefix(),
    "strace": _prefix(
        "-e -o -s -u -E -P -O -S -a -b -I -X -U", "-f -ff -c -C -t -tt -ttt -T -v -y -yy -q -qq -r -i -k -x -xx"
    ),
    "ltrace": _prefix("-e -o -s -u -a -n -l -x", "-f -c -C -S -t -tt -ttt -T -i -r"),
    "unbuffer": _prefix("", "-p"),
    "sudo": _prefix("-u -g -h -p -C -r -t -T -U -D -R --user --group", "-A -b -E -e -H -i -k -K -n -P -S -s -v -V"),
    "doas": _prefix("-u -C", "-n -s -L"),
    "chroot": _prefix("--userspec --groups", "--skip-chdir", 1),
    "unshare": _prefix(
        "-S -G -R -w", "-m -u -i -n -p -U -C -T -f -r -c --fork --mount --net --pid --user --map-root-user"
    ),
    "nsenter": _prefix("-t -S -G --target", "-a -m -u -i -n -p -U -C -T -F --all --mount --net --pid"),
    "setpriv": _prefix("", "--no-new-privs --clear-groups --init-groups"),
    "busybox": _prefix(),
    "toybox": _prefix(),
    "flock": _prefix(
        "-w -E --timeout --wait", "-s -x -e -u -n -o -F -v --shared --exclusive --nonblock --nb", 1, "-c --command"
    ),
    "xvfb-run": _prefix("-n -s -f -e -w -p --server-num --server-args", "-a -l --auto-servernum"),
    "dbus-run-session": _prefix("", "--"),
    "systemd-run": _prefix("-p -u", "--user --scope --wait --pty -t -P -q"),
    "caffeinate": _prefix("-t -w", "-d -i -m -s -u"),
}
# Runners of the project's own tools: the runner finds the program, so an allow-list of names does not apply.
_RUNNERS: dict[tuple[str, ...], _Prefix] = {
    ("uv", "run"): _prefix(
        "--with --python -p --extra --group --env-file --project --directory --package --with-requirements --index-url",
        "--no-sync --frozen --locked --isolated --all-extras --no-project --dev --no-dev --active -q --quiet -v --offline"
        " --exact --all-groups --no-config --no-cache -n -m --module -s --script",
    ),
    ("uvx",): _prefix("--from --with --python -p", "-q --quiet --isolated --offline"),
    ("poetry", "run"): _prefix(),
    ("pdm", "run"): _prefix(),
    ("pipenv", "run"): _prefix(),
    ("hatch", "run"): _prefix(),
    ("pipx", "run"): _prefix("--spec --python --pip-args", "--no-cache -q"),
    ("npx",): _prefix("-p --package -w --workspace", "-y --yes -q --quiet --no --no-install", text="-c --call"),
    ("npm", "exec"): _prefix("-p --package -w --workspace", "-y --yes --no", text="-c --call"),
    ("npm", "x"): _prefix("-p --package -w --workspace", "-y --yes --no", text="-c --call"),
    ("pnpm", "exec"): _prefix("", "-r --recursive --parallel", text="-c --shell-mode"),
    ("pnpm", "dlx"): _prefix("--package", "--silent", text="-c --shell-mode"),
    ("yarn", "exec"): _prefix(),
    ("yarn", "dlx"): _prefix("-p --package", "-q"),
    ("bun", "x"): _prefix("-p", "--bun"),
    ("bunx",): _prefix("-p", "--bun"),
    ("bundle", "exec"): _prefix(),
}
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
_ENV_PLAIN = frozenset({"-i", "--ignore-environment", "-0", "--null", "-v", "--debug", "-"})
_ENV_VALUED = frozenset({"-u", "--unset", "-C", "--chdir", "-a", "--argv0"})


def inner(name: str, arguments: Sequence[Word]) -> Iterator[Inner]:
    """What program `name` (a bare name) with these arguments would run besides itself."""
    if (options := _COMMAND_OPTIONS.get(name)) is not None:
        yield from _option_values(arguments, options, strict_sh=name not in {"mapfile", "readarray"})
    if name in SHELLS:
        yield from _shell(name, arguments)
    elif (prefix := _PREFIXES.get(name)) is not None:
        if name == "command" and any(word.text in {"-v", "-V", "-pv"} for word in arguments[:1]):
            return
        yield from _after_prefix(arguments, prefix)
    elif name == "env":
        yield from _env(arguments)
    elif name == "xargs":
        yield from _xargs(arguments)
    elif name == "find":
        yield from _find(arguments)
    elif name in {"fd", "fdfind"}:
        yield from _fd(arguments)
    elif name == "eval":
        yield _joined(arguments, strict_sh=False)
    elif name == "trap":
        if arguments and arguments[0].text not in {"-", "-l", "-p", ""} or arguments and not arguments[0].literal:
            yield from _text(next((word for word in arguments if word.text != "--"), UNKNOWN), strict_sh=False)
    elif name in {"source", "."}:
        operands = [word for word in arguments if word.text != "--"]
        yield RunsFile(operands[0].text) if operands and operands[0].fixed else Danger.DYNAMIC_COMMAND
    elif name in {"watch", "parallel"}:
        yield from _repeated(name, arguments)
    elif name.startswith("python") and any(word.text == "-m" for word in arguments):
        place = next(place for place, word in enumerate(arguments) if word.text == "-m")
        yield RunsWords(tuple(arguments[place + 1 :]) or (UNKNOWN,), trusted_name=True)
    elif name in {"alias", "enable", "hash", "bind", "complete", "compgen", "fc", "shopt"}:
        if not _harmless_setting(name, arguments):
            yield Danger.DYNAMIC_COMMAND
    elif name in {"ssh", "scp", "sftp"} and any("command" in word.text.lower() for word in arguments):
        yield Danger.HIDDEN_COMMAND
    for runner, prefix in _RUNNERS.items():
        if runner[0] == name and tuple(word.text for word in arguments[: len(runner) - 1]) == runner[1:]:
            for found in _after_prefix(arguments[len(runner) - 1 :], prefix):
                yield RunsWords(found.words, trusted_name=True) if isinstance(found, RunsWords) else found


def _text(word: Word, *, strict_sh: bool = True) -> Iterator[Inner]:
    yield (
        RunsText(word.text, strict_sh=strict_sh)
        if word.fixed or word.literal and not word.splits
        else Danger.DYNAMIC_COMMAND
    )


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
                yield from _text(
                    Word(value, word.literal, word.glob, word.splits) if has_value else following, strict_sh=strict_sh
                )
            elif option.startswith("-") and not option.startswith("--"):
                if word.text == option or len(option) == 2 and _cluster_ends(word.text, option[1]):
                    yield from _text(following, strict_sh=strict_sh)
                elif word.text.startswith(option) and len(option) == 2:
                    yield from _text(
                        Word(word.text[2:].removeprefix("="), word.literal, word.glob, word.splits), strict_sh=strict_sh
                    )
                elif word.text.startswith(option + "="):
                    yield from _text(Word(word.text[len(option) + 1 :], word.literal), strict_sh=strict_sh)


def _cluster_ends(text: str, letter: str) -> bool:
    """`-avze` ends in -e, whose value is the next word."""
    return len(text) > 2 and text[0] == "-" and text[1].isalpha() and text[1:].isalpha() and text.endswith(letter)


def _after_prefix(arguments: Sequence[Word], prefix: _Prefix) -> Iterator[Inner]:
    operands = prefix.operands
    options_end = False
    place = 0
    while place < len(arguments):
        word = arguments[place]
        option, has_value, value = word.text.partition("=")
        if options_end or not word.literal or not word.text.startswith("-") or word.text == "-":
            if not operands:
                yield RunsWords(tuple(arguments[place:]))
                return
            if word.splits:
                yield Danger.DYNAMIC_COMMAND
                return
            operands -= 1
            place += 1
        elif word.text == "--":
            options_end = True
            place += 1
        elif option in prefix.text:
            following = arguments[place + 1] if place + 1 < len(arguments) else UNKNOWN
            yield from _text(Word(value) if has_value else following)
            return
        elif word.text in prefix.valued:
            place += 2
        elif word.text in prefix.plain or option.startswith("--") and has_value or _glued(word.text, prefix):
            place += 1
        else:
            # An option that is not known may have a value, and then another word is the command.
            yield Danger.DYNAMIC_COMMAND
            return


def _glued(text: str, prefix: _Prefix) -> bool:
    """`-n5`, `-oL`, `-5`: a value in the same word; `-fq`: flags in one."""
    return (
        len(text) > 2
        and text[:2] in prefix.valued
        and not text.startswith("--")
        or text[1:].isdigit()
        or not text.startswith("--")
        and all(f"-{letter}" in prefix.plain for letter in text[1:])
    )


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
        yield from _text(arguments[place], strict_sh=name != "bash")
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


_XARGS = _prefix(
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
    for found in _after_prefix([*rest, *arguments[place:]], _XARGS):
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
            yield from _text(word)
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
