"""The key that seals audit rows and grants: made once, this user's alone, and never replaced beside a database."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_spaces.app.state_dir import sealing_key
from mcp_spaces.errors import WrongState
from tests.folders import files_of_at_most
from tests.security.app import nobody, short_folder


def test_the_sealing_key_is_made_once_and_is_this_users_alone(tmp_path: Path) -> None:
    (tmp_path / "seal.key.partial").write_bytes(b"left by a daemon that was killed")
    key = sealing_key(tmp_path)
    assert len(key) == 32
    assert sealing_key(tmp_path) == key == (tmp_path / "seal.key").read_bytes()
    assert [(file.name, file.stat().st_mode & 0o777) for file in tmp_path.iterdir()] == [("seal.key", 0o600)]


def test_no_new_sealing_key_is_made_for_a_database_that_another_one_sealed(tmp_path: Path) -> None:
    (tmp_path / "state.db").touch()
    with pytest.raises(WrongState, match="is gone"):
        sealing_key(tmp_path)
    assert not (tmp_path / "seal.key").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_sealing_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    sealing_key(tmp_path)
    (tmp_path / "seal.key").chmod(mode)
    with pytest.raises(WrongState) as refused:
        sealing_key(tmp_path)
    assert refused.value.hint == f"Run: chmod 600 {tmp_path / 'seal.key'}"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_sealing_key_of_another_length_is_damaged(tmp_path: Path, length: int) -> None:
    (tmp_path / "seal.key").write_bytes(b"k" * length)
    (tmp_path / "seal.key").chmod(0o600)
    with pytest.raises(WrongState, match="is damaged"):
        sealing_key(tmp_path)


def test_a_link_in_place_of_the_sealing_key_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"k" * 32)
    elsewhere.chmod(0o600)
    (tmp_path / "seal.key").symlink_to(elsewhere)
    with pytest.raises(WrongState, match="cannot be read"):
        sealing_key(tmp_path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_in_place_of_the_sealing_key_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "seal.key")
    with pytest.raises(WrongState, match=r"seal\.key is no plain file of this user"):
        sealing_key(tmp_path)


def test_a_sealing_key_of_another_user_is_refused() -> None:
    with short_folder() as folder:
        folder.chmod(0o755)
        sealing_key(folder)
        (folder / "seal.key").chmod(0o644)
        with nobody(), pytest.raises(WrongState, match=r"seal\.key is no plain file of this user"):
            sealing_key(folder)


def test_a_sealing_key_that_a_full_disk_does_not_take_is_said_in_words_and_none_is_left(tmp_path: Path) -> None:
    with files_of_at_most(31), pytest.raises(WrongState, match=r"seal\.key cannot be written: File too large"):
        sealing_key(tmp_path)
    assert not (tmp_path / "seal.key").exists()
    assert len(sealing_key(tmp_path)) == 32
