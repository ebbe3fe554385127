"""Programs that begin with options and then run the command that follows: nice, timeout, sudo, uv run …"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mcp_spaces.core.policy.shell.dangers import Danger
from mcp_spaces.core.policy.shell.words import UNKNOWN, Word


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


@dataclass(frozen=True, slots=True)
class Enters:
    """What runs begins in this folder."""

    folder: Word


Inner = RunsWords | RunsText | RunsFile | Sets | Enters | Danger


@dataclass(frozen=True, slots=True)
class Prefix:
    """`[options] [operands] COMMAND …`: options with a value, options without, operands before the command."""

    valued: frozenset[str] = frozenset()
    plain: frozenset[str] = frozenset()
    operands: int = 0
    text: frozenset[str] = frozenset()


def prefix_of(valued: str = "", plain: str = "", operands: int = 0, text: str = "") -> Prefix:
    return Prefix(frozenset(valued.split()), frozenset(plain.split()), operands, frozenset(text.split()))


ENTERS = frozenset({"--directory", "--chdir", "--dir", "--working-directory", "--wd"})
"""Options of whichever prefix or runner whose value is the folder in which the command begins; -C is of some."""
ENTERS_BY_LETTER = {"pnpm": "-C", "poetry": "-C", "sudo": "-D", "unshare": "-w"}


PREFIXES: dict[str, Prefix] = {
    "nice": prefix_of("-n --adjustment"),
    "nohup": prefix_of(),
    "timeout": prefix_of("-k --kill-after -s --signal", "--foreground --preserve-status -v --verbose -p -f", 1),
    "time": prefix_of("-f --format -o --output", "-p -a -v -q --append --portability --verbose --quiet"),
    "setsid": prefix_of("", "-c -f -w --ctty --fork --wait"),
    "stdbuf": prefix_of("-i -o -e --input --output --error"),
    "ionice": prefix_of("-c -n --class --classdata", "-t --ignore"),
    "chrt": prefix_of("-T -P -D", "-a -b -d -f -i -o -r -v -R --batch --fifo --rr --other --idle", 1),
    "taskset": prefix_of("", "-a -c --all-tasks --cpu-list", 1),
    "command": prefix_of("", "-p"),
    "builtin": prefix_of(),
    "exec": prefix_of("-a", "-c -l"),
    "coproc": prefix_of(),
    "strace": prefix_of(
        "-e -o -s -u -E -P -O -S -a -b -I -X -U", "-f -ff -c -C -t -tt -ttt -T -v -y -yy -q -qq -r -i -k -x -xx"
    ),
    "ltrace": prefix_of("-e -o -s -u -a -n -l -x", "-f -c -C -S -t -tt -ttt -T -i -r"),
    "unbuffer": prefix_of("", "-p"),
    "sudo": prefix_of("-u -g -h -p -C -r -t -T -U -D -R --user --group", "-A -b -E -e -H -i -k -K -n -P -S -s -v -V"),
    "doas": prefix_of("-u -C", "-n -s -L"),
    "chroot": prefix_of("--userspec --groups", "--skip-chdir", 1),
    "unshare": prefix_of(
        "-S -G -R -w", "-m -u -i -n -p -U -C -T -f -r -c --fork --mount --net --pid --user --map-root-user"
    ),
    "nsenter": prefix_of("-t -S -G --target", "-a -m -u -i -n -p -U -C -T -F --all --mount --net --pid"),
    "setpriv": prefix_of("", "--no-new-privs --clear-groups --init-groups"),
    "busybox": prefix_of(),
    "toybox": prefix_of(),
    "flock": prefix_of(
        "-w -E --timeout --wait", "-s -x -e -u -n -o -F -v --shared --exclusive --nonblock --nb", 1, "-c --command"
    ),
    "xvfb-run": prefix_of("-n -s -f -e -w -p --server-num --server-args", "-a -l --auto-servernum"),
    "dbus-run-session": prefix_of("", "--"),
    "systemd-run": prefix_of("-p -u", "--user --scope --wait --pty -t -P -q"),
    "caffeinate": prefix_of("-t -w", "-d -i -m -s -u"),
    "valgrind": prefix_of("", "-q -v -d -h --quiet --verbose --version --help"),
    "prlimit": prefix_of("-o --output -p --pid", "--noheadings --raw --verbose"),
    "setarch": prefix_of("", "-B -F -I -L -R -S -T -X -Z -3 -v", 1),
    **dict.fromkeys(("linux32", "linux64", "i386", "x86_64"), prefix_of("", "-B -F -I -L -R -S -T -X -Z -3 -v")),
    "fakeroot": prefix_of("-l -s -i -b --lib --faked -f", "-u -v --unknown-is-real"),
    "numactl": prefix_of(
        "-i -p -N -m -C --interleave --cpunodebind --membind --physcpubind",
        "-l -b -s -H --localalloc --all --show --hardware",
    ),
    "entr": prefix_of("", "-a -c -d -n -p -r -x -z", 0, "-s"),
    "heaptrack": prefix_of("-o --output", "-r --record-only"),
    **dict.fromkeys(("eatmydata", "catchsegv", "chronic", "ifne", "ssh-agent", "tini", "dumb-init"), prefix_of()),
}
# Runners of the project's own tools: the runner finds the program, so an allow-list of names does not apply.
RUNNERS: dict[tuple[str, ...], Prefix] = {
    ("uv", "run"): prefix_of(
        "--with --python -p --extra --group --env-file --project --directory --package --with-requirements --index-url",
        "--no-sync --frozen --locked --isolated --all-extras --no-project --dev --no-dev --active -q --quiet -v --offline"
        " --exact --all-groups --no-config --no-cache -n -m --module -s --script",
    ),
    ("uv", "tool", "run"): prefix_of("--from --with --python -p", "-q --quiet --isolated --offline"),
    ("uvx",): prefix_of("--from --with --python -p", "-q --quiet --isolated --offline"),
    ("poetry", "run"): prefix_of(),
    ("pdm", "run"): prefix_of(),
    ("pipenv", "run"): prefix_of(),
    ("hatch", "run"): prefix_of(),
    ("pipx", "run"): prefix_of("--spec --python --pip-args", "--no-cache -q"),
    ("npx",): prefix_of("-p --package -w --workspace", "-y --yes -q --quiet --no --no-install", text="-c --call"),
    ("npm", "exec"): prefix_of("-p --package -w --workspace", "-y --yes --no", text="-c --call"),
    ("npm", "x"): prefix_of("-p --package -w --workspace", "-y --yes --no", text="-c --call"),
    ("pnpm", "exec"): prefix_of("", "-r --recursive --parallel", text="-c --shell-mode"),
    ("pnpm", "dlx"): prefix_of("--package", "--silent", text="-c --shell-mode"),
    ("yarn", "exec"): prefix_of(),
    ("yarn", "dlx"): prefix_of("-p --package", "-q"),
    ("bun", "x"): prefix_of("-p", "--bun"),
    ("bunx",): prefix_of("-p", "--bun"),
    ("bundle", "exec"): prefix_of(),
    ("perf", "stat"): prefix_of(
        "-e -p -t -C -r -x -o -I -D -G -M", "-a -B -d -dd -ddd -i -v -n -A -S --all-cpus --no-inherit"
    ),
    ("perf", "record"): prefix_of(
        "-e -p -t -C -c -F -o -m -D -G -u -r --call-graph --freq",
        "-a -b -d -g -i -k -n -q -s -v -z -R -S -T -W --all-cpus",
    ),
    ("perf", "trace"): prefix_of("-e -p -t -C -D -o -m -u --call-graph", "-a -f -F -i -s -S -v -T --all-cpus"),
    ("rr", "record"): prefix_of(
        "-c -o -D -u --num-cpu-ticks --output-trace-dir", "-n -h -w --chaos --no-syscall-buffer"
    ),
}


def text_of(word: Word, *, strict_sh: bool = True) -> Iterator[Inner]:
    yield (
        RunsText(word.text, strict_sh=strict_sh)
        if word.fixed or word.literal and not word.splits
        else Danger.DYNAMIC_COMMAND
    )


def joined(words: Sequence[Word], *, strict_sh: bool = True) -> Inner:
    if all(word.fixed for word in words):
        return RunsText(" ".join(word.text for word in words), strict_sh=strict_sh)
    return Danger.DYNAMIC_COMMAND


def after_prefix(arguments: Sequence[Word], prefix: Prefix) -> Iterator[Inner]:
    operands = prefix.operands
    options_end = False
    place = 0
    while place < len(arguments):
        word = arguments[place]
        option, has_value, value = word.text.partition("=")
        if option in prefix.text and word.literal:
            # flock takes one even behind its file and `--`.
            following = arguments[place + 1] if place + 1 < len(arguments) else UNKNOWN
            yield from text_of(Word(value) if has_value else following)
            return
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
        elif word.text in prefix.valued:
            place += 2
        elif word.text in prefix.plain or option.startswith("--") and has_value or _glued(word.text, prefix):
            place += 1
        else:
            # An option that is not known may have a value, and then another word is the command.
            yield Danger.DYNAMIC_COMMAND
            return


def _glued(text: str, prefix: Prefix) -> bool:
    """`-n5`, `-oL`, `-5`: a value in the same word; `-fq`: flags in one."""
    return (
        len(text) > 2
        and text[:2] in prefix.valued
        and not text.startswith("--")
        or text[1:].isdigit()
        or not text.startswith("--")
        and all(f"-{letter}" in prefix.plain for letter in text[1:])
    )
