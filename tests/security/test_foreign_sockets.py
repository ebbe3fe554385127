"""Sockets that somebody else listens on in our place: nobody tells them a key (threat T22)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcp_spaces.cli.local import connected
from mcp_spaces.cli.wire import NoDaemon
from mcp_spaces.server import shim
from tests.security.app import nobody, short_folder


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
        listener.settimeout(20)
        yield listener


def heard(listener: socket.socket) -> bytes:
    """What whoever connected has said until they left."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(20)
        return connection.recv(100)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_t22_whoever_listens_as_another_user_hears_nothing() -> None:
    with short_folder() as folder:
        folder.chmod(0o777)
        with nobody(), listening(folder / "agent.sock") as agents, listening(folder / "operator.sock") as operators:
            os.seteuid(0)
            with pytest.raises(shim.NotConnected) as refused:
                shim.connect(str(folder))
            assert refused.value.code == shim.EXIT_REFUSED and "another user (uid 65534)" in refused.value.lines[0]
            with pytest.raises(NoDaemon, match="another user"):
                connected(str(folder / "operator.sock"))
            assert (heard(agents), heard(operators)) == (b"", b"")


def test_t22_the_user_and_root_are_connected_to() -> None:
    with short_folder() as folder:
        folder.chmod(0o755)
        with listening(folder / "agent.sock"), listening(folder / "operator.sock"), nobody():
            for connection in (shim.connect(str(folder)), connected(str(folder / "operator.sock"))):
                assert connection is not None
                connection.close()


def test_a_socket_that_may_not_be_used_is_said_and_one_that_is_gone_is_none() -> None:
    with short_folder() as folder:
        assert shim.connect(str(folder)) is None
        with listening(folder / "agent.sock"):
            pass
        assert shim.connect(str(folder)) is None
        with pytest.raises(shim.NotConnected):
            shim.connect(str(folder / ("x" * 120)))
