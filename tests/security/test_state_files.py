"""What stands in the place of a file of the state directory is named before anything is made or waited for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mcp_spaces.app.state_dir import open_state
from mcp_spaces.app.state_files import FOLDERS, refuse_other_kinds
from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import WrongState
from tests.cli.commands import MAIN, environment
from tests.security.app import nobody, short_folder

pytestmark = pytest.mark.timeout(120)

FILES = ("state.db", "state.db-wal", "state.db-shm", "audit.head")


def leads_nowhere(path: Path) -> None:
    path.symlink_to("/nonexistent/at/all")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, leads_nowhere])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / name)
    with pytest.raises(WrongState) as refused:
        refuse_other_kinds(tmp_path)
    assert refused.value.message.startswith(f"{tmp_path / name} ")
    assert refused.value.hint


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, leads_nowhere])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / name)
    with pytest.raises(WrongState) as refused:
        refuse_other_kinds(tmp_path)
    assert refused.value.message.startswith(f"{tmp_path / name} ")


@pytest.mark.parametrize("name", ["agent.sock", "operator.sock"])
def test_a_folder_in_place_of_a_socket_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(WrongState, match=f"{name} is no socket"):
        refuse_other_kinds(tmp_path)


@pytest.mark.parametrize("name", ["state.db", "audit.head", "blobs"])
def test_what_this_user_may_not_write_is_refused(name: str) -> None:
    with short_folder() as folder:
        folder.chmod(0o755)
        make = (folder / name).mkdir if name in FOLDERS else (folder / name).touch
        make(mode=0o755)
        with nobody(), pytest.raises(WrongState, match=f"may not read and write {folder / name}"):
            refuse_other_kinds(folder)


async def test_large_ones_may_lie_on_another_disk(tmp_path: Path) -> None:
    state, disk = tmp_path / "state", tmp_path / "disk"
    for folder in (state, disk, disk / "blobs"):
        folder.mkdir(mode=0o700)
    async with open_state(state, Clock(), accept_rollback=False):
        pass
    (state / "state.db").rename(disk / "state.db")
    (state / "state.db").symlink_to(disk / "state.db")
    (state / "blobs").symlink_to(disk / "blobs")
    async with open_state(state, Clock(), accept_rollback=False) as database:
        assert database.read("SELECT name FROM settings") == []


@pytest.mark.parametrize("name", ["seal.key", "audit.head", "operator.sock"])
def test_a_daemon_says_it_in_a_line_and_makes_nothing(name: str) -> None:
    with short_folder() as state:
        (state / name).mkdir()
        done = subprocess.run(
            [*MAIN, "serve"], env=environment(state), capture_output=True, text=True, timeout=60, check=False
        )
        with suppress(FileNotFoundError):
            (state / "daemon.lock").unlink()
            (state / "start.lock").unlink()
        assert done.returncode == 3
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith(f"mcp-spaces: {state / name} is no ")
        assert [left.name for left in state.iterdir()] == [name]
