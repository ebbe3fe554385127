"""What an MCP client spawns: small, quick, and clear about what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_spaces import places
from mcp_spaces.server.shim import scrubbed
from tests.server.doors import ROOT
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
    state.chmod(0o750)
    shim = subprocess.run(SHIM, env=environment(state), cwd=ROOT, input=b"", capture_output=True, timeout=60)
    assert shim.returncode == 3
    assert shim.stdout == b""
    assert b"The daemon could not start." in shim.stderr
    assert f"chmod 700 {state}".encode() in shim.stderr


def test_the_daemon_gets_none_of_the_clients_environment(tmp_path: Path) -> None:
    client = {
        "PATH": "/bin",
        "HOME": "/root",
        "DOCKER_HOST": "unix:///x",
        "MCP_SPACES_HTTP_PORT": "1",
        "MCP_SPACES_KEY": "msp_x",
        "GITHUB_TOKEN": "t",
        "LD_PRELOAD": "/x.so",
        "PYTHONPATH": "/x",
        "PYTHONSTARTUP": "/x",
    }
    assert scrubbed(client, str(tmp_path)) == {
        "PATH": "/bin",
        "HOME": "/root",
        "DOCKER_HOST": "unix:///x",
        "MCP_SPACES_HTTP_PORT": "1",
        "MCP_SPACES_STATE_DIR": str(tmp_path),
    }


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
