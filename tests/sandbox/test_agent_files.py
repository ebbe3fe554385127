"""The agent's file operations against a tree that changes between two of their steps, which only a test can time."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcp_spaces.sandbox.agent import calls, files, trees, wire
from mcp_spaces.sandbox.agent.files import PART, Write
from mcp_spaces.sandbox.agent.paths import Refused, Workspace
from mcp_spaces.sandbox.agent.wire import number, unpack, whole
from mcp_spaces.sandbox.stream.attached import MAX_ENTRY_BYTES
from tests.descriptors import open_here

NO, YES = whole(0), whole(1)


@pytest.fixture(autouse=True, params=["unnamed", "named"])
def parts_are(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is not complete yet has no name, or one of its own where a file system knows no files without."""
    if request.param == "named":
        monkeypatch.setattr(files, "UNNAMED", 0)
    return str(request.param)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    opened = Workspace(str(tmp_path))
    yield opened
    os.close(opened.fd)


def written(
    workspace: Workspace,
    path: str,
    content: bytes,
    *,
    overwrite: bool,
    base: bytes = b"",
    meanwhile: Callable[[], object],
) -> str:
    """The word of the refusal, or `done`; `meanwhile` happens when the content is there and the file is not yet."""
    writing = None
    try:
        writing = Write(workspace, [path.encode(), whole(int(overwrite)), base], b"1.1")
        writing.add(content)
        meanwhile()
        for _ in writing.finish():
            pass
        return "done"
    except Refused as refused:
        return refused.word
    except OSError as error:
        return files.word_of(error).decode()
    finally:
        if writing is not None:
            writing.close()


def parts(folder: Path) -> list[str]:
    return [left.name for left in folder.iterdir() if left.name.startswith(PART.decode())]


