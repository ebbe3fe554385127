"""Commands are judged by what they would run, however it is written, and never for long."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import ShellFacts
from mcp_spaces.core.policy import explain, load_preset
from mcp_spaces.core.policy.verdict import Answer
from tests.core.everyday_commands import ALLOWED
from tests.core.judged_bypasses import BYPASSES
from tests.core.judged_commands import JUDGED
from tests.core.verdicts import shell


@pytest.mark.parametrize("command", [*ALLOWED, "cat <<'EOF' > x.py\nprint('$(sudo)')\nEOF\nls"])
@pytest.mark.parametrize("preset", ["standard", "permissive"])
def test_everyday_commands_run(command: str, preset: str) -> None:
    verdict = shell(command, preset)
    assert verdict.decision is Answer.ALLOW, verdict


@pytest.mark.parametrize(("standard", "rule", "permissive", "command"), [*JUDGED, *BYPASSES])
def test_commands_are_judged_by_what_they_would_run(standard: str, rule: str, permissive: str, command: str) -> None:
    verdict = shell(command)
    assert (verdict.decision, verdict.rule) == (standard, rule), verdict
    assert verdict.reason and verdict.suggestion
    assert shell(command, "permissive").decision == permissive


@pytest.mark.parametrize("command", ["ls", "true", "", "echo 'a"])
def test_restrictive_runs_no_command(command: str) -> None:
    assert (shell(command, "restrictive").decision, shell(command, "restrictive").rule) == ("deny", "shell.mode")


_WRAPPERS: list[Callable[[str], str]] = [
    lambda inner: f"sh -c {shlex.quote(inner)}",
    lambda inner: f"bash -c {shlex.quote(inner)}",
    lambda inner: f"eval {shlex.quote(inner)}",
    lambda inner: f"env A=1 sh -c {shlex.quote(inner)}",
    lambda inner: f"echo $({inner}\n)",
    lambda inner: f'echo "$({inner}\n)"',
    lambda inner: f"ls | ({inner}\n)",
    lambda inner: f"xargs -n1 sh -c {shlex.quote(inner)}",
    lambda inner: f"if true; then {inner}\nfi",
    lambda inner: f"for x in a; do {inner}\ndone",
    lambda inner: f"f() {{ {inner}\n}}",
    lambda inner: f"ls && {inner}\nls",
    lambda inner: f"find . -exec sh -c {shlex.quote(inner)} \\;",
    lambda inner: f"timeout 5 nice -n 3 bash -c {shlex.quote(inner)}",
    lambda inner: f"cat <({inner}\n)",
    lambda inner: f"trap {shlex.quote(inner)} EXIT",
    lambda inner: f"x=$({inner}\n) ls",
]


@given(
    st.sampled_from([row[3] for row in JUDGED if row[0] == "deny"]),
    st.lists(st.sampled_from(_WRAPPERS), min_size=1, max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_a_denied_command_stays_denied_however_it_is_wrapped(
    command: str, wrappers: list[Callable[[str], str]]
) -> None:
    for wrap in wrappers:
        command = wrap(command)
    assert shell(command).decision is Answer.DENY


def test_the_verdict_lists_the_commands_that_were_judged() -> None:
    assert shell("ls -l | sh -c 'wc -l'").commands == ("ls -l", "sh -c wc -l", "wc -l")
    assert "sudo tee x" in shell("ls | sudo tee x").reason


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "command",
    [
        "ls " * 20_000,
        "ls;" * 20_000,
        "ls # c\n" * 9_000,
        "cat <<E\nx\nE\n" * 5_000,
        f"sed '{'1,' * 2_000}'",
        f"sed '{'/a/' * 1_000}'",
        f"sed 's/{chr(92) * 4_000}'",
        f"sed '{'s/' * 30_000}'",
        f"awk '{'|   ' * 1_000}'",
        f"chmod {'u+x,' * 15_000} x",
        f"git -c {'a.' * 30_000}=1 x",
        f"cat {'*' * 60_000}a",
        f"cat {'../' * 20_000}x",
        "$(ls " * 150 + ")" * 150,
        "cd a;" * 2_000 + "cat b;" * 4_000,
        "".join(f"cd {place};" for place in range(3_000)) + "cat b;" * 2_000,
        "parallel " * 15 + "x " * 25_000,
        "xargs " * 15 + "x " * 25_000,
        "find . -exec " * 15 + "x " * 25_000,
    ],
)
def test_no_command_holds_the_daemon_up(command: str) -> None:
    shell(command)


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        (ShellFacts("tee pre-commit", cwd=".git/hooks"), "files.blocked_paths"),
        (ShellFacts("ls", variables=("NAME", "PATH")), "shell.environment"),
        (ShellFacts("git log", variables=("GIT_PAGER",)), "shell.environment"),
    ],
)
def test_where_a_command_starts_and_what_it_is_given_counts(facts: ShellFacts, rule: str) -> None:
    found = explain(load_preset("standard"), operation_id="sandbox.shell", effect=Effect.EXECUTES, facts=facts)
    assert (found.decision, found.rule) == (Answer.DENY, rule)
    assert shell(facts.command).decision is Answer.ALLOW
