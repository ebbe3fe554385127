"""Where a path leads inside the workspace, asked of the agent itself: what no container is needed for."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mcp_spaces.sandbox.agent.files import _open_regular
from mcp_spaces.sandbox.agent.paths import MAX_DEPTH, MAX_LINKS, Refused, Workspace, locate
from tests.descriptors import open_here


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def led(root: Path, path: str, *, make: bool = False) -> str:
    """Where it leads, with links followed; the word of the refusal where it does not."""
    workspace = Workspace(str(root))
    try:
        making = {"make": True} if make else {}
        with locate(workspace, path.encode(), follow=True, follow_last=True, **making) as place:
            return place.path.decode() + ("" if place.status else " (absent)")
    except Refused as refused:
        return f"refused: {refused.word}"
    finally:
        os.close(workspace.fd)


def test_an_absolute_link_in_a_folder_begins_at_the_workspace_again(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "file").touch()
    (root / "a/b/up").symlink_to(root / "file")
    (root / "a/b/all").symlink_to(root)
    assert led(root, "a/b/up") == "file"
    assert led(root, "a/b/all") == "."
    assert led(root, "a/b/all/file") == "file"


def test_s03_a_link_to_a_neighbour_whose_name_begins_alike_leads_outside(root: Path) -> None:
    neighbour = root.with_name("workers")
    neighbour.mkdir()
    (neighbour / "file").touch()
    (root / "link").symlink_to(neighbour / "file")
    assert led(root, "link") == "refused: outside"


def test_s03_what_is_mounted_below_is_outside() -> None:
    """/proc is another device than /: neither it nor what is in it can be named."""
    assert led(Path("/"), "proc") == "refused: outside"
    assert led(Path("/"), "proc/self/status") == "refused: outside"
    assert led(Path("/"), "proc/..") == "refused: outside"


def test_s01_the_workspace_has_no_parent(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "a/up").symlink_to("../..")
    assert led(root, "a/b/../..") == "."
    for path in ("..", "a/../..", "a/up", "a/b/../up/work"):
        assert led(root, path) == "refused: outside"


def test_no_walk_leaves_a_descriptor_open(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "a/up").symlink_to("../..")
    before = open_here()
    for path in ("a/b", "a/b/none", "a/none/none", "a/up", "a/b/../b"):
        led(root, path)
    assert open_here() <= before


def test_a_chain_of_links_is_followed_so_far_and_no_further(root: Path) -> None:
    (root / "0").touch()
    for number in range(MAX_LINKS + 1):
        (root / str(number + 1)).symlink_to(str(number))
    assert led(root, str(MAX_LINKS)) == "0"
    assert led(root, str(MAX_LINKS + 1)) == "refused: link_loop"


def test_s09_no_link_leads_deeper_than_a_path_may(root: Path) -> None:
    (root / "/".join("d" * 100)).mkdir(parents=True)
    (root / "/".join("d" * 100) / "again").symlink_to(root)
    (root / "/".join("d" * 100) / "on").symlink_to("/".join("e" * (MAX_DEPTH - 99)))
    assert led(root, "/".join("d" * 100) + "/again/d") == "d"
    assert led(root, "/".join("d" * 100) + "/on", make=True) == "refused: too_deep"


def test_a_file_on_the_way_is_no_folder(root: Path) -> None:
    (root / "file").touch()
    assert led(root, "file/below") == "refused: not_folder"
    assert led(root, "nowhere/below") == "refused: absent"
    assert [each.name for each in root.iterdir()] == ["file"]
    assert led(root, "new/below", make=True) == "new/below (absent)"


def test_s04_a_folder_that_became_a_link_between_two_looks_is_not_entered(root: Path) -> None:
    """On one device, where nothing but the opening itself can tell."""
    (root / "name").mkdir()
    (root.with_name("outside")).mkdir()
    workspace = Workspace(str(root))
    try:
        with locate(workspace, b"name", follow=True, follow_last=True) as place:
            assert place.status is not None and stat.S_ISDIR(place.status.st_mode)
            (root / "name").rmdir()
            (root / "name").symlink_to(root.with_name("outside"))
            with pytest.raises(NotADirectoryError):
                place.enter(b"name")
            assert place.path == b"name" and place.names == []
    finally:
        os.close(workspace.fd)


def test_s04_a_file_that_became_a_link_between_two_looks_is_not_read(root: Path) -> None:
    (root / "name").write_bytes(b"inside")
    (root.with_name("outside")).write_bytes(b"CANARY")
    workspace = Workspace(str(root))
    try:
        with locate(workspace, b"name", follow=True, follow_last=True) as place:
            (root / "name").unlink()
            (root / "name").symlink_to(root.with_name("outside"))
            with pytest.raises(OSError, match="Too many levels of symbolic links"):
                _open_regular(place)
    finally:
        os.close(workspace.fd)