def test_a_file_that_somebody_made_meanwhile_is_not_replaced_unasked(workspace: Workspace, tmp_path: Path) -> None:
    made = tmp_path / "file"
    told = written(workspace, "file", b"mine", overwrite=False, meanwhile=lambda: made.write_bytes(b"theirs"))
    assert (told, made.read_bytes(), parts(tmp_path)) == ("exists", b"theirs", [])
    told = written(workspace, "file", b"mine", overwrite=True, meanwhile=lambda: made.write_bytes(b"again"))
    assert (told, made.read_bytes(), parts(tmp_path)) == ("done", b"mine", [])


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_complete_yet_has_no_name_where_it_needs_none(
    workspace: Workspace, tmp_path: Path, parts_are: str, overwrite: bool
) -> None:
    """Whoever is killed now leaves nothing."""
    seen: list[list[str]] = []
    told = written(workspace, "file", b"x", overwrite=overwrite, meanwhile=lambda: seen.append(parts(tmp_path)))
    assert (told, seen) == ("done", [[] if parts_are == "unnamed" else [PART.decode() + "1.1"]])
    assert ((tmp_path / "file").read_bytes(), [left.name for left in tmp_path.iterdir()]) == (b"x", ["file"])


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.EOPNOTSUPP, "done"), (errno.EISDIR, "done"), (errno.EINVAL, "done"), (errno.ENOSPC, "full")],
)
def test_where_there_are_no_files_without_a_name_they_have_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    opened = os.open

    def refusing(path: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(number, "not here")
        return opened(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(files, "UNNAMED", os.O_TMPFILE)
    monkeypatch.setattr(os, "open", refusing)
    assert written(workspace, "file", b"x", overwrite=False, meanwhile=lambda: None) == told


def test_an_edit_of_what_is_still_the_same_is_done(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"first")
    base = hashlib.sha256(b"first").hexdigest().encode()
    assert written(workspace, "file", b"second", overwrite=False, base=base, meanwhile=lambda: None) == "done"
    assert ((tmp_path / "file").read_bytes(), parts(tmp_path)) == (b"second", [])


def test_no_write_leaves_a_descriptor_open(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"first")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("file")
    base = hashlib.sha256(b"first").hexdigest().encode()
    before = open_here()
    told = [
        written(workspace, path, b"x", overwrite=overwrite, base=base_of, meanwhile=lambda: None)
        for path, overwrite, base_of in (
            ("file", True, b"0" * 64),
            ("file", True, base),
            ("file", False, b""),
            ("folder", True, b""),
            ("fifo", True, b""),
            ("link", True, b""),
            ("none", True, base),
            ("new", False, b""),
        )
    ]
    assert told == ["changed", "done", "exists", "folder", "not_regular", "link", "changed", "done"]
    assert open_here() <= before
    assert parts(tmp_path) == []


def test_an_edit_of_what_is_not_the_same_any_more_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    edited = tmp_path / "file"
    base = hashlib.sha256(b"first").hexdigest().encode()

    def link() -> None:
        edited.rename(tmp_path / "moved")
        edited.symlink_to("moved")

    for meanwhile, word in (
        (lambda: edited.write_bytes(b"other"), "changed"),
        (edited.unlink, "absent"),
        (link, "changed"),
    ):
        edited.write_bytes(b"first")
        told = written(workspace, "file", b"second", overwrite=True, base=base, meanwhile=meanwhile)
        assert (told, parts(tmp_path)) == (word, [])
        edited.unlink(missing_ok=True)


def test_an_edit_notices_a_change_under_its_comparison(workspace: Workspace, tmp_path: Path) -> None:
    edited = tmp_path / "file"
    edited.write_bytes(b"first")
    base = hashlib.sha256(b"first").hexdigest().encode()
    writing = Write(workspace, [b"file", YES, base], b"1.1")
    try:
        steps = writing.finish()
        next(steps)
        edited.unlink()
        edited.write_bytes(b"first")
        with pytest.raises(Refused, match="changed"):
            list(steps)
    finally:
        writing.close()
    assert (edited.read_bytes(), parts(tmp_path)) == (b"first", [])


def test_a_replaced_file_keeps_its_rights_but_no_setuid(workspace: Workspace, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_bytes(b"old")
    tool.chmod(0o6755)
    assert written(workspace, "tool", b"new", overwrite=True, meanwhile=lambda: None) == "done"
    assert (tool.read_bytes(), oct(tool.stat().st_mode & 0o7777)) == (b"new", "0o755")


def test_an_edit_makes_no_folders(workspace: Workspace, tmp_path: Path) -> None:
    told = written(workspace, "new/file", b"x", overwrite=True, base=b"0" * 64, meanwhile=lambda: None)
    assert (told, list(tmp_path.iterdir())) == ("absent", [])


def test_a_part_that_is_there_already_is_not_written_into(workspace: Workspace, tmp_path: Path) -> None:
    planted = tmp_path / (PART.decode() + "1.1")
    planted.symlink_to(tmp_path / "elsewhere")
    assert written(workspace, "file", b"x", overwrite=True, meanwhile=lambda: None) == "exists"
    assert not (tmp_path / "elsewhere").exists()


def found(report: list[bytes]) -> list[str]:
    return [unpack(entry)[0].decode() for entry in report]


def test_what_walks_a_tree_goes_into_no_link_and_shows_no_parts(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_bytes(b"word")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / (PART.decode() + "9.9")).write_bytes(b"word")
    listed: list[bytes] = []
    trees.list_tree(workspace, [b".", whole(9), whole(99)], listed.append)
    matched: list[bytes] = []
    trees.glob_tree(workspace, [b"**", whole(99)], matched.append)
    searched: list[bytes] = []
    trees.search_tree(workspace, [b"word", b".", b"", whole(99)], searched.append)
    assert (found(listed), found(matched), found(searched)) == (
        ["loop", "real", "real/file"], ["real/file"], ["real/file"]
    )  # fmt: skip


@pytest.mark.parametrize("count", [1007, 1009, 1100])
def test_a_listing_holds_only_as_many_names_as_it_may_show(workspace: Workspace, tmp_path: Path, count: int) -> None:
    for name in range(count):
        (tmp_path / f"{name:04}").touch()
    for name in range(4):
        (tmp_path / f"{PART.decode()}9.{name}").touch()
    listed: list[bytes] = []
    (cut,) = trees.list_tree(workspace, [b".", whole(1), whole(3)], listed.append)
    assert (number([cut], 0), found(listed)) == (1, ["0000", "0001", "0002"])


def test_what_a_walked_folder_is_exchanged_for_is_not_walked(workspace: Workspace, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    inside = tmp_path / "inside"
    for folder in (elsewhere, inside / "tree"):
        folder.mkdir(parents=True)
        for name in ("1", "2", "3"):
            (folder / name).write_bytes(b"word")

    def exchange(_found: bytes) -> None:
        (inside / "tree").rename(inside / "moved")
        (inside / "tree").symlink_to(elsewhere)

    listed: list[bytes] = []

    def report(entry: bytes) -> None:
        listed.append(entry)
        exchange(entry)

    trees.list_tree(workspace, [b"inside", whole(9), whole(99)], report)
    assert found(listed) == ["inside/tree"]
    (inside / "tree").unlink()
    (inside / "moved").rename(inside / "tree")
    searched = trees._searched(workspace, b"inside")
    (path, _, _) = next(searched)
    exchange(path)
    assert (path, list(searched)) == (b"inside/tree/1", [])


def test_a_file_that_became_something_else_is_not_searched(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("folder")
    before = open_here()
    for name in (b"folder", b"fifo", b"link", b"gone"):
        assert trees._content(workspace.fd, name) == b""
    assert open_here() <= before


def test_no_walk_leaves_a_descriptor_open(workspace: Workspace, tmp_path: Path) -> None:
    before = open_here()
    for walk, fields in (
        (trees.list_tree, [b".", whole(9), whole(99)]),
        (trees.list_tree, [b".", whole(9), whole(2)]),
        (trees.glob_tree, [b"**", whole(99)]),
        (trees.search_tree, [b"word", b".", b"", whole(99)]),
        (trees.search_tree, [b"word", b".", b"", whole(1)]),
        (trees.remove_tree, [b"a"]),
    ):
        (tmp_path / "a/b/c").mkdir(parents=True, exist_ok=True)
        for folder in ("a", "a/b", "a/b/c"):
            (tmp_path / folder / "file").write_bytes(b"word")
        walk(workspace, fields, lambda _: None)
        assert open_here() <= before
    assert list(tmp_path.iterdir()) == []


def test_every_entry_of_a_deep_tree_has_room_in_the_answer(workspace: Workspace, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 250, dir_fd=fd)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
        file = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
        os.write(file, b"word" + b"x" * trees.MAX_TEXT_BYTES)
        os.close(file)
    os.close(fd)
    listed: list[bytes] = []
    trees.list_tree(workspace, [b".", whole(99), whole(99)], listed.append)
    matched: list[bytes] = []
    trees.glob_tree(workspace, [b"**", whole(99)], matched.append)
    searched: list[bytes] = []
    trees.search_tree(workspace, [b"word", b".", b"", whole(99)], searched.append)
    assert (len(listed), len(matched), len(searched)) == (32, 16, 16)
    assert max(map(len, listed + matched + searched)) <= MAX_ENTRY_BYTES


def test_a_search_passes_over_what_is_too_large_and_cuts_what_is_too_long(workspace: Workspace, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as large:
        large.write(b"word\n")
        large.truncate(trees.MAX_SEARCHED_BYTES + 1)
    (tmp_path / "long").write_bytes(b"word" + b"x" * trees.MAX_TEXT_BYTES + b"\n")
    searched: list[bytes] = []
    trees.search_tree(workspace, [b"word", b".", b"", whole(99)], searched.append)
    assert [(name, len(text)) for name, _, text in map(unpack, searched)] == [(b"long", trees.MAX_TEXT_BYTES)]


def test_a_read_stops_at_its_limit_and_begins_at_its_offset(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    got: list[bytes] = []
    for _ in files.read(workspace, [b"file", whole(3), whole(4)], got.append):
        pass
    assert b"".join(got) == b"3456"


@pytest.mark.parametrize(
    ("problem", "word"), [(MemoryError(), b"no_memory"), (RecursionError(), b"io"), (Refused("absent"), b"absent")]
)
def test_a_walk_that_breaks_off_says_why(problem: Exception, word: bytes) -> None:
    def walk(_report: Callable[[bytes], None]) -> list[bytes]:
        raise problem

    told, tell = os.pipe()
    try:
        calls._work(tell, walk)
    finally:
        os.close(tell)
    with os.fdopen(told, "rb") as answer:
        content = answer.read()
    assert wire.HEADER.unpack(content[: wire.HEADER.size])[1] == wire.FAILURE
    assert unpack(content[wire.HEADER.size :]) == [word]
