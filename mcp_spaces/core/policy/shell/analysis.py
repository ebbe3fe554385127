"""A script as policy sees it: the commands it would run, what is dangerous in them, the paths they name.

Knows no policy: the same script always gives the same analysis.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from mcp_spaces.core.policy.shell.arithmetic import variables_set
from mcp_spaces.core.policy.shell.dangers import (
    WORKSPACE,
    Danger,
    Finding,
    dangers,
    is_outside,
    operands_of,
)
from mcp_spaces.core.policy.shell.git import git
from mcp_spaces.core.policy.shell.prefixes import Enters, Inner, RunsFile, RunsText, RunsWords, Sets
from mcp_spaces.core.policy.shell.script import Assignment, Command
from mcp_spaces.core.policy.shell.syntax import parse
from mcp_spaces.core.policy.shell.variables import (
    PROGRAM_VARIABLES,
    assignments,
    changes_execution,
    may_change_execution,
    options_begin,
    references,
)
from mcp_spaces.core.policy.shell.words import Unparsable, Word
from mcp_spaces.core.policy.shell.wrappers import inner

_MAX_NESTING = 16
# Characters read and words judged, in all nested scripts together: a few times what one long script needs.
_MAX_WORK = 600_000
_MAX_FOLDERS = 20
# They re-read their arguments, as array subscripts, and run what they find there.
_EVALUATES_SUBSCRIPTS = frozenset(
    {"test", "let", "read", "mapfile", "readarray", "wait", "getopts", "printf", "declare", "unset"}
)
# They run a command once for each of many files, and whatever that runs in turn: an `rm` in it takes a tree.
_REPEATS = frozenset({"find", "xargs", "fd", "fdfind", "parallel", "rg", "mapfile", "readarray", "entr"})
# As a script's file: what comes in by a descriptor.
_READS_INPUT = re.compile(r"/(?:dev/(?:stdin|fd/\d+)|proc/[^/]+/fd/\d+)\Z")
_REMOVES = frozenset({"rm", "unlink", "shred"})
# What they print or take as text names no file.
_TAKES_TEXT = frozenset({"echo", "printf"})


@dataclass(slots=True)
class Analysis:
    commands: list[Command] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    paths: list[Word] = field(default_factory=list)
    folders: list[Word] = field(default_factory=list)
    """Where `cd` and the like lead: paths may be meant from there."""
    assigned: dict[str, list[Word]] = field(default_factory=dict)
    references: set[str] = field(default_factory=set)
    """Variables that stand for the one whose name they are given."""
    unset: list[Word] = field(default_factory=list)
    work: int = 0

    def spend(self, work: int, *, depth: int) -> None:
        self.work += work
        if depth > _MAX_NESTING or self.work > _MAX_WORK:
            raise Unparsable("it is too long, or nested too deeply")

    @property
    def wanders(self) -> bool:
        """May it leave the workspace's own folders, so that a relative path means something else?"""
        return any(not folder.fixed or _leaves(folder.text) for folder in self.folders)


def analyse(source: str) -> Analysis:
    """Raises Unparsable: some part, however deep, could be read in several ways."""
    found = Analysis()
    _script(found, source, depth=0, strict_sh=False)
    _referred(found)
    found.commands = list(_functions_or_programs(found))
    if len({folder.text for folder in found.folders}) > _MAX_FOLDERS:
        raise Unparsable("it changes the folder too often")
    return found


def _script(found: Analysis, source: str, *, depth: int, strict_sh: bool, repeated_by: str = "") -> None:
    found.spend(len(source), depth=depth)
    script = parse(source, strict_sh=strict_sh)
    found.paths.extend(redirection.target for redirection in script.redirections)
    for assignment in script.assignments:
        _assigned(found, assignment, command="", text=source[:120], depth=depth)
    for declaration in script.declarations:
        found.spend(10 * len(declaration.words), depth=depth)
        _sets(found, declaration.name, declaration.words[1:], text=str(declaration), depth=depth)
    for text in script.evaluated:
        if _substitutes(text):
            found.findings.append(Finding(Danger.DYNAMIC_COMMAND, text[:120]))
    for command in script.commands:
        _command(found, command, depth=depth, repeated_by=repeated_by)


def _substitutes(text: str) -> bool:
    return "$(" in text or "`" in text or "${" in text


def _assigned(found: Analysis, assignment: Assignment, *, command: str, text: str, depth: int) -> None:
    value = assignment.value
    if not assignment.name_known:
        if may_change_execution(assignment.name):
            found.findings.append(Finding(Danger.EXECUTION_VARIABLES, text))
        return
    found.assigned.setdefault(assignment.name, []).append(value)
    if changes_execution(assignment.name, command=command):
        found.findings.append(Finding(Danger.EXECUTION_VARIABLES, f"{assignment.name}={value.text}"))
    if assignment.name in PROGRAM_VARIABLES:
        if not value.literal:
            found.findings.append(Finding(Danger.DYNAMIC_COMMAND, text))
        elif value.text:
            _script(found, value.text, depth=depth + 1, strict_sh=True)
    elif value.literal and _substitutes(value.text):
        # `x='a[$(id)]'` runs id wherever x is used as a number.
        found.findings.append(Finding(Danger.DYNAMIC_COMMAND, f"{assignment.name}={value.text}"[:120]))
    found.paths.append(value)


