"""Commands that are started without a shell are read as bash reads them."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_spaces.sandbox.plain import _PLAIN, plain_words

SAME_AS_PROGRAMS = {"true", "false"}
PIECES = st.sampled_from(
    [*"abzA09_./+,:@%=- ~*?[]{}!$`'\"\\;|&<>()#^\t\n\0é", "  ", "--", "=b", "a.txt", "{a,b}", "~root"]
)


def bash(script: str) -> bytes:
    return subprocess.run(["bash", "-c", "--", script], capture_output=True, check=True, timeout=30).stdout


def test_a_program_and_its_words_are_plain() -> None:
    assert plain_words("python3 -m  pytest tests/a.py::test_b --color=no -k a,b@1%") == (
        *("python3", "-m", "pytest", "tests/a.py::test_b", "--color=no", "-k", "a,b@1%"),
    )
    assert plain_words("true") == ("true",)


OF_THE_SHELL = (
    "| ls |ls *.py|A=1|A=1 env|cd src|[ -f a ]|echo a|time ls|ls > a|ls;ls|ls &|ls\n|ls\tb|~/tool|a ~|a b=~|{a,b}|ls $HOME"
    "|ls `id`|cat 'a'|a\\b|ls # all|!ls|é|ls é|ls a\0b|(ls)|ls ^a|pwd|exit 3|if true|function f|ls "
).split("|")


@pytest.mark.parametrize("command", [*OF_THE_SHELL, "ls | wc", "ls || true"])
def test_whatever_else_is_the_shells(command: str) -> None:
    assert plain_words(command) is None


def test_no_builtin_and_no_keyword_of_bash_is_plain() -> None:
    of_bash = set(bash("compgen -bk").decode().split())
    assert len(of_bash) > 70
    assert {word for word in of_bash if plain_words(word)} <= SAME_AS_PROGRAMS


@given(st.from_regex(_PLAIN, fullmatch=True) | st.lists(PIECES, max_size=12).map("".join))
@example("a b=c:d -x=+y, %1 @2")
@settings(max_examples=300, deadline=None)
def test_bash_makes_the_same_words_of_what_is_plain(command: str) -> None:
    words = plain_words(command)
    if words is not None:
        assert bash(f"printf '%s\\0' {command}").decode().split("\0")[:-1] == list(words)
