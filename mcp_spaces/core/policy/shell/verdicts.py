"""The rules about commands. The first wall: the container is the second, and the stronger."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import assert_never

from mcp_spaces.core.facts import ShellFacts
from mcp_spaces.core.policy.files import blocked_by_glob, blocking_pattern, paths_in
from mcp_spaces.core.policy.model import Policy, Shell, ShellMode
from mcp_spaces.core.policy.shell.analysis import Analysis, analyse
from mcp_spaces.core.policy.shell.dangers import (
    SYSTEM_FOLDERS,
    Danger,
    Finding,
    inside_folders,
)
from mcp_spaces.core.policy.shell.script import Command
from mcp_spaces.core.policy.shell.variables import PROGRAM_VARIABLES, changes_execution
from mcp_spaces.core.policy.shell.words import Unparsable, Word
from mcp_spaces.core.policy.verdict import ALLOWED, Answer, Decision, Deny, decision_for, strictest

# What the shell itself does in its own process. Not here, so refused unless listed: alias, enable, hash, bind,
# complete, fc, history.
BUILTINS = frozenset(
    ": . [ [[ break builtin caller cd command continue coproc declare dirs disown echo eval exec exit export false fg bg"
    " getopts jobs kill let local mapfile popd printf pushd pwd read readarray readonly return set shift shopt source"
    " test time times trap true type typeset ulimit umask unset wait".split()
)
# `python3.11`, `gcc-13`: a listed name with a version.
_VERSION = re.compile(
    r"(python|pip|gcc|g\+\+|cpp|clang|clang\+\+|node|java|javac|pypy|lua|ruby|perl|go)[-]?\d+(?:\.\d+)*\Z"
)

_SUGGESTIONS: dict[Danger, str] = {
    Danger.DYNAMIC_COMMAND: "Write the command's name out, and the script as a literal, so that it can be judged.",
    Danger.HIDDEN_COMMAND: "Run the inner program as a command of its own.",
    Danger.EXECUTION_VARIABLES: "Leave the variable alone and call the program by its path in the workspace.",
    Danger.OUTSIDE_PROGRAMS: "Call an installed program by its name, or one in the workspace by a relative path.",
    Danger.RECURSIVE_DELETE: "Delete single files, or only inside {folders}.",
    Danger.RECURSIVE_PERMISSIONS: "Change the mode of single files.",
    Danger.SETUID_BITS: "Use an ordinary mode such as 755: setuid programs gain nothing in a sandbox.",
    Danger.GIT_PUSH: "Commit, and leave the push to a person.",
    Danger.PUBLISH: "Build the package, and leave publishing to a person.",
}
_REASONS: dict[Danger, str] = {
    Danger.DYNAMIC_COMMAND: "`{command}` decides only when it runs which command it runs.",
    Danger.HIDDEN_COMMAND: "`{command}` can make the program run another one unseen.",
    Danger.EXECUTION_VARIABLES: "`{command}` changes which code programs run.",
    Danger.OUTSIDE_PROGRAMS: "`{command}` runs a file outside the workspace and the system's program folders.",
    Danger.RECURSIVE_DELETE: "`{command}` deletes a tree that is not surely a build folder.",
    Danger.RECURSIVE_PERMISSIONS: "`{command}` changes owner or mode of a whole tree.",
    Danger.SETUID_BITS: "`{command}` sets a setuid or setgid bit.",
    Danger.GIT_PUSH: "`{command}` pushes commits out of the space.",
    Danger.PUBLISH: "`{command}` publishes a package.",
}


def decide_shell(policy: Policy, facts: ShellFacts) -> tuple[Decision, tuple[str, ...]]:
    """The verdict on a command line, and the commands that were judged for it."""
    if policy.shell.mode is ShellMode.NONE:
        return Deny("shell.mode", "This policy allows no commands.", "Use the file operations instead."), ()
    try:
        found = analyse(facts.command)
    except Unparsable as problem:
        return Deny(
            "shell.syntax",
            f"The command cannot be parsed: {problem}.",
            "Write it as plain bash, or put it into a script file in the workspace.",
        ), ()
    if facts.cwd != ".":
        found.folders.append(Word(facts.cwd))
    judged = tuple(str(part) for part in found.commands)
    return strictest(ALLOWED, *_verdicts(policy, found), *_variables(policy.shell, facts.variables)), judged


def _verdicts(policy: Policy, found: Analysis) -> Iterator[Decision]:
    wanders = found.wanders
    for command in found.commands:
        yield _named(policy.shell, command, wanders=wanders)
    for finding in found.findings:
        yield _dangerous(policy.shell, finding, wanders=wanders)
    yield from _paths(policy, found)


def _variables(shell: Shell, names: Sequence[str]) -> Iterator[Decision]:
    """Those that are set beside the command: one that changes what it runs has to be written in it, to be judged."""
    if shell.mode is ShellMode.ALL and shell.execution_variables is Answer.ALLOW:
        return
    for name in names:
        if changes_execution(name, command="") or name in PROGRAM_VARIABLES:
            yield Deny(
                "shell.environment",
                f"The variable {name} changes which code runs.",
                "Leave it out, or call the program by its path.",
            )


def _named(shell: Shell, command: Command, *, wanders: bool) -> Decision:
    first = command.words[0]
    name = posixpath.basename(first.text)
    if not first.fixed:
        return ALLOWED
    if name in shell.blocked:
        return Deny(
            "shell.blocked",
            f"`{name}` is blocked, in `{command}`.",
            "Do it without that program: nothing in a sandbox needs more rights than it has.",
        )
    match shell.mode:
        case ShellMode.ALL:
            return ALLOWED
        case ShellMode.CURATED:
            if command.is_function or command.trusted_name or _listed(shell, first.text, name, wanders=wanders):
                return ALLOWED
            return Deny(
                "shell.commands",
                f"`{name}` is not among the allowed commands, in `{command}`.",
                "Use an allowed command or a script in the workspace; context_get topic=rules detail=full lists them.",
            )
        case ShellMode.NONE:
            return Deny("shell.mode", "This policy allows no commands.", "Use the file operations instead.")
        case unreachable:
            assert_never(unreachable)


def _listed(shell: Shell, path: str, name: str, *, wanders: bool) -> bool:
    if "/" in path and posixpath.dirname(posixpath.normpath(path)) not in SYSTEM_FOLDERS:
        # A program of the workspace; one elsewhere is a danger of its own. After `cd ..` it could be any.
        return not wanders or path.startswith("/")
    if name in shell.commands or "/" not in path and name in BUILTINS:
        return True
    version = _VERSION.match(name)
    return version is not None and version.group(1) in shell.commands


def _dangerous(shell: Shell, finding: Finding, *, wanders: bool) -> Decision:
    danger = finding.danger
    in_build_folders = finding.operands and all(inside_folders(word, shell.build_folders) for word in finding.operands)
    if danger is Danger.RECURSIVE_DELETE and in_build_folders and not wanders:
        return ALLOWED
    answer: Answer = getattr(shell, danger.value)
    folders = ", ".join(f"{folder}/" for folder in shell.build_folders[:4]) or "no folder at all"
    return decision_for(
        answer,
        rule=f"shell.{danger}",
        reason=_REASONS[danger].format(command=finding.command.replace("{", "(").replace("}", ")")),
        suggestion=_SUGGESTIONS[danger].format(folders=folders),
    )


def _paths(policy: Policy, found: Analysis) -> Iterator[Decision]:
    patterns = policy.files.blocked_paths
    folders = {folder.text for folder in found.folders if folder.text and folder.fixed}
    for word in found.paths:
        for path in paths_in(word.text):
            pattern = blocking_pattern(path, patterns) or (blocked_by_glob(path, patterns) if word.glob else None)
            for folder in folders:
                pattern = pattern or blocking_pattern(f"{folder}/{path}", patterns)
            if pattern is not None:
                yield Deny(
                    "files.blocked_paths",
                    f"`{word.text[:80]}` names a path that the pattern {pattern} blocks.",
                    "Leave that file alone; keep secrets in the vault and refer to them.",
                )
