"""What is missing is said with the command that mends it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import keyring
import pytest
from keyring.backend import KeyringBackend

from mcp_spaces import places
from mcp_spaces.cli import checks
from mcp_spaces.sandbox.port import Wall
from mcp_spaces.settings import read_settings
from tests.cli.commands import run
from tests.cli.served import served
from tests.processes import ends_with
from tests.security.app import nobody, short_folder

pytestmark = pytest.mark.anyio


def test_a_state_directory_that_others_may_read_is_mended_by_chmod(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    found = checks.state_directory(tmp_path)
    assert (found.holds, found.mend) == (False, f"chmod 700 {tmp_path}")


def test_a_state_directory_that_is_not_there_yet_is_no_trouble_and_stays_so(tmp_path: Path) -> None:
    assert checks.state_directory(tmp_path / "new").holds
    assert not (tmp_path / "new").exists()


def test_a_folder_that_this_user_may_not_look_into_is_a_finding() -> None:
    with short_folder() as folder:
        folder.chmod(0o700)
        with nobody():
            found = [checks.state_directory(folder / "a" / "state"), checks.state_directory(folder / "state")]
            space = checks.space_left(folder / "a" / "state")
    assert [one.holds for one in found] == [False, False]
    assert all(one.mend == "export MCP_SPACES_STATE_DIR=~/mcp-spaces" for one in found)
    assert "GiB free in" in space.found


async def test_what_doctor_says_to_run_are_commands(tmp_path: Path) -> None:
    env = {"MCP_SPACES_TYPO": "1", "MCP_SPACES_STATE_DIR": str(tmp_path)}
    (found,) = checks.configured(env)
    assert found.wall.mend == "unset MCP_SPACES_TYPO"
    (found,) = checks.configured({"MCP_SPACES_STATE_DIR": str(tmp_path), "MCP_SPACES_START_S": "-1"})
    assert found.wall.mend == "unset MCP_SPACES_START_S"
    (tmp_path / "settings.toml").write_text("start = 1")
    (found,) = checks.configured({"MCP_SPACES_STATE_DIR": str(tmp_path)})
    assert found.wall.mend == f"${{EDITOR:-vi}} {tmp_path / 'settings.toml'}"
    assert checks.python().mend == checks.system().mend == ""


def kept_key(state: Path) -> Wall | None:
    return checks.kept_key(str(state), answers_s=30)


async def test_where_the_master_key_is_is_the_daemons_word() -> None:
    async with served() as house:
        state = house.world.folder / "state"
        assert await anyio.to_thread.run_sync(kept_key, state) is None
        await house.world.govern("vault.set", path="prod/github", kind="value", value="a-secret-value")
        # Its own file, whatever this process would choose for a new vault.
        found = await anyio.to_thread.run_sync(kept_key, state)
        (state / "master.key").write_text("0" * 64 + "\n")
        another = await anyio.to_thread.run_sync(kept_key, state)
        (state / "master.key").chmod(0o644)
        shared = await anyio.to_thread.run_sync(kept_key, state)
        (state / "master.key").unlink()
        gone = await anyio.to_thread.run_sync(kept_key, state)
    assert found is not None and found.holds
    assert found.found.startswith(f"{state}/") and found.found.endswith(", says the daemon")
    assert another is not None and not another.holds and "the vault is locked: " in another.found
    assert shared is not None and not shared.holds and shared.mend == f"chmod 600 {state}/master.key"
    assert gone is not None and not gone.holds
    assert gone.mend.startswith("cp -p ") and str(state / "master.key") in gone.mend


class Unanswered(KeyringBackend):
    """A desktop that nobody sits at. The library looks at all kinds that there are, so only the chosen one waits."""

    is_chosen = False

    @property
    def priority(self) -> float:
        if self.is_chosen:
            threading.Event().wait()
        return 0.0

    def get_password(self, service: str, username: str) -> str | None:
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError


@pytest.fixture
def keyring_that_hangs() -> Iterator[None]:
    before = keyring.get_keyring()
    chosen = Unanswered()  # type: ignore[no-untyped-call]
    chosen.is_chosen = True
    keyring.set_keyring(chosen)
    yield
    keyring.set_keyring(before)


@pytest.mark.usefixtures("keyring_that_hangs")
def test_a_keyring_that_does_not_answer_is_a_finding(tmp_path: Path) -> None:
    settings = read_settings({"MCP_SPACES_STATE_DIR": str(tmp_path)})
    found = checks.vault_key(settings, keyring_answers_s=0.05)
    assert (found.holds, found.found) == (False, "the OS keyring does not answer within 0.05 s")
    assert found.mend.startswith("export MCP_SPACES_VAULT_KEY_SOURCE=file ")
    assert checks.vault_key(settings.model_copy(update={"vault_key_source": "file"}), keyring_answers_s=0.05).holds


def test_a_daemon_that_does_not_say_where_the_key_is_is_a_finding() -> None:
    with short_folder() as state, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(places.operator_socket(str(state)))
        listener.listen()
        found = checks.kept_key(str(state), answers_s=0.05)
    assert found is not None and not found.holds
    assert (found.found, found.mend) == (
        "the daemon does not say where it is within 0.05 s",
        f"tail -n 50 {places.daemon_log(str(state))}",
    )


def test_a_path_too_long_for_a_socket_is_found() -> None:
    assert not checks.socket_path("/tmp/" + "x" * 100).holds


def test_no_daemon_is_not_a_fault(tmp_path: Path) -> None:
    (found,) = checks.daemon(str(tmp_path))
    assert not found.wall.holds
    assert not found.needed


async def test_an_engine_that_is_down_is_a_finding_and_ends_with_1(tmp_path: Path) -> None:
    ended = await run(
        "doctor",
        "--json",
        state_dir=tmp_path / "state",
        env={"MCP_SPACES_DOCKER_HOST": "unix:///nonexistent/docker.sock"},
    )
    found = {one["name"]: one for one in ended.json()["checks"]}
    assert ended.code == 1
    assert not ended.json()["ok"]
    assert not found["engine"]["ok"]
    assert found["engine"]["mend"]
    assert found["python"]["ok"]
    assert not (tmp_path / "state").exists()


async def test_a_setting_that_nobody_knows_is_a_finding(tmp_path: Path) -> None:
    ended = await run("doctor", state_dir=tmp_path, env={"MCP_SPACES_TYPO": "1"})
    assert ended.code == 1
    assert "MCP_SPACES_TYPO is not a setting" in ended.stdout


@pytest.mark.parametrize(
    ("settings", "name", "mend"),
    [
        ({"DRIVER": "container", "IMAGE": "mcp-spaces-browser:none"}, "browser image", "make image"),
        ({"DRIVER": "container", "IMAGE": "none-such:1"}, "browser image", "docker pull none-such:1"),
        ({"DRIVER": "local", "EXECUTABLE": "/none/such"}, "browser program", "Set browser_executable to a Chromium."),
    ],
)
async def test_what_browsers_lack_is_said_with_what_mends_it_and_is_no_fault(
    tmp_path: Path, settings: dict[str, str], name: str, mend: str
) -> None:
    environment = {f"MCP_SPACES_BROWSER_{knob}": value for knob, value in settings.items()}
    ended = await run("doctor", "--json", state_dir=tmp_path, env=environment)
    (found,) = [one for one in ended.json()["checks"] if one["name"] == name]
    assert (found["ok"], found["needed"], found["mend"]) == (False, False, mend)


@pytest.mark.parametrize(
    ("said", "mend"),
    [
        ("node: error while loading shared libraries: libatomic.so.1: cannot open", "sudo apt-get install libatomic1"),
        ("Illegal instruction", "-m pip install --force-reinstall playwright"),
    ],
)
async def test_a_node_of_playwright_s_that_does_not_start_is_found(tmp_path: Path, said: str, mend: str) -> None:
    environment = {"PLAYWRIGHT_NODEJS_PATH": str(ends_with(said, tmp_path / "node"))}
    ended = await run("doctor", "--json", state_dir=tmp_path / "state", env=environment)
    (found,) = [one for one in ended.json()["checks"] if one["name"] == "browser driver"]
    assert (found["ok"], found["needed"]) == (False, False)
    assert said in found["found"] and found["mend"].endswith(mend)
