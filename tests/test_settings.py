"""What a process reads of its environment: the knobs, and where this machine keeps the daemon's state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mcp_spaces import places
from mcp_spaces.errors import InvalidInput
from mcp_spaces.settings import READ_ELSEWHERE, Settings, read_settings

HOME = {"MCP_SPACES_STATE_DIR": "/srv/spaces"}


def test_each_knob_has_its_variable_and_lists_are_separated_by_commas() -> None:
    read = read_settings({**HOME, "MCP_SPACES_HTTP_PORT": "8080", "MCP_SPACES_HTTP_ALLOWED_HOSTS": " a.example, ,b:1 "})
    assert (read.state_dir, read.http_port) == (Path("/srv/spaces"), 8080)
    assert read.http_allowed_hosts == ("a.example", "b:1")


def test_the_state_directory_is_a_whole_path_whatever_the_variable_says() -> None:
    assert read_settings({"MCP_SPACES_STATE_DIR": "~/a/../b"}).state_dir == Path.home() / "b"


def test_what_stands_on_the_command_line_wins_over_the_environment() -> None:
    environment = {**HOME, "MCP_SPACES_HTTP_PORT": "8080", "MCP_SPACES_HEARTBEAT_S": "5"}
    read = read_settings(environment, http_port=9090, heartbeat_s=None, state_dir="/srv/other")
    assert (read.http_port, read.heartbeat_s, read.state_dir) == (9090, 5, Path("/srv/other"))


def test_dockers_own_variable_counts_and_ours_wins() -> None:
    theirs = {**HOME, "DOCKER_HOST": "unix:///theirs.sock"}
    assert read_settings(theirs).docker_host == "unix:///theirs.sock"
    assert read_settings({**theirs, "MCP_SPACES_DOCKER_HOST": "unix:///ours.sock"}).docker_host == "unix:///ours.sock"
    assert read_settings({**HOME, "DOCKER_HOST": ""}).docker_host is None


def test_what_others_read_of_our_variables_is_no_setting_and_no_error() -> None:
    read = read_settings({**HOME, "HTTP_PORT": "1", **dict.fromkeys(READ_ELSEWHERE, "a secret")})
    assert read.http_port is None
    assert "a secret" not in repr(read)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MCP_SPACES_HTTP_PROT", "80", "MCP_SPACES_HTTP_PROT is not a setting."),
        ("MCP_SPACES_HTTP_PORT", "65536", "Setting http_port: Input should be less than or equal to 65535."),
        ("MCP_SPACES_HTTP_PUBLIC_URL", "https://a.example/", "Setting http_public_url: "),
        ("MCP_SPACES_VAULT_KEY_SOURCE", "pass:hunter2", "Setting vault_key_source: "),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_and_what_it_holds_is_not(variable: str, value: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_settings({**HOME, variable: value})
    assert refused.value.message.startswith(said)
    assert variable in f"{refused.value.message} {refused.value.hint}"
    assert "hunter2" not in f"{refused.value.message} {refused.value.hint}"


def file_in(folder: Path, content: str | bytes) -> dict[str, str]:
    (folder / "settings.toml").write_bytes(content.encode() if isinstance(content, str) else content)
    return {"MCP_SPACES_STATE_DIR": str(folder)}


def test_what_stands_in_the_state_folder_holds_whoever_starts_the_daemon(tmp_path: Path) -> None:
    environment = file_in(
        tmp_path,
        'http_port = 8080\nheartbeat_s = 5\ndocker_host = "unix:///ours"\nhttp_allowed_hosts = ["a.example", "b:1"]\n',
    )
    read = read_settings({**environment, "DOCKER_HOST": "unix:///theirs", "MCP_SPACES_HEARTBEAT_S": "6"})
    assert (read.http_port, read.docker_host, read.http_allowed_hosts) == (8080, "unix:///ours", ("a.example", "b:1"))
    assert read.heartbeat_s == 6, "a variable wins"
    assert read_settings(environment, http_port=9090).http_port == 9090, "the command line wins over both"


def test_the_file_is_the_one_of_the_state_folder_that_the_command_line_names(tmp_path: Path) -> None:
    file_in(tmp_path, "http_port = 8080")
    assert read_settings(HOME, state_dir=tmp_path).http_port == 8080
    assert read_settings(HOME).http_port is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("http_prot = 80", "'http_prot' in {file} is not a setting."),
        ("[http]\nport = 80", "'http' in {file} is not a setting."),
        ("http_port = 65536", "Setting http_port: Input should be less than or equal to 65535."),
        ("http_port = [80]", "Setting http_port: "),
        ('state_dir = "/elsewhere"', "state_dir does not go into {file}."),
        ("start_s = 300", "start_s does not go into {file}."),
        ("http_port: 80", "{file} is no TOML: "),
        (b"# \xff", "{file} is no TOML: "),
        ("#" * 65_537, "{file} has more than 64 KiB."),
    ],
)
def test_a_file_of_settings_that_cannot_be_used_is_named(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_settings(file_in(tmp_path, content))
    assert refused.value.message.startswith(said.format(file=tmp_path / "settings.toml"))
    assert refused.value.hint


def test_a_file_of_settings_that_cannot_be_read_is_no_missing_one(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").mkdir()
    with pytest.raises(InvalidInput, match=r"settings\.toml cannot be read: Is a directory"):
        read_settings({"MCP_SPACES_STATE_DIR": str(tmp_path)})


@pytest.mark.timeout(60)
def test_a_pipe_in_place_of_the_file_of_settings_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "settings.toml")
    with pytest.raises(InvalidInput, match=r"settings\.toml is a pipe"):
        read_settings({"MCP_SPACES_STATE_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("localhost.example", False),
        ("box.localhost", False),
    ],
)
def test_only_an_address_of_this_machine_alone_is_loopback(host: str, is_loopback: bool) -> None:
    assert Settings(http_host=host).http_is_loopback is is_loopback


@pytest.mark.parametrize(
    ("knobs", "url"),
    [
        ({}, None),
        ({"http_port": 0}, None),
        ({"http_port": 80}, "http://127.0.0.1:80"),
        ({"http_port": 80, "http_host": "::1"}, "http://[::1]:80"),
        ({"http_port": 80, "http_allowed_hosts": "a.example:80,b"}, "http://a.example:80"),
        ({"http_port": 80, "http_allowed_hosts": "a", "http_behind_tls_proxy": True}, "https://a"),
        ({"http_port": 80, "http_tls_certificate": "c.pem", "http_tls_key": "k.pem"}, "https://127.0.0.1:80"),
        ({"http_port": 80, "http_public_url": "https://p.example"}, "https://p.example"),
        ({"http_public_url": "https://p.example"}, "https://p.example"),
    ],
)
def test_links_lead_where_clients_reach_the_server(knobs: dict[str, object], url: str | None) -> None:
    read = Settings.model_validate(knobs)
    assert read.public_url == url
    assert read.serves_links is ("http_port" in knobs or "http_public_url" in knobs)


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"MCP_SPACES_STATE_DIR": "/srv/a/../b", "XDG_STATE_HOME": "/xdg"}, "/srv/b"),
        ({"MCP_SPACES_STATE_DIR": "~/spaces"}, "{home}/spaces"),
        ({"MCP_SPACES_STATE_DIR": "", "XDG_STATE_HOME": "/xdg"}, "/xdg/mcp-spaces"),
    ],
)
def test_a_variable_that_says_nothing_counts_as_none_and_one_that_says_home_is_understood(
    environment: dict[str, str], folder: str
) -> None:
    assert places.state_directory(environment) == folder.format(home=Path.home())
