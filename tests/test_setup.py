"""scripts/setup, as it meets machines unlike this one: their own programs stand in a folder that is all of its PATH."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from mcp_spaces.__main__ import unsupported
from tests.processes import ends_with

ROOT = Path(__file__).resolve().parent.parent
TOOLS = "awk bash cat cut dirname docker env grep head id mkdir mktemp mv rm sed sh sha256sum sort tail timeout uname"
"""Without flock: a set-up that runs on this machine meanwhile is not waited for."""


MAKES_A_VENV = (
    'case "$1" in -V) echo Python 3.12.0;; -m) mkdir -p .venv/bin; echo "#!/bin/sh" >.venv/bin/python;'
    f" {shutil.which('chmod')} +x .venv/bin/python;; esac"
)
"""A Python that makes no more of it than set-up looks at."""


class Machine:
    """The programs that a machine has: the usual ones of this machine, and stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.environment = {"PATH": str(self.programs), "HOME": str(folder), "TMPDIR": str(folder)}
        for name in TOOLS.split():
            found = shutil.which(name)
            assert found is not None, f"{name} is missing here"
            (self.programs / name).symlink_to(found)

    def has(self, name: str, script: str = "exit 1") -> None:
        program = self.programs / name
        program.unlink(missing_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        program.chmod(0o755)

    def is_used_by(self, user: str) -> None:
        self.has("id", f'[ "$1" = -u ] && echo {0 if user == "root" else 1000} || echo {user}')

    def setup(self, *words: str, checkout: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [checkout / "scripts/setup", *words],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@contextmanager
def engine(socket: Path, *, name: str = "Engine", api: str = "1.41") -> Iterator[str]:
    """What says of itself that it is this engine; yields its address."""
    said = {"Version": "1", "ApiVersion": api, "Components": [{"Name": name, "Version": "1"}]}

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(said).encode() if self.path.endswith("/version") else b"OK"
            self.send_response(200)
            self.send_header("Api-Version", api)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            # Who asks whether somebody is there does not always wait for the words.
            with suppress(BrokenPipeError):
                self.wfile.write(b"" if self.command == "HEAD" else body)

        do_HEAD = do_GET  # noqa: N815

        def address_string(self) -> str:
            return "local"

        def log_message(self, *_: object) -> None:
            pass

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with Server(str(socket), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"unix://{socket}"
        finally:
            server.shutdown()
            thread.join()


# ------------------------------------------------------------------------------------------------------ the system


def test_setup_on_another_system_says_that_linux_is_needed(machine: Machine) -> None:
    machine.has("uname", "echo Darwin")
    ended = machine.setup("demo")
    assert ended.returncode == 1
    assert "needs Linux, and this is Darwin" in ended.stderr
    assert "--server URL" in ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize("words", [["stdio"], ["serve"], ["list"], ["--server", "https://x/mcp", "serve"]])
def test_a_command_that_needs_the_daemon_here_says_that_linux_is_needed(words: list[str]) -> None:
    said = unsupported("darwin", words, {})
    assert said is not None
    assert "needs Linux, and this is darwin" in said
    assert unsupported("linux", words, {}) is None


def test_other_systems_may_use_a_server_elsewhere() -> None:
    assert unsupported("darwin", ["--server", "https://x/mcp", "list"], {}) is None
    assert unsupported("darwin", ["--server=https://x/mcp", "list"], {}) is None
    assert unsupported("darwin", ["list"], {"MCP_SPACES_SERVER": "https://x/mcp"}) is None
    assert unsupported("darwin", ["install", "--client", "cursor"], {}) is None
    assert unsupported("darwin", ["--help"], {}) is None


# ------------------------------------------------------------------------------------------------------ the engine


def test_setup_asks_the_engine_of_a_docker_context_and_says_how_the_daemon_finds_it(
    machine: Machine, tmp_path: Path
) -> None:
    with engine(tmp_path / "s") as address:
        for words in (["create", "mine", "--docker", f"host={address}"], ["use", "mine"]):
            subprocess.run(["docker", "context", *words], env=machine.environment, check=True, capture_output=True)
        ended = machine.setup("engine", "--", "sh", "-c", 'echo "afterwards: $DOCKER_HOST"')
    assert ended.returncode == 0, ended.stderr
    assert 'context "mine"' in ended.stdout
    assert f"export DOCKER_HOST={address}\n" in ended.stdout
    assert ended.stdout.endswith(f"afterwards: {address}\n")


@pytest.mark.parametrize(
    ("name", "api", "reason"),
    [
        ("Podman Engine", "1.41", "is Podman. mcp-spaces needs Docker's own engine."),
        ("Engine", "1.40", "speaks API 1.40; mcp-spaces needs 1.41"),
    ],
)
def test_setup_refuses_an_engine_that_will_not_do_by_name(
    machine: Machine, tmp_path: Path, name: str, api: str, reason: str
) -> None:
    with engine(tmp_path / "s", name=name, api=api) as address:
        ended = machine.setup("engine", DOCKER_HOST=address)
    assert ended.returncode == 1
    assert reason in ended.stderr
    assert address in ended.stderr


def test_setup_refuses_podman_under_the_name_of_docker(machine: Machine) -> None:
    machine.has("docker", '[ "$1" = context ] && exit 1; echo podman version 5.2.0')
    ended = machine.setup("engine")
    assert ended.returncode == 1
    assert "The docker command here is Podman's" in ended.stderr


def test_setup_says_when_only_the_docker_command_reaches_the_engine(machine: Machine) -> None:
    machine.has("docker", 'case "$*" in --version) echo Docker;; version*) echo "1.41 Engine;";; esac')
    ended = machine.setup("engine", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert ended.returncode == 1
    assert "The docker command reaches the engine at unix:///nowhere/docker.sock; the daemon would not" in ended.stderr


@pytest.mark.parametrize(("user", "command"), [("root", "    dnf install "), ("jo", "    sudo dnf install ")])
def test_setup_names_the_commands_of_another_distribution(machine: Machine, user: str, command: str) -> None:
    machine.is_used_by(user)
    machine.has("docker", "exit 1")
    machine.has("dnf")
    machine.has("grep", "exit 0")  # for /etc/os-release: Fedora
    ended = machine.setup("engine")
    assert ended.returncode == 1
    assert f"{command}moby-engine" in ended.stderr
    assert "scripts/setup engine" not in ended.stderr


# ------------------------------------------------------------------------------------------------------ the Python


@pytest.mark.parametrize(
    ("packages", "commands"),
    [
        ("python3.11", ["sudo apt-get install python3.11 python3.11-venv"]),
        ("nothing", ["uv python install 3.12", 'export PYTHON="$(uv python find 3.12)"']),
    ],
)
def test_an_old_release_is_told_of_a_python_that_it_can_have(
    machine: Machine, packages: str, commands: list[str]
) -> None:
    machine.is_used_by("jo")
    machine.has("python3")
    machine.has("apt-get")
    machine.has("apt-cache", f'[ "$2" = {packages} ]')
    ended = machine.setup("venv")
    assert ended.returncode == 1
    assert [command for command in commands if f"    {command}\n" not in ended.stderr] == []


def test_a_checkout_that_was_moved_gets_its_programs_anew(machine: Machine, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for name in ("scripts/setup", "pyproject.toml", "mcp_spaces/__init__.py"):
        (first / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, first / name)
    machine.has("python3", MAKES_A_VENV)
    made = machine.setup("venv", checkout=first)
    assert made.returncode == 0, made.stderr
    assert "making .venv" in made.stdout
    assert f'ln -sf "{first}/.venv/bin/mcp-spaces"' in made.stdout
    assert machine.setup("venv", checkout=first).stdout == ""
    os.rename(first, second)  # noqa: PTH104
    assert "making .venv" in machine.setup("venv", checkout=second).stdout


@pytest.mark.parametrize(("user", "command"), [("root", ""), ("jo", "sudo apt-get install libatomic1")])
def test_the_library_that_playwright_s_node_lacks_is_installed_or_named(
    machine: Machine, tmp_path: Path, user: str, command: str
) -> None:
    checkout = tmp_path / "checkout"
    for name in ("scripts/setup", "pyproject.toml", "mcp_spaces/__init__.py"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    driver = checkout / ".venv/lib/python3.12/site-packages/playwright/driver"
    driver.mkdir(parents=True)
    ends_with("node: libatomic.so.1: cannot open shared object file", driver / "node")
    machine.is_used_by(user)
    machine.has("python3", MAKES_A_VENV)
    machine.has("apt-get", f'[ "$1" = update ] || {shutil.which("cp")} {shutil.which("true")} {driver}/node')
    ended = machine.setup("venv", checkout=checkout)
    assert (ended.returncode, f"    {command}\n" in ended.stderr) == ((1, True) if command else (0, False)), ended
    assert ("installing libatomic1" in ended.stdout) == (not command)
    if not command:
        assert machine.setup("venv", checkout=checkout).stdout == ""