def _command(found: Analysis, command: Command, *, depth: int, repeated_by: str = "") -> None:
    """`repeated_by`: the command that runs this one for each of many files, however far outside it stands."""
    found.spend(10 * len(command.words), depth=depth)
    text = str(command)
    first, *arguments = command.words
    found.commands.append(command)
    name = posixpath.basename(first.text)
    for assignment in command.assignments:
        _assigned(found, assignment, command=name, text=text, depth=depth)
    if not first.fixed:
        found.findings.append(Finding(Danger.DYNAMIC_COMMAND, text))
        return
    if "/" in first.text and is_outside(first.text):
        found.findings.append(Finding(Danger.OUTSIDE_PROGRAMS, text))
    if name in {"cd", "pushd"}:
        found.folders.extend(arguments or [Word("~", literal=False)])
    _sets(found, name, arguments, text=text, depth=depth)
    if (name == "set" or command.is_function) and any(_substitutes(word.text) for word in arguments):
        # As `$1` they may stand where bash evaluates them as a number.
        found.findings.append(Finding(Danger.DYNAMIC_COMMAND, text))
    if name in _EVALUATES_SUBSCRIPTS:
        for word in _subscripts(name, arguments):
            for variable in variables_set(word.text if name == "let" else word.text.partition("[")[2]):
                _assigned(found, Assignment(variable, Word("0")), command="", text=text, depth=depth)
    if name in _EVALUATES_SUBSCRIPTS and any(_substitutes(word.text) for word in _subscripts(name, arguments)):
        found.findings.append(Finding(Danger.DYNAMIC_COMMAND, text))
    found.paths.extend(_path_arguments(name, arguments))
    found.findings.extend(dangers(name, arguments, command=text))
    if command.over_output and not repeated_by and not all(word.literal for word in arguments):
        repeated_by = text
    if repeated_by and name in _REMOVES:
        found.findings.append(Finding(Danger.RECURSIVE_DELETE, repeated_by, operands_of(arguments)))
    if name in _REPEATS:
        repeated_by = text
    if name == "git":
        for part in git(arguments, command=text):
            if isinstance(part, Finding):
                found.findings.append(part)
            else:
                _inner(found, part, text=text, depth=depth, repeated_by=repeated_by)
        found.folders.extend(arguments[at + 1] for at, word in enumerate(arguments[:-1]) if word.text == "-C")
    for run in inner(name, arguments):
        _inner(found, run, text=text, depth=depth, repeated_by=repeated_by)


def _inner(found: Analysis, run: Inner, *, text: str, depth: int, repeated_by: str) -> None:
    match run:
        case RunsWords(words, trusted_name):
            _command(found, Command(words, trusted_name=trusted_name), depth=depth + 1, repeated_by=repeated_by)
        case RunsText(script, strict_sh):
            _script(found, script, depth=depth + 1, strict_sh=strict_sh, repeated_by=repeated_by)
        case RunsFile(path):
            # A bare name that is no file here is looked for in PATH.
            found.commands.append(Command((Word(path),), trusted_name=True))
            if is_outside(path):
                found.findings.append(Finding(Danger.OUTSIDE_PROGRAMS, text))
            if _READS_INPUT.match(path):
                found.findings.append(Finding(Danger.DYNAMIC_COMMAND, text))
        case Enters(folder):
            found.folders.append(folder)
        case Sets(name, value):
            _assigned(found, Assignment(name, value), command="env", text=text, depth=depth)
        case _:
            found.findings.append(Finding(run, text))


def _sets(found: Analysis, name: str, arguments: Sequence[Word], *, text: str, depth: int) -> None:
    found.references.update(references(name, arguments))
    for assignment in assignments(name, arguments):
        _assigned(found, assignment, command="", text=text, depth=depth)
    if name == "unset":
        found.unset += arguments


def _referred(found: Analysis) -> None:
    for reference in found.references:
        given = found.assigned.get(reference, [])
        for value in given:
            # One that is only read does no harm, whatever it stands for.
            if changes_execution(value.text, command="") if value.fixed else len(given) > 1:
                found.findings.append(Finding(Danger.EXECUTION_VARIABLES, f"{reference}={value.text}"))


def _functions_or_programs(found: Analysis) -> Iterator[Command]:
    """A function that may have been unset since stands for a program of that name."""
    names = {word.text for word in found.unset if word.fixed}
    starts = tuple({word.text for word in found.unset if not word.fixed})
    called = {command.name for command in found.commands if command.is_function}
    gone = {name for name in called if name in names or name.startswith(starts)}
    for command in found.commands:
        yield replace(command, is_function=command.is_function and command.name not in gone)


def _subscripts(name: str, arguments: Sequence[Word]) -> Sequence[Word]:
    if name == "printf":
        return arguments if options_begin(arguments, "-v") else ()
    return arguments


def _path_arguments(name: str, arguments: Sequence[Word]) -> Sequence[Word]:
    if name in _TAKES_TEXT:
        return ()
    if name == "git" and any(word.text == "commit" or word.text == "tag" for word in arguments[:4]):
        return [word for at, word in enumerate(arguments) if not _is_message(arguments, at)]
    if name == "jq" and not any(word.text in {"-f", "--from-file"} for word in arguments):
        filters = [at for at, word in enumerate(arguments) if not word.text.startswith("-")]
        return [word for at, word in enumerate(arguments) if filters[:1] != [at]]
    return arguments


def _is_message(arguments: Sequence[Word], at: int) -> bool:
    text = arguments[at].text
    before = arguments[at - 1].text if at else ""
    clustered = before.startswith("-") and not before.startswith("--") and before.endswith("m")
    return clustered or before == "--message" or text.startswith(("--message=", "-m"))


def _leaves(folder: str) -> bool:
    normal = posixpath.normpath(folder)
    if normal.startswith("/"):
        return normal != WORKSPACE and not normal.startswith(WORKSPACE + "/")
    return normal.startswith(("..", "-", "~"))
