"""What somebody else's configuration file may hold, and what becomes of it when it cannot be written."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from mcp_spaces.cli import config_files
from mcp_spaces.cli.clients import Client, Entry, Launch, Scope, entry
from tests.security.app import nobody

LAUNCH = Launch("/opt/venv/bin/mcp-spaces", ("stdio",), {"MCP_SPACES_STATE_DIR": '/srv/"x"'})
URL = "https://spaces.example.org/mcp"


def wanted(client: Client, folder: Path, *, url: str | None = None) -> Entry:
    return entry(client, Scope.USER, url=url, launch=LAUNCH, home=folder, project=folder, platform="linux")


@pytest.mark.parametrize(
    ("client", "before"),
    [
        (Client.CURSOR, '{"theme": "dark", "theme": "light"}'),
        (Client.CURSOR, '{"mcpServers": {"a": {}, "a": {"command": "x"}}}'),
        (Client.CURSOR, '{"number": 1e400}'),
        (Client.CURSOR, '{"text": "\\ud800"}'),
        (Client.CURSOR, "[]"),
        (Client.CURSOR, "3"),
        (Client.CURSOR, '{"mcpServers": null}'),
        (Client.VSCODE, '{"inputs": {}}'),
        (Client.VSCODE, '{"inputs": ["token"]}'),
        (Client.VSCODE, '{"inputs": [1]}'),
        (Client.CODEX, "mcp_servers = 3\n"),
        (Client.CODEX, "a = 1\r"),
    ],
)
def test_a_file_that_would_lose_something_is_left_alone(client: Client, before: str, tmp_path: Path) -> None:
    with pytest.raises(config_files.LeftAlone):
        config_files.text_with(wanted(client, tmp_path, url=URL), before)


def test_what_a_client_asks_its_user_for_is_added_once_beside_what_it_asks_already(tmp_path: Path) -> None:
    one = wanted(Client.VSCODE, tmp_path, url=URL)
    theirs = {"id": "another", "type": "promptString"}
    after = config_files.text_with(one, json.dumps({"inputs": [theirs], "servers": {}}))
    assert [held["id"] for held in json.loads(after)["inputs"]] == ["another", "spaces-token"]
    assert config_files.text_with(one, after) == after
    moved = json.loads(after) | {"servers": {}}
    assert json.loads(config_files.text_with(one, json.dumps(moved))) == json.loads(after)
    lost = json.loads(after) | {"inputs": [theirs]}
    assert json.loads(config_files.text_with(one, json.dumps(lost))) == json.loads(after)


@pytest.mark.parametrize("indent", ["  ", "    ", "\t"])
def test_a_file_keeps_its_indent_and_its_letters(indent: str, tmp_path: Path) -> None:
    before = json.dumps({"thème": {"a": 1}}, indent=indent, ensure_ascii=False)
    after = config_files.text_with(wanted(Client.CURSOR, tmp_path), before)
    assert after.startswith(before.removesuffix("\n}"))


def test_toml_keeps_the_line_ends_that_it_has(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    before = b'# mine\r\nmodel = "x"\r\n'
    file.write_bytes(before)
    after = config_files.text_with(wanted(Client.CODEX, tmp_path), config_files.read(file))
    copy = config_files.write(file, after)
    assert file.read_bytes().startswith(before)
    assert copy is not None and copy.read_bytes() == before
    assert tomllib.loads(after)["mcp_servers"]["spaces"]["env"] == {"MCP_SPACES_STATE_DIR": '/srv/"x"'}
    assert config_files.text_with(wanted(Client.CODEX, tmp_path), after) == after


def test_a_new_file_is_this_users_alone_and_has_no_copy(tmp_path: Path) -> None:
    file = tmp_path / "new" / "mcp.json"
    assert config_files.write(file, "{}") is None
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("{}", 0o600)
    assert [one.name for one in file.parent.iterdir()] == ["mcp.json"]


def test_what_is_there_is_never_copied_over_an_older_copy(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text("first")
    copies = [config_files.write(file, text) for text in ("second", "third")]
    assert [copy.read_text() for copy in copies if copy] == ["first", "second"]


def test_a_file_that_cannot_be_read_or_written_is_said_and_nothing_is_left_behind(tmp_path: Path) -> None:
    assert config_files.read(tmp_path / "none.json") == ""
    latin = tmp_path / "latin.json"
    latin.write_bytes(b'{"a": "\xe9"}')
    for path in (latin, tmp_path):
        with pytest.raises(config_files.LeftAlone):
            config_files.read(path)
    with pytest.raises(config_files.LeftAlone):
        config_files.write(latin / "below.json", "{}")
    directory = tmp_path / "directory.json"
    directory.mkdir()
    with pytest.raises(config_files.LeftAlone):
        config_files.write(directory, "{}")
    with pytest.raises(UnicodeEncodeError):
        config_files.write(tmp_path / "new.json", "\ud800")
    with nobody(), pytest.raises(config_files.LeftAlone):
        config_files.write(latin, "{}")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["directory.json", "latin.json"]
