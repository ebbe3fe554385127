"""What an MCP client spawns: small, quick, and clear about what goes wrong."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcp_spaces import places
from mcp_spaces.server.shim import ready_within_s, scrubbed
from tests.server.doors import ROOT, open_house
from tests.server.small_app import KEY
from tests.server.test_daemon import daemon, environment, state

__all__ = ["state"]

SHIM = [sys.executable, "-m", "mcp_spaces", "stdio"]
SLOW = ("asyncio", "argparse", "json", "typing", "socket", "subprocess", "pathlib", "pydantic", "mcp", "typer")


def test_it_imports_next_to_nothing(state: Path) -> None:
    with daemon(state):
        shim = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "mcp_spaces", "stdio"],
            env=environment(state),
            cwd=ROOT,
            input=b"",
            capture_output=True,
            timeout=30,
        )
    imported = {line.rpartition("|")[2].strip() for line in shim.stderr.decode().splitlines()}
    assert "mcp_spaces.server.shim" in imported
    assert imported.isdisjoint(SLOW)


def test_it_passes_bytes_on_untouched_both_ways(state: Path) -> None:
    message = b'{"jsonrpc":"2.0","id":1,"method":"nothing/like/it","params":{"x":"' + "é✓".encode() * 50_000 + b'"}}\n'
    with daemon(state):
        shim = subprocess.run(SHIM, env=environment(state), cwd=ROOT, input=message, capture_output=True, timeout=30)
    assert shim.returncode == 0
    assert b'"id":1' in shim.stdout
    assert shim.stdout.endswith(b"\n")
    assert shim.stderr == b""


async def test_a_key_in_its_environment_chooses_the_principal() -> None:
    async with open_house() as house:
        async with house.client("shim", key=KEY) as client:
            await client.call_tool("thing_echo", {"text": "a"})
        rows = house.app.pipeline._database.read("SELECT principal_id FROM runs")
        assert [row["principal_id"] for row in rows] == [house.app.keys[KEY].principal_id]


def test_it_says_that_the_daemon_went_away(state: Path) -> None:
    with daemon(state) as process:
        shim = subprocess.Popen(
            SHIM,
            env=environment(state),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert shim.stdin is not None
        assert shim.stdout is not None
        shim.stdin.write(b"{}\n")
        shim.stdin.flush()
        shim.stdout.readline()
        process.kill()
        assert shim.wait(timeout=30) == 4
        _, said = shim.communicate()
    assert b"The daemon closed the connection." in said
    assert str(state / "daemon.log").encode() in said


def test_it_says_why_the_daemon_could_not_start(state: Path) -> None:
    state.mkdir()
    (state / "daemon.log").write_text("of another day\n")
    state.chmod(0o750)
    shim = subprocess.run(SHIM, env=environment(state), cwd=ROOT, input=b"", capture_output=True, timeout=60)
    assert shim.returncode == 3
    assert shim.stdout == b""
    assert b"The daemon could not start." in shim.stderr
    assert f"chmod 700 {state}".encode() in shim.stderr
    assert b"of another day" not in shim.stderr
    assert (state / "daemon.log").read_text().startswith("of another day\n")


def test_it_says_that_it_cannot_write_its_state_directory() -> None:
    shim = subprocess.run(
        SHIM, env=environment(Path("/proc/state")), cwd=ROOT, input=b"", capture_output=True, timeout=60
    )
    assert shim.returncode == 3
    assert b"/proc/state cannot be written: " in shim.stderr
    assert b"Traceback" not in shim.stderr


def test_a_pipe_in_place_of_the_log_is_not_waited_for(state: Path) -> None:
    state.mkdir(mode=0o700)
    os.mkfifo(state / "daemon.log")
    shim = subprocess.run(SHIM, env=environment(state), cwd=ROOT, input=b"", capture_output=True, timeout=60)
    assert shim.returncode == 3
    assert f"{state}/daemon.log cannot be written: ".encode() in shim.stderr


@pytest.mark.parametrize(
    ("said", "start_s"), [("600", 600), ("5", 60), ("soon", 60), (None, 60), ("inf", 600), ("nan", 60)]
)
def test_a_daemon_has_the_time_that_it_gives_itself(said: str | None, start_s: float) -> None:
    within_s = ready_within_s({} if said is None else {"MCP_SPACES_START_S": said})
    assert start_s < within_s < start_s + 60


def test_the_daemon_gets_none_of_the_clients_environment(tmp_path: Path) -> None:
    client = {
        "PATH": "/bin",
        "HOME": "/root",
        "DOCKER_HOST": "unix:///x",
        "MCP_SPACES_HTTP_PORT": "1",
        "MCP_SPACES_KEY": "msp_x",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus",
        "DISPLAY": ":0",
        "WAYLAND_DISPLAY": "wayland-0",
        "XAUTHORITY": "/run/user/1000/auth",
        "GITHUB_TOKEN": "t",
        "LD_PRELOAD": "/x.so",
        "PYTHONPATH": "/x",
        "PYTHONSTARTUP": "/x",
    }
    assert scrubbed(client, str(tmp_path)) == {
        "PATH": "/bin",
        "HOME": "/root",
        "DOCKER_HOST": "unix:///x",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus",
        "DISPLAY": ":0",
        "WAYLAND_DISPLAY": "wayland-0",
        "XAUTHORITY": "/run/user/1000/auth",
        "MCP_SPACES_HTTP_PORT": "1",
        "MCP_SPACES_STATE_DIR": str(tmp_path),
    }


def test_v14_the_vaults_keys_do_not_stay_in_its_environment(state: Path) -> None:
    keys = {"MCP_SPACES_MASTER_KEY": "5e" * 32, "MCP_SPACES_PASSPHRASE": "a phrase of mine", "AFTER": "it stays"}
    with daemon(state):
        shim = subprocess.Popen(
            SHIM,
            env=environment(state, **keys),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert shim.stdin is not None
        assert shim.stdout is not None
        shim.stdin.write(b"{}\n")
        shim.stdin.flush()
        shim.stdout.readline()
        left = Path(f"/proc/{shim.pid}/environ").read_bytes()
        shim.communicate(timeout=30)
    for name in ("MCP_SPACES_MASTER_KEY", "MCP_SPACES_PASSPHRASE"):
        assert f"{name}=".encode() + bytes(len(keys[name]) + 1) in left
    assert b"AFTER=it stays" in left.split(b"\0")
    assert f"HOME={state.parent}".encode() in left.split(b"\0")


@pytest.mark.parametrize(
    ("known", "directory"),
    [
        ({"MCP_SPACES_STATE_DIR": "/a/b"}, "/a/b"),
        ({"XDG_STATE_HOME": "/x"}, "/x/mcp-spaces"),
        ({"XDG_STATE_HOME": "relative"}, os.path.expanduser("~/.local/state/mcp-spaces")),  # noqa: PTH111
        ({}, os.path.expanduser("~/.local/state/mcp-spaces")),  # noqa: PTH111
    ],
)
def test_the_state_directory_is_where_everybody_looks(known: dict[str, str], directory: str) -> None:
    assert places.state_directory(known) == directory


HELLO = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    b'"clientInfo":{"name":"t","version":"1"}}}\n'
)


@contextmanager
def stopped_afterwards(state: Path) -> Iterator[None]:
    """Ends the daemon that a shim started: it outlives the shim, which is the point of it."""
    try:
        yield
    finally:
        pid = int((state / "daemon.lock").read_text())
        os.kill(pid, signal.SIGTERM)
        with (state / "daemon.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until it is gone


def test_shims_that_start_together_start_one_daemon(state: Path) -> None:
    with stopped_afterwards(state):
        shims = [
            subprocess.Popen(
                SHIM,
                env=environment(state),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for _ in range(4)
        ]
        for shim in shims:
            answer, said = shim.communicate(HELLO, timeout=60)
            assert b'"serverInfo"' in answer, said
            assert shim.returncode == 0
        log = (state / "daemon.log").read_text()
        assert log.count("agent.sock") == 1 and "Another daemon" not in log
        # Nothing of its first client's: neither the terminal's signals nor its input.
        pid = int((state / "daemon.lock").read_text())
        assert os.getsid(pid) == pid and Path(f"/proc/{pid}/fd/0").readlink() == Path(os.devnull)
        assert stat.S_IMODE((state / "daemon.log").stat().st_mode) == 0o600


def test_the_daemon_does_not_run_code_of_the_clients_project(state: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('taken over')")
    (tmp_path / "mcp_spaces.py").write_text("raise SystemExit('taken over')")
    # As the installed command runs it: the script's folder is on the path, the working directory is not.
    start = f"import sys; sys.path[0] = {str(ROOT)!r}; sys.argv = ['mcp-spaces', 'stdio']\nimport mcp_spaces.__main__ as m; m.main()"
    with stopped_afterwards(state):
        shim = subprocess.run(
            [sys.executable, "-c", start],
            env=environment(state),
            cwd=tmp_path,
            input=HELLO,
            capture_output=True,
            timeout=60,
        )
        assert b'"serverInfo"' in shim.stdout, shim.stderr
