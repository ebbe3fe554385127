"""An awk program that would run another one is seen."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_spaces.core.policy.shell.awk import executes
from mcp_spaces.core.policy.shell.words import Word


def runs(*arguments: str) -> bool:
    return executes([Word(argument) for argument in arguments])


@pytest.mark.parametrize(
    "program",
    [
        "{ print | $2 }",
        "{ $1 | getline }",
        'BEGIN { c = "m"; print 1 | c "" }',
        'BEGIN { c = "m"; print 1 | c # }\n}',
        'BEGIN { c[1] = "m"; print 1 | c[1] }',
        'BEGIN { print 1 | ENVIRON["c"] }',
        'BEGIN { print 1 | "/" "m" }',
        'BEGIN { x = 6 / 2; print 1 | "m"; y = 6 / 2 }',
        'BEGIN { x[1] = 6; print x[1] / 2 | "m"; y = 1 / 2 }',
        'BEGIN { x = 6; print x++ / 2 | "m"; y = 1 / 2 }',
        'BEGIN { print (6) / 2 | "m"; y = 1 / 2 }',
        'BEGIN { if (1) /"/; print 1 | c; if (1) /"/ }',
        'BEGIN { getline /"/; print 1 | c; getline /"/ }',
        'BEGIN { x = "6" / 2; print 1 | c; y = "6" / 2 }',
        'BEGIN { x = /[]/"]/; print 1 | c; y = /"/ }',
        'BEGIN { print /"/ | "m"; y = "\\"" }',
        "/[/]/ { print }",
        '{ print "open',
        'BEGIN { "m" \\\n | getline }',
        'BEGIN { "m" |& getline }',
        'BEGIN { f = "system"; @f("m") }',
        'BEGIN { system ("m") }',
        'BEGIN { print 1system("m") }',
    ],
)
def test_what_runs_another_or_is_not_understood_counts(program: str) -> None:
    assert runs(program, "x")


@pytest.mark.parametrize(
    "arguments",
    [
        ("-F|", "{ print $2 }"),
        ("-F", "|", "-v", "x=a|b", "{ print x }", "a|b"),
        ('{ print $1 "|" $2 }',),
        ("/a|b/ { print } !/c|d/",),
        ("$1 ~ /^(a|b)$/ || /c/ { n++ }",),
        ('{ gsub(/"|\'/, ""); split($0, a, "|"); print a[1] }',),
        ("{ s += $1 } END { print s / NR, (s + 1) / 2 }",),
        ('{ print "it said \\"a|b\\"" } # a | b',),
        ("BEGIN { systems = 1; print systems }",),
        ("-f", "x.awk", "a|b"),
        ("--posix", "--", "{ print }"),
        ("--field-separator=|", "--assign", "x=|", "/[a|b]/"),
    ],
)
def test_text_and_patterns_run_nothing(arguments: tuple[str, ...]) -> None:
    assert not runs(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("-e", "{ print | c }"),
        ("--source={ print | c }", "x"),
        ("-l", "x", "{ }"),
        ("--load=x", "{ }"),
        ("-W", "x", "{ }"),
    ],
)
def test_a_program_is_found_where_options_put_it(arguments: tuple[str, ...]) -> None:
    assert runs(*arguments)


def test_a_program_that_goes_on_with_a_variable_is_judged_as_far_as_it_is_known() -> None:
    assert not executes([Word("/", literal=False)])
    assert executes([Word('{ print | "', literal=False)])


@pytest.mark.parametrize(("length", "found"), [(4_096, False), (4_097, True)])
def test_a_program_that_is_too_long_to_read_counts_as_one_that_executes(length: int, found: bool) -> None:
    assert runs("1" * length) is found


_PIECES = (
    '"m"~"~/~ ~;~\n~\\~{~}~{ print ~print 1~ | ~|~||~$1~(~)~[~]~[1]~#~, ~!~ ~ c~x~2~=~+~++~-~ getline~if (1) ~BEGIN~BEGIN { c = "m" } ~/a/~/"/'
    '~/[/~" "~ "" ~printf~system("m")~system~in ~1/2~c = "m"; print 1 | c~}\n{'
).split("~")


@pytest.mark.skipif(shutil.which("awk") is None, reason="compares with awk itself")
def test_what_awk_runs_was_found(tmp_path: Path) -> None:
    programs, work, mark = tmp_path / "bin", tmp_path / "work", tmp_path / "ran"
    programs.mkdir()
    work.mkdir()
    (programs / "m").write_text(f"#!/bin/sh\n: > {mark}\n")
    (programs / "m").chmod(0o755)
    awk = shutil.which("awk") or ""

    @given(st.lists(st.sampled_from(_PIECES), min_size=2, max_size=10).map("".join))
    @settings(max_examples=300, deadline=None)
    def compare(program: str) -> None:
        if runs("--", program):
            return
        mark.unlink(missing_ok=True)
        subprocess.run(
            [awk, "--", program],
            cwd=work,
            env={"PATH": str(programs)},
            input=b"m m\n",
            capture_output=True,
            timeout=10,
            check=False,
        )
        assert not mark.exists()

    compare()
