"""A command's output at its bounds: what is counted, kept, cut and left on the disk."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_spaces.core.redaction import Redactor
from mcp_spaces.sandbox.output import HEAD_BYTES, TAIL_BYTES, Capture
from mcp_spaces.sandbox.port import Stream

SECRET = "correct-horse-battery-staple-" * 4


def files(folder: Path) -> Callable[[], Path]:
    """Fresh names in it."""
    names = iter(range(100))
    return lambda: folder / str(next(names))


def knowing(*secrets: str) -> Redactor:
    redactor = Redactor()
    for secret in secrets:
        redactor.learn(secret, name="prod/key")
    return redactor


def test_l11_d06_what_came_counts_though_less_of_it_is_shown(tmp_path: Path) -> None:
    cut: list[bool] = []
    capture = Capture(files(tmp_path), knowing(SECRET), limit_bytes=3 * len(SECRET))
    capture.on_over_limit = lambda: cut.append(True)
    for _ in range(3):
        capture(Stream.STDOUT, SECRET.encode())
    assert not capture.over_limit
    capture(Stream.STDERR, b"x")
    assert capture.over_limit and cut == [True]
    capture.discard()


def test_d06_what_is_shown_counts_though_less_of_it_came(tmp_path: Path) -> None:
    capture = Capture(files(tmp_path), knowing("sixsix"), limit_bytes=1000)
    for _ in range(100):
        capture(Stream.STDOUT, b"sixsix ")
    assert capture.over_limit
    capture.discard()


def test_nothing_is_kept_of_what_comes_after_the_limit(tmp_path: Path) -> None:
    capture = Capture(files(tmp_path), knowing(SECRET), limit_bytes=100)
    capture(Stream.STDOUT, b"x" * 200 + SECRET[:-1].encode())
    kept = capture.total_bytes
    capture(Stream.STDOUT, b"more")
    capture.finish()
    assert capture.over_limit and capture.total_bytes == kept
    assert SECRET[:8] not in capture.shown().stdout
    capture.discard()


def test_a_disk_that_takes_no_file_costs_the_file_alone(tmp_path: Path) -> None:
    capture = Capture(files(tmp_path / "nowhere"), knowing())
    content = b"".join(b"%d\n" % number for number in range(20_000))
    capture(Stream.STDOUT, content)
    capture(Stream.STDERR, b"still heard")
    capture.finish()
    shown = capture.shown()
    assert shown.truncated and shown.stdout.startswith("0\n1\n") and shown.stdout.endswith("19999\n")
    assert shown.stderr == "still heard"
    assert capture.take_file() is None
    capture.discard()


def test_a_disk_that_fills_up_under_a_command_costs_the_file_alone(tmp_path: Path) -> None:
    capture = Capture(files(tmp_path), knowing())
    capture(Stream.STDOUT, b"x" * (HEAD_BYTES + 1))
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * HEAD_BYTES, usual[1]))
    try:
        capture(Stream.STDOUT, b"y" * TAIL_BYTES)
        capture(Stream.STDOUT, b"end")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    capture.finish()
    assert capture.shown().stdout.endswith("end")
    assert capture.take_file() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [1, HEAD_BYTES + TAIL_BYTES + 1])
def test_what_is_not_taken_leaves_no_file(tmp_path: Path, size: int) -> None:
    capture = Capture(files(tmp_path), knowing())
    capture(Stream.STDOUT, b"x" * size)
    capture.finish()
    capture.discard()
    capture.discard()
    assert list(tmp_path.iterdir()) == []


def test_the_file_holds_both_streams_as_they_came_without_secrets(tmp_path: Path) -> None:
    capture = Capture(files(tmp_path), knowing(SECRET))
    capture(Stream.STDOUT, b"a" * HEAD_BYTES)
    capture(Stream.STDERR, b"b")
    capture(Stream.STDOUT, b"c" + SECRET.encode() + b"d")
    capture.finish()
    path = capture.take_file()
    assert path is not None
    content = path.read_bytes()
    assert content.startswith(b"a" * 100) and b"b" in content and content.endswith(b"d")
    assert SECRET.encode() not in content and b"prod/key" in content
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert len(content) == capture.total_bytes == capture.stdout_bytes + capture.stderr_bytes
    capture.discard()
    assert path.exists()
