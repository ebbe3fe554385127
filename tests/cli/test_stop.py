"""`mcp-spaces stop`: whom it ends, how long it waits, and what it says of one that stays."""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mcp_spaces.cli.main import app
from tests.security.app import nobody, short_folder

STUBBORN = ["sh", "-c", "trap '' TERM; echo ready; read _"]


def stopped(state: Path, *words: str) -> tuple[int, Any]:
    environment = {"MCP_SPACES_STATE_DIR": str(state), "MCP_SPACES_SERVER": ""}
    ended = CliRunner().invoke(app, ["stop", "--json", *words], env=environment)
    return ended.exit_code, json.loads(ended.stdout)


@contextmanager
def held(state: Path, holder: str) -> Iterator[None]:
    """The lock of a state directory as its daemon holds it."""
    with (state / "daemon.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(holder)
        lock.flush()
        yield


def test_the_process_that_holds_the_state_directory_is_ended_and_waited_for(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process, held(tmp_path, str(process.pid)):
        assert stopped(tmp_path) == (0, {"stopped": True, "process": process.pid})
        assert process.wait(10) == -15


def test_one_that_does_not_end_in_time_is_an_error(tmp_path: Path) -> None:
    with subprocess.Popen(STUBBORN, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with held(tmp_path, str(process.pid)):
            code, said = stopped(tmp_path, "--wait-s", "0.05")
        assert process.poll() is None
        process.kill()
    assert (code, said["error"]["code"]) == (1, "timeout")


def test_whom_a_dead_daemon_named_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        (tmp_path / "daemon.lock").write_text(str(process.pid))
        assert stopped(tmp_path) == (0, {"stopped": False, "process": None})
        assert process.poll() is None
        process.kill()


@pytest.mark.parametrize("holder", ["gone", ""])
def test_where_no_daemon_runs_any_more_there_is_nothing_to_stop(tmp_path: Path, holder: str) -> None:
    if holder:
        with subprocess.Popen(["true"]) as process:
            holder = str(process.pid)
    with held(tmp_path, holder):
        assert stopped(tmp_path) == (0, {"stopped": False, "process": None})


def test_a_state_directory_that_this_user_may_not_look_into_is_said() -> None:
    with short_folder() as state:
        (state / "daemon.lock").touch()
        state.chmod(0o700)
        with nobody():
            code, said = stopped(state)
    assert (code, said["error"]["hint"]) == (1, "Run it as the daemon's user.")
