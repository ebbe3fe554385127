"""What is in a client's configuration stays there."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import anyio
import pytest

from mcp_spaces.cli import config_files
from mcp_spaces.cli.clients import Client, Entry, Launch, NotPossible, Scope, claude_command, entry
from tests.cli.commands import run

LAUNCH = Launch("/opt/venv/bin/mcp-spaces", ("stdio",), {})
URL = "https://spaces.example.org/mcp"

pytestmark = pytest.mark.anyio


def wanted(client: Client, folder: Path, *, scope: Scope = Scope.USER, url: str | None = None) -> Entry:
    return entry(client, scope, url=url, launch=LAUNCH, home=folder, project=folder / "project", platform="linux")


@pytest.mark.parametrize("client", Client)
def test_a_new_file_holds_the_entry_and_a_second_time_changes_nothing(client: Client, tmp_path: Path) -> None:
    one = wanted(client, tmp_path)
    text = config_files.text_with(one, "")
    held = tomllib.loads(text) if one.file.suffix == ".toml" else json.loads(text)
    assert held[one.path[0]]["spaces"]["command"] == LAUNCH.command
    assert held[one.path[0]]["spaces"]["args"] == ["stdio"]
    assert config_files.text_with(one, text) == text


@pytest.mark.parametrize("client", [one for one in Client if one is not Client.CLAUDE_DESKTOP])
def test_over_http_the_key_itself_is_in_no_file(client: Client, tmp_path: Path) -> None:
    text = config_files.text_with(wanted(client, tmp_path, url=URL), "")
    assert URL in text
    assert "SPACES_TOKEN" in text or "${input:spaces-token}" in text


def test_other_servers_and_settings_stay_as_they_were(tmp_path: Path) -> None:
    before = {"theme": "dark", "mcpServers": {"other": {"command": "x"}}, "last": [1, 2]}
    after = json.loads(config_files.text_with(wanted(Client.CURSOR, tmp_path), json.dumps(before, indent=4)))
    assert list(after) == ["theme", "mcpServers", "last"]
    assert after["mcpServers"]["other"] == {"command": "x"}
    assert set(after["mcpServers"]) == {"other", "spaces"}


def test_toml_keeps_its_comments_and_order_to_the_byte(tmp_path: Path) -> None:
    before = '# mine\nmodel = "x"  # best\n\n[mcp_servers.other]\ncommand = "y"\n'
    after = config_files.text_with(wanted(Client.CODEX, tmp_path), before)
    assert after.startswith(before)
    assert set(tomllib.loads(after)["mcp_servers"]) == {"other", "spaces"}


@pytest.mark.parametrize(
    ("client", "before"),
    [
        (Client.VSCODE, '{\n  // mine\n  "servers": {}\n}'),
        (Client.CURSOR, '{"mcpServers": []}'),
        (Client.CODEX, '[mcp_servers.spaces]\ncommand = "another"\n'),
        (Client.CODEX, "mcp_servers = { other = { command = 'y' } }\n"),
        (Client.CODEX, "not toml"),
    ],
)
def test_a_file_that_would_lose_something_is_left_alone(client: Client, before: str, tmp_path: Path) -> None:
    with pytest.raises(config_files.LeftAlone):
        config_files.text_with(wanted(client, tmp_path), before)


def test_writing_keeps_mode_link_and_a_copy(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.json", tmp_path / "mcp.json"
    real.write_text("{}")
    real.chmod(0o640)
    link.symlink_to(real)
    copy = config_files.write(link, '{"new": 1}')
    assert link.is_symlink()
    assert (real.read_text(), real.stat().st_mode & 0o777) == ('{"new": 1}', 0o640)
    assert copy is not None
    assert copy.read_text() == "{}"
    assert config_files.write(link, "{}") != copy


def test_what_a_client_cannot_do_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotPossible):
        wanted(Client.CLAUDE_DESKTOP, tmp_path, scope=Scope.PROJECT)
    with pytest.raises(NotPossible):
        wanted(Client.CLAUDE_DESKTOP, tmp_path, url=URL)


def test_claude_code_s_own_line_says_the_same() -> None:
    local = Launch("/opt/my venv/mcp-spaces", ("stdio",), {"MCP_SPACES_STATE_DIR": "/srv/x"})
    assert claude_command(Scope.USER, url=None, launch=local) == (
        "claude mcp add --scope user spaces --env MCP_SPACES_STATE_DIR=/srv/x -- '/opt/my venv/mcp-spaces' stdio"
    )


async def test_the_command_writes_says_so_and_is_idempotent(tmp_path: Path) -> None:
    words = ("install", "--client", "claude-code")
    env = {"HOME": str(tmp_path)}
    first = await run(*words, state_dir="/srv/state", env=env)
    again = await run(*words, state_dir="/srv/state", env=env)
    held = json.loads((tmp_path / ".claude.json").read_text())
    assert first.code == again.code == 0
    assert f"wrote {tmp_path}/.claude.json" in first.stdout
    assert "claude mcp add --scope user spaces" in first.stdout
    assert "nothing was changed" in again.stdout
    assert held["mcpServers"]["spaces"]["env"] == {"MCP_SPACES_STATE_DIR": "/srv/state"}
    assert held["mcpServers"]["spaces"]["command"].startswith("/")


async def test_print_writes_nothing(tmp_path: Path) -> None:
    home = anyio.Path(tmp_path)
    ended = await run("install", "--client", "codex", "--print", state_dir="/srv/state", env={"HOME": str(tmp_path)})
    assert tomllib.loads(ended.stdout)["mcp_servers"]["spaces"]["args"][-1] == "stdio"
    assert [one async for one in home.iterdir()] == []


async def test_settings_that_a_daemon_of_the_clients_would_lack_are_named_and_never_written(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "DOCKER_HOST": "unix:///x.sock", "MCP_SPACES_PASSPHRASE": "correct horse"}
    ended = await run("install", "--client", "cursor", state_dir=tmp_path / "state", env=env)
    assert "DOCKER_HOST, MCP_SPACES_PASSPHRASE\n" in ended.stderr
    assert "correct horse" not in ended.stdout + ended.stderr + (tmp_path / ".cursor" / "mcp.json").read_text()
    remote = await run("install", "--client", "cursor", "--http", URL, state_dir=tmp_path / "state", env=env)
    assert "DOCKER_HOST" not in remote.stderr


async def test_a_key_is_not_sent_in_clear_text(tmp_path: Path) -> None:
    words = ("install", "--client", "cursor", "--http", "http://192.0.2.1/mcp")
    ended = await run(*words, "--json", state_dir="/srv/state", env={"HOME": str(tmp_path)})
    assert ended.code == 1
    assert "clear text" in ended.json()["error"]["message"]
    assert [one async for one in anyio.Path(tmp_path).iterdir()] == []


async def test_with_json_what_was_done_is_a_document(tmp_path: Path) -> None:
    words, env = ("install", "--client", "cursor", "--json"), {"HOME": str(tmp_path)}
    first = await run(*words, state_dir="/srv/state", env=env)
    again = await run(*words, state_dir="/srv/state", env=env)
    file = str(tmp_path / ".cursor/mcp.json")
    assert first.json() | {"text": ""} == {"file": file, "written": True, "copy": None, "text": ""}
    assert again.json()["written"] is False
    await anyio.Path(file).write_text("{ // mine\n}")
    refused = await run(*words, state_dir="/srv/state", env=env)
    assert refused.code == 1
    assert "mcpServers" in refused.json()["error"]["hint"]
