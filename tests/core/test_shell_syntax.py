"""What a script would run is found wherever it stands, or the script is refused."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_spaces.core.policy.shell.analysis import analyse
from mcp_spaces.core.policy.shell.dangers import Danger
from mcp_spaces.core.policy.shell.syntax import parse
from mcp_spaces.core.policy.shell.words import Unparsable, Word, unquote


def names(script: str) -> list[str]:
    return [command.name for command in analyse(script).commands]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("a | b && c || d; e & f", ["a", "b", "c", "d", "e", "f"]),
        ("(a; b) && { c; }", ["a", "b", "c"]),
        ('echo "x $(a) `b`"', ["echo", "a", "b"]),
        ("diff <(a) >(b)", ["diff", "a", "b"]),
        ("x=$(a) y=1 b", ["a", "b"]),
        ("echo $((1 + $(a)))", ["echo", "a"]),
        ("echo ${x:-$(a)}", ["echo", "a"]),
        ("cat <<EOF\n$(a)\nEOF", ["cat", "a"]),
        ("cat <<'EOF'\n$(a)\nEOF", ["cat"]),
        ("cat <<-EOF\n\tx\n\tEOF\nb", ["cat", "b"]),
        ("cat <<< $(a)", ["cat", "a"]),
        ("b x/`a`/`c`.d", ["b", "a", "c"]),
        ("b=`if a; then c; fi`", ["a", "c"]),
        ("if a; then b; elif c; then d; else e; fi", ["a", "b", "c", "d", "e"]),
        ("for i in $(a); do b; done", ["a", "b"]),
        ("while a; do b; done < c", ["a", "b"]),
        ("case $(a) in x) b;; *) c;; esac", ["a", "b", "c"]),
        ("f() { a; }; f", ["a", "f"]),
        ("! a", ["a"]),
        ("time a", ["time", "a"]),
        ("coproc a", ["coproc", "a"]),
        ("time x=1 a", ["time", "a"]),
        ("[[ -f $(a) ]]", ["a"]),
        ("a # b\nc", ["a", "c"]),
        ("a \\\n  -x", ["a"]),
        ("export X=$(a)", ["a"]),
        ("python3 - <<'EOF'\nprint(1)\nEOF", ["python3"]),
        ("git commit -m \"$(cat <<'EOF'\nit is (done)\nEOF\n)\"", ["git", "cat"]),
    ],
)
def test_every_command_is_found(script: str, expected: list[str]) -> None:
    assert sorted(names(script)) == sorted(expected)


@pytest.mark.parametrize(
    "word",
    [
        "$a/$b.txt",
        "$a-$b.$c.d",
        "x/$a.$b/$c:$d,e",
        "$1/$2",
        '"$a"/$b.x"$c"/$d.y',
        "${a}/$b.x/$(b)/$c.y",
        "é$a/$b.é/$c.x",
        "PATH=$PATH:$HOME/bin",
    ],
)
@pytest.mark.parametrize(
    "script", ["a {}", "a {} b > {}", "x={} a", "export {}", "for x in {}; do a; done", "a >> {} 2>&1"]
)
def test_variables_within_a_word_do_not_end_it(script: str, word: str) -> None:
    read = parse(script.format(word, word))
    assert {command.name for command in read.commands} <= {"a", "b"}
    words = [one for command in read.commands for one in command.words[1:]]
    words += [redirection.target for redirection in read.redirections]
    assert not any(one.literal for one in words if one.text not in {"b", "1"})


@pytest.mark.parametrize("script", ["a/$b.c sudo", "x=$a/$b.c sudo", "a/$b.$(sudo)", "a/$b.`sudo`", "a >$b/$c.d; sudo"])
def test_what_follows_such_a_word_counts_as_ever(script: str) -> None:
    assert "sudo" in names("a " + script) or any(word.text == "sudo" for word in parse("a " + script).commands[0].words)


@pytest.mark.parametrize(
    "script",
    [
        "a \\ # ; sudo x",
        "a\f# ; sudo x",
        "a\r# ; sudo x",
        "su\\\ndo x",
        'echo "${x:-\'}" ; sudo x ; echo "\'}"',
        "echo ${x//a/`sudo`}",
        'echo "${x:-`sudo`}"',
        "echo `echo \\`sudo\\``",
        "cat <<EOF\nx\\\nEOF\ncat <<'Y'\nEOF\nsudo x\nY",
        "cat <<EOF\n`sudo`\nEOF",
        "cat <<-EOF\n\t$(sudo)\n\tEOF",
        "\nEOF\n\\\nsudo",
        "test ==\nsudo",
        '>" # "\\echo sudo',
        "time >b sudo",
        "find . >b -exec sudo {} +",
        "xargs <<EOF sudo\nx\nEOF",
        "export x\n\\\nsudo ls",
        "unset x\n\\\nsudo ls",
        "a b\\\\\n\\\nsudo ls",
        "a <<<b\n\\\nsudo ls",
        'a "$\\\n(sudo)"',
        'a "$\\\n`sudo`"',
        '[[ -n "b$\\\n(sudo)" ]]',
        "b=c`a`d",
        "for b in c`a`d; do a; done",
        "{a,sudo} b\ncoproc c { d\n}",
        "sh -c 'echo $'\"'a\\\\''; sudo; '\"",
        "dash -c '((sudo x))'",
        "sh -c '[[ a || sudo ]]'",
        "sh -c 'x=udo; eval s$\"x\"'",
        "sh -c 'x=udo; eval s$\"\"x'",
        "if sudo",
        "a 'b",
        "a )",
        "cat <<EOF\nsudo",
        "a\x00b",
        "a \u202e b",
        "a \udc80",
        "{sudo,ls} x",
        "a" * (64 * 1024 + 1),
        "$(" * 300 + "a" + ")" * 300,
    ],
)
def test_what_bash_may_read_otherwise_is_refused(script: str) -> None:
    with pytest.raises(Unparsable):
        analyse(script)


@pytest.mark.parametrize(
    ("most", "too_much"),
    [
        ("eval " * 16 + "ls", "eval " * 17 + "ls"),
        ("nice " * 16 + "ls", "nice " * 17 + "ls"),
        ("".join(f"cd d{n};" for n in range(20)), "".join(f"cd d{n};" for n in range(21))),
        ("xargs " + "x " * 10_000, "xargs " * 7 + "x " * 10_000),
        ("eval " * 5 + "x" * 60_000, "eval " * 15 + "x" * 60_000),
    ],
    ids=["scripts", "commands", "folders", "words", "characters"],
)
def test_what_takes_too_long_to_judge_is_refused(most: str, too_much: str) -> None:
    analyse(most)
    with pytest.raises(Unparsable, match=r"nested too deeply|too often"):
        analyse(too_much)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a", "a"),
        ('su"d"o', "sudo"),
        ("s\\udo", "sudo"),
        ("$'\\x73udo'", "sudo"),
        ("$'\\163\\165do'", "sudo"),
        ("$'\\u0073udo'", "sudo"),
        ("''sudo''", "sudo"),
        ('$"sudo"', "sudo"),
        ("'it'\"'\"'s'", "it's"),
        ('"a\\$b"', "a$b"),
        ('"a\\nb"', "a\\nb"),
        ("{}", "{}"),
        ("a\\\nb", "ab"),
        ('"a\\\nb"', "ab"),
    ],
)
def test_quotes_and_escapes_are_decoded(source: str, text: str) -> None:
    assert unquote(source) == Word(text)


@pytest.mark.parametrize(
    "source",
    ["a b", '"a\\', "a;b", "a\nb", "a>b", "a\\", "'a", '"a', "$'a", "$'a\\", "$'\\cx'", "$'\\x00'", "$'\\ud800'"],
)
def test_what_is_not_one_word_or_not_all_of_it_is_refused(source: str) -> None:
    with pytest.raises(Unparsable):
        unquote(source)


@pytest.mark.parametrize(
    "source", ["$x", '"$x"', '"$\\\nx"', "a$(b)", "`a`", "{a,b}", "a{1..3}", "~/x", "${x}", '"${x[@]}"']
)
def test_what_is_only_known_when_it_runs_is_not_literal(source: str) -> None:
    assert not unquote(source).literal


def test_a_function_is_known_only_after_it_surely_is_defined() -> None:
    known = {str(command): command.is_function for command in parse("f; f() { a; }; f 1; (g() { a; }); g").commands}
    assert known == {"f": False, "a": False, "f 1": True, "g": False}


_PIECES = [
    *(
        "sudo",
        "sudo",
        "sudo x",
        "a",
        " ",
        " ",
        "\n",
        ";",
        " # ",
        "#",
        "'",
        '"',
        "\\",
        "\\\n",
        "\\ ",
        "`",
        "$(",
        ")",
        "(",
    ),
    *(
        "{ ",
        "; }",
        "}",
        "${x:-",
        "${x//a/",
        "$'",
        "<<EOF\n",
        "\nEOF\n",
        "<<'EOF'\n",
        "|",
        "&&",
        "<(",
        ">b",
        "<",
        "((",
        "))",
    ),
    *(
        "[[ ",
        " ]]",
        "=",
        "x=",
        "if a; then ",
        "; fi",
        "case a in a) ",
        ";; esac",
        "f() ",
        "~",
        "\t",
        "echo ",
        "eval ",
        "time ",
    ),
    *(
        "-",
        "<<<",
        "@",
        "${#x}",
        '"$(',
        '"`',
        " \\\n",
        "export ",
        "test ",
        "coproc ",
        "2>&1",
        ">b ",
        "xargs ",
        "env ",
        "sh -c ",
    ),
    *("$a/$b.c", "/$b.", "$a", "$1.x", "-$b-c"),
]


@pytest.mark.parametrize(
    "script", ["{\U000ff891", "W{\U000c14cc\U00090c5a", "{\U0003ef85", "echo {é..ü} '日本' \U0001f600{1}"]
)
def test_characters_beyond_the_grammars_tables_crash_nothing(script: str) -> None:
    """Each of the first three once ended the process: the scanner reads outside of an array."""
    code = f"from mcp_spaces.core.policy.shell.analysis import analyse\ntry:\n analyse({script!a})\nexcept Exception as e:\n print(type(e).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_words_beyond_ascii_are_read_as_they_stand() -> None:
    script = parse("echo 'héllo' wörld 日本 > ünder.txt && sudo grün")
    assert [[word.text for word in command.words] for command in script.commands] == [
        ["echo", "héllo", "wörld", "日本"],
        ["sudo", "grün"],
    ]


@pytest.mark.parametrize("script", ["é=1 sudo", "cat <<é\nx\né\n", "cat <<..\né\nsudo\n..\n"])
def test_what_full_stops_would_change_is_refused_or_seen(script: str) -> None:
    with contextlib.suppress(Unparsable):
        assert parse(script).commands[0].name == "é=1"


@given(st.text(max_size=200) | st.lists(st.sampled_from(_PIECES), max_size=20).map("".join))
@settings(max_examples=600, deadline=None)
def test_any_text_is_analysed_or_refused(script: str) -> None:
    with contextlib.suppress(Unparsable):
        analyse(script)


@pytest.mark.skipif(shutil.which("bash") is None, reason="compares with bash itself")
def test_what_bash_runs_was_found(tmp_path: Path) -> None:
    """The claim of the whole module, tried on bash: what runs `sudo` there had a sudo, or an unknown name, in it here."""
    programs, work, mark = tmp_path / "bin", tmp_path / "work", tmp_path / "ran"
    programs.mkdir()
    work.mkdir()
    (programs / "sudo").write_text(f"#!/bin/sh\n: > {mark}\n")
    (programs / "sudo").chmod(0o755)
    (programs / "a").symlink_to("/bin/true")

    @given(st.lists(st.sampled_from(_PIECES), min_size=2, max_size=12).map("".join).filter(lambda text: "sudo" in text))
    @settings(max_examples=400, deadline=None)
    def compare(script: str) -> None:
        try:
            found = analyse(script)
        except Unparsable:
            return
        if any(command.name == "sudo" for command in found.commands):
            return
        if any(finding.danger is Danger.DYNAMIC_COMMAND for finding in found.findings):
            return
        mark.unlink(missing_ok=True)
        subprocess.run(
            ["/bin/bash", "-c", script],
            cwd=work,
            env={"PATH": str(programs)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
        assert not mark.exists()

    compare()
