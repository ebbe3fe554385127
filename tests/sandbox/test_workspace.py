"""The files that workspaces are kept in: made once, never replaced, and cleared of what a crash left."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_spaces.errors import InvalidInput, RuntimeUnavailable
from mcp_spaces.sandbox.docker.workspace import DiskFiles

SIZE = 16 << 20


@pytest.fixture
def disks(tmp_path: Path) -> DiskFiles:
    return DiskFiles(tmp_path / "workspaces")


def test_a_disk_is_made_once_of_its_size_for_its_owner_alone_and_holds_only_what_it_has_to(disks: DiskFiles) -> None:
    assert disks.make("one", SIZE)
    made = disks.path("one").stat()
    assert (made.st_size, oct(made.st_mode & 0o777)) == (SIZE, "0o600")
    assert made.st_blocks * 512 < SIZE // 4
    # ext4's magic number, as mkfs wrote it.
    assert disks.path("one").read_bytes()[0x438:0x43A] == b"\x53\xef"
    disks.path("one").write_bytes(b"what somebody keeps")
    assert not disks.make("one", SIZE)
    assert disks.path("one").read_bytes() == b"what somebody keeps"
    assert disks.make("two", SIZE)
    assert list(disks.ids()) == ["one", "two"]


def test_every_disk_has_the_least_size_that_a_file_system_needs(disks: DiskFiles) -> None:
    disks.make("one", 1)
    assert disks.path("one").stat().st_size == 8 << 20


def test_a_disk_never_takes_the_place_of_another(disks: DiskFiles) -> None:
    disks.folder.mkdir()
    disks.path("mine").write_bytes(b"mine")
    disks.path("pool-1").write_bytes(b"new")
    with pytest.raises(FileExistsError):
        disks.rename("pool-1", "mine")
    assert (disks.path("mine").read_bytes(), disks.path("pool-1").read_bytes()) == (b"mine", b"new")
    disks.rename("pool-1", "other")
    assert list(disks.ids()) == ["mine", "other"]


def test_a_sweep_takes_what_is_half_made_and_nothing_else(disks: DiskFiles) -> None:
    disks.sweep()
    assert list(disks.ids()) == []
    disks.make("one", SIZE)
    templates = disks.folder / "templates"
    for left in (disks.folder / "two.0badc0de.part", templates / "v1-1.0badc0de.part"):
        left.touch()
    kept = {*templates.glob("v1-*[0-9]"), disks.path("one")}
    disks.sweep()
    assert {path for path in disks.folder.rglob("*") if path.is_file()} == kept


def test_a_deleted_disk_is_gone_and_deleting_it_again_is_no_error(disks: DiskFiles) -> None:
    disks.make("one", SIZE)
    disks.delete("one")
    disks.delete("one")
    assert list(disks.ids()) == []


@pytest.mark.parametrize("runtime_id", ["", "../x", "a/b", ".", "..", "-x", "x" * 64, "a\n"])
def test_s01_no_id_names_a_file_elsewhere(disks: DiskFiles, runtime_id: str) -> None:
    for call in (disks.path, disks.delete, disks.attach, lambda name: disks.make(name, SIZE)):
        with pytest.raises(InvalidInput):
            call(runtime_id)


def test_a_disk_that_is_not_there_cannot_be_attached(disks: DiskFiles) -> None:
    with pytest.raises(RuntimeUnavailable):
        disks.attach("none")
