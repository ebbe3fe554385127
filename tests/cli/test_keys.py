"""Which key a command shows to a server elsewhere, and what it says of one that cannot be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_spaces.cli import calls
from mcp_spaces.cli.calls import Target, server
from mcp_spaces.cli.local import LocalDaemon
from mcp_spaces.cli.remote import RemoteDaemon
from mcp_spaces.cli.wire import Refusal

URL = "https://spaces.example.org/mcp"


def test_without_a_server_it_is_the_daemon_of_this_machine() -> None:
    assert isinstance(server(Target()), LocalDaemon)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604])
def test_a_key_file_that_others_may_read_is_used_and_warned_of(
    mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(calls.KEY_VARIABLE, "not this one")
    file = tmp_path / "key"
    file.write_text(" msp_key\n")
    file.chmod(mode)
    chosen = server(Target(URL, file))
    assert isinstance(chosen, RemoteDaemon) and chosen._key == "msp_key"
    assert (f"chmod 600 {file}" in capsys.readouterr().err) is (mode != 0o600)


@pytest.mark.parametrize("key", ["", "two words", "msp_\x1b", "clé"])
def test_what_cannot_be_a_key_is_not_sent(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(calls.KEY_VARIABLE, key)
    file = tmp_path / "key"
    file.write_text(key)
    file.chmod(0o600)
    for target in (Target(URL), Target(URL, file)):
        with pytest.raises(Refusal) as refused:
            server(target)
        assert refused.value.code == "unauthenticated"
        assert not key or key not in f"{refused.value.message} {refused.value.hint}"


def test_the_variable_holds_the_key_where_no_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(calls.KEY_VARIABLE, "msp_key")
    chosen = server(Target(URL))
    assert isinstance(chosen, RemoteDaemon) and chosen._key == "msp_key"
