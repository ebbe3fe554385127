"""An engine that cannot be used says why, and what mends it."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import docker  # noqa: F401 - before the user changes, who might not read it
import pytest

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.docker.engine import Engine
from mcp_spaces.sandbox.docker.failures import mend
from tests.security.app import nobody, short_folder


def refusal(path: Path) -> RuntimeUnavailable:
    with pytest.raises(RuntimeUnavailable) as refused:
        Engine(f"unix://{path}", log=logging.getLogger("test")).client()
    return refused.value


def test_a_socket_that_this_user_may_not_use_names_the_group_to_join() -> None:
    with short_folder() as folder, socket.socket(socket.AF_UNIX) as engine:
        folder.chmod(0o755)
        engine.bind(str(folder / "engine.sock"))
        engine.listen()
        (folder / "engine.sock").chmod(0)
        with nobody():
            refused = refusal(folder / "engine.sock")
        assert refused.message == f"Your user may not use {folder}/engine.sock."
        assert "sudo usermod -aG docker $USER" in refused.hint
        assert mend(refused).startswith("sudo usermod -aG docker $USER")


def test_no_socket_leads_to_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    with short_folder() as folder:
        refused = refusal(folder / "engine.sock")
    assert "not installed, or not running" in refused.message
    monkeypatch.setenv("PATH", "/nonexistent")
    assert mend(refused).startswith("sudo apt-get install docker.io")


def test_a_socket_that_nobody_serves_leads_to_the_start() -> None:
    with short_folder() as folder:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.bind(str(folder / "engine.sock"))
        assert mend(refusal(folder / "engine.sock")) == "sudo systemctl start docker"
