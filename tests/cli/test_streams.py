"""Standard streams that are closed, or that nobody reads: a command ends quietly, and writes nowhere else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import MAIN, ROOT, environment
from tests.cli.conftest import PATIENCE_S, Daemon

UNREAD = 141
WORDS = [
    ("list", "--json"),
    ("principal", "list"),
    ("runs", "--json"),
    ("--help",),
    ("space", "--help"),
    ("--version",),
]


def ended(words: tuple[str, ...], redirection: str, state_dir: Path) -> tuple[int, str, str]:
    """Exit code, output and errors of a command line with such a redirection, as a shell makes it."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *MAIN, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(state_dir),
        cwd=ROOT,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_an_answer_that_nobody_reads_ends_a_command_as_sigpipe_does(daemon: Daemon, words: tuple[str, ...]) -> None:
    unread, end = os.pipe()
    os.close(unread)
    with os.fdopen(end, "wb") as output:
        done = subprocess.run(
            [*MAIN, *words],
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=PATIENCE_S,
            env=environment(daemon.state_dir),
            cwd=ROOT,
        )
    assert (done.returncode, done.stderr) == (UNREAD, b"")


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_a_closed_output_ends_a_command_as_quietly(daemon: Daemon, words: tuple[str, ...]) -> None:
    assert ended(words, ">&-", daemon.state_dir) == (UNREAD, "", "")


def test_an_error_that_nobody_reads_is_as_quiet(daemon: Daemon) -> None:
    unread, end = os.pipe()
    os.close(unread)
    with os.fdopen(end, "wb") as errors:
        for words in (("space", "get", "nowhere"), ("no-such-command",)):
            done = subprocess.run(
                [*MAIN, *words],
                stdout=subprocess.PIPE,
                stderr=errors,
                timeout=PATIENCE_S,
                env=environment(daemon.state_dir),
                cwd=ROOT,
            )
            assert (done.returncode, done.stdout) == (UNREAD, b"")


def test_without_standard_errors_the_exit_code_is_what_is_left(daemon: Daemon) -> None:
    assert ended(("space", "get", "nowhere"), "2>&-", daemon.state_dir) == (1, "", "")
    assert ended(("no-such-command",), "2>&-", daemon.state_dir) == (2, "", "")


def test_without_standard_input_there_is_nothing_to_read(daemon: Daemon) -> None:
    code, _, errors = ended(("vault", "set", "a/b"), "<&-", daemon.state_dir)
    assert code == 2
    assert "standard input holds no value" in errors


def test_a_shim_without_standard_streams_leaves(daemon: Daemon) -> None:
    assert ended(("stdio",), "<&- >&-", daemon.state_dir) == (0, "", "")


def test_nothing_that_is_opened_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What some library says to people would be written there: into a database, or to the daemon."""
    told = tmp_path / "told"
    opened = f"import os; from mcp_spaces.cli import streams; streams.open_closed(); open({str(told)!r}, 'w').write(str(os.dup(0)))"
    command = ["/bin/sh", "-c", '"$@" <&- >&- 2>&-', "sh", MAIN[0], "-c", opened]
    subprocess.run(command, timeout=PATIENCE_S, cwd=ROOT, check=True)
    assert int(told.read_text()) > 2


def test_what_is_forwarded_where_nobody_reads_is_no_broken_daemon(daemon: Daemon) -> None:
    daemon.call("space.create", name="work")
    try:
        daemon.call("sandbox.launch", space="work")
        told = ended(("port-forward", "work", "main", "8000", "0"), ">&-", daemon.state_dir)
    finally:
        daemon.call("space.delete", space="work", force=True)
    assert told == (UNREAD, "", "")
