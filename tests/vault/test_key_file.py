"""The file of the master key: ours alone, whole or not there, and never a trap."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mcp_spaces.errors import WrongState
from mcp_spaces.vault.cipher import MasterKey
from mcp_spaces.vault.key_file import KeyFile
from tests.descriptors import open_here

ONE, OTHER = MasterKey(b"1" * 32), MasterKey(b"2" * 32)


def settled(folder: Path, master: MasterKey = ONE) -> KeyFile:
    file = KeyFile(folder)
    file.stage(master)
    file.settle(master.id)
    return file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_key_that_was_staged_counts_only_once_it_is_settled(tmp_path: Path) -> None:
    file = settled(tmp_path)
    file.stage(OTHER)
    assert (file.current(), list(file.both())) == (ONE, [ONE, OTHER])
    file.settle(OTHER.id)
    file.settle(OTHER.id)
    assert (file.current(), list(file.both())) == (OTHER, [OTHER])
    assert names(tmp_path) == ["master.key"]


@pytest.mark.parametrize("counts", [ONE.id, None])
def test_a_staged_key_that_does_not_count_goes(tmp_path: Path, counts: str | None) -> None:
    file = settled(tmp_path)
    file.stage(OTHER)
    (tmp_path / "master.key.next.partial").touch()
    file.settle(counts)
    assert list(file.both()) == [ONE]
    assert names(tmp_path) == ["master.key"]


def test_only_the_very_key_is_removed(tmp_path: Path) -> None:
    file = settled(tmp_path)
    file.remove(OTHER.id)
    assert file.current() == ONE
    file.remove(ONE.id)
    file.remove(ONE.id)
    assert names(tmp_path) == []


def test_only_its_owner_reads_a_new_key_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        settled(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "master.key").stat().st_mode) == 0o600


def test_what_a_kill_left_half_written_is_in_nobody_s_way(tmp_path: Path) -> None:
    (tmp_path / "master.key.next.partial").write_text("half a k")
    assert settled(tmp_path).current() == ONE


def test_a_key_that_cannot_be_kept_is_an_error_that_holds_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "master.key.next").mkdir()
    with pytest.raises(WrongState, match="cannot be written") as refused:
        KeyFile(tmp_path).stage(ONE)
    assert ONE.key.hex() not in f"{refused.value.message} {refused.value.hint}"


def test_a_pipe_in_the_place_of_the_key_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "master.key", 0o600)
    with pytest.raises(WrongState, match="only this user can read"):
        KeyFile(tmp_path).current()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_key_of_another_user_is_refused(tmp_path: Path) -> None:
    file = settled(tmp_path)
    os.chown(tmp_path / "master.key", 65_534, -1)
    with pytest.raises(WrongState, match="only this user can read"):
        file.current()


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601], ids=oct)
def test_a_key_that_anybody_else_could_touch_is_refused(tmp_path: Path, mode: int) -> None:
    file = settled(tmp_path)
    (tmp_path / "master.key").chmod(mode)
    with pytest.raises(WrongState, match="only this user can read"):
        file.current()


def test_keeping_and_reading_a_key_leaves_nothing_open(tmp_path: Path) -> None:
    before = open_here()
    file = settled(tmp_path)
    assert file.current() == ONE
    (tmp_path / "master.key").chmod(0o644)
    with pytest.raises(WrongState):
        file.current()
    assert open_here() <= before
