"""The daemon as a process: one per state directory, ready when it says so, gone when it is told."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from mcp import Client, StdioServerParameters

from mcp_spaces.server.descriptors import WANTED
from tests.browser.site.certificates import Certificates
from tests.server.doors import ROOT

SECONDS = 30


@pytest.fixture
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mcps-") as folder:
        yield Path(folder) / "state"


def environment(state: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(state.parent), "MCP_SPACES_STATE_DIR": str(state), **more}


@contextmanager
def daemon(state: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    """A daemon that listens."""
    ready, tell = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.server.small_daemon", str(tell)],
        env=environment(state, **more),
        cwd=ROOT,
        pass_fds=(tell,),
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(tell)
    try:
        # One byte, or the end of a process that failed: never a wait without an end.
        assert os.read(ready, 1) == b"1", process.communicate(timeout=SECONDS)[1]
        yield process
    finally:
        os.close(ready)
        process.kill()
        process.communicate(timeout=SECONDS)


def run(state: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A daemon that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "tests.server.small_daemon"],
        env=environment(state, **more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_when_it_is_told_to(state: Path, ending: signal.Signals) -> None:
    with daemon(state) as process:
        assert (state / "agent.sock").is_socket()
        process.send_signal(ending)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert not (state / "agent.sock").exists()
    assert not (state / "operator.sock").exists()


def test_k18_a_second_daemon_refuses_the_same_directory(state: Path) -> None:
    with daemon(state) as first:
        second = run(state)
        assert second.returncode == 3
        assert f"Another daemon (process {first.pid}) serves {state}." in second.stderr
        assert (state / "agent.sock").is_socket()


def test_a_killed_daemon_leaves_nothing_that_stops_the_next(state: Path) -> None:
    with daemon(state) as first:
        first.kill()
        first.communicate(timeout=SECONDS)
    assert (state / "agent.sock").is_socket()
    with daemon(state):
        assert (state / "agent.sock").is_socket()


def test_a_daemon_whose_directory_was_deleted_ends(state: Path) -> None:
    with daemon(state) as orphan:
        shutil.rmtree(state)
        _, said = orphan.communicate(timeout=SECONDS)
    assert orphan.returncode == 0, said
    assert "Traceback" not in said


def test_a_daemon_whose_directory_was_moved_ends_and_leaves_alone_what_stands_there_now(state: Path) -> None:
    with daemon(state) as orphan:
        state.rename(state.with_name("moved"))
        with daemon(state) as follower:
            _, said = orphan.communicate(timeout=SECONDS)
            assert orphan.returncode == 0 and "was moved or deleted" in said
            assert follower.poll() is None
            assert (state / "agent.sock").is_socket() and (state / "operator.sock").is_socket()


def test_t22_it_makes_its_directory_private_and_refuses_one_that_is_not(state: Path) -> None:
    with daemon(state):
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        for file in state.iterdir():
            assert not file.stat().st_mode & 0o077, file
    state.chmod(0o750)
    refused = run(state)
    assert refused.returncode == 3
    assert f"chmod 700 {state}" in refused.stderr


def test_n04_it_refuses_to_listen_to_everybody_without_names(state: Path) -> None:
    refused = run(state, MCP_SPACES_HTTP_PORT="0", MCP_SPACES_HTTP_HOST="0.0.0.0")
    assert refused.returncode == 3
    assert "--allowed-host" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("key", ["missing", "no PEM", "another's", "with a passphrase"])
def test_files_for_tls_that_cannot_be_used_are_named_without_a_traceback(state: Path, key: str) -> None:
    certificate, key_file = state.parent / "certificate.pem", state.parent / "key.pem"
    made = Certificates.make(["localhost"])
    certificate.write_bytes(made.leaf_pem)
    if key == "no PEM":
        key_file.write_text("nothing of the kind")
    elif key == "another's":
        key_file.write_bytes(Certificates.make(["localhost"]).key_pem)
    elif key == "with a passphrase":
        key_file.write_bytes(sealed(made.key_pem))
    refused = run(
        state,
        MCP_SPACES_HTTP_PORT="0",
        MCP_SPACES_HTTP_TLS_CERTIFICATE=str(certificate),
        MCP_SPACES_HTTP_TLS_KEY=str(key_file),
    )
    assert refused.returncode == 3
    assert str(key_file) in refused.stderr
    assert "Traceback" not in refused.stderr


def sealed(key: bytes) -> bytes:
    held = load_pem_private_key(key, None)
    return held.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a phrase"))


def test_what_its_folder_says_holds_whoever_starts_it(state: Path) -> None:
    state.mkdir(mode=0o700)
    (state / "settings.toml").write_text('http_port = 0\nhttp_host = "0.0.0.0"\n')
    refused = run(state)
    assert refused.returncode == 3
    assert "http_allowed_hosts" in refused.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (state / "settings.toml").write_text(f"http_port = {taken.getsockname()[1]}\n")
        refused = run(state)
    assert refused.returncode == 3
    assert "Choose another: http_port" in refused.stderr and "Traceback" not in refused.stderr
    (state / "settings.toml").write_text("http_prot = 80\n")
    refused = run(state)
    assert refused.returncode == 1
    assert "'http_prot' in " in refused.stderr and "Traceback" not in refused.stderr


def test_a_setting_that_nobody_reads_is_an_error(state: Path) -> None:
    refused = run(state, MCP_SPACES_HTTP_PROT="80")
    assert refused.returncode == 1
    assert "MCP_SPACES_HTTP_PROT is not a setting." in refused.stderr


def test_a_path_too_long_for_a_socket_is_refused_with_what_to_do(state: Path) -> None:
    refused = run(state / ("x" * 120))
    assert refused.returncode == 3
    assert "MCP_SPACES_STATE_DIR" in refused.stderr


async def test_clients_reach_it_through_the_shim_and_share_it(state: Path) -> None:
    shim = StdioServerParameters(
        command=sys.executable, args=["-m", "mcp_spaces", "stdio"], env=environment(state), cwd=ROOT
    )
    with daemon(state):
        async with Client(shim) as first, Client(shim, mode="legacy") as second:
            for client in (first, second):
                assert (await client.call_tool("thing_echo", {"text": "a"})).structured_content == {"text": "a"}


def test_it_takes_the_room_for_open_files_that_it_may_have(state: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, most // 2), hard))
    try:
        with daemon(state) as process:
            assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (most, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
