"""The daemon of this machine, over the operator's socket."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Mapping

from mcp_spaces import places
from mcp_spaces.cli.wire import REQUEST_ID, SILENCE_S, Answer, NoDaemon, OnProgress, Request, answer_of, progress_of

CANCEL = {
    "jsonrpc": "2.0",
    "method": "notifications/cancelled",
    "params": {"requestId": REQUEST_ID, "reason": "Ctrl-C"},
}


class LocalDaemon:
    """Connects for each call. `say` gets the line that a daemon is being started."""

    def __init__(self, environment: Mapping[str, str], *, say: Callable[[str], None]) -> None:
        self._state = places.state_directory(environment)
        self._say = say

    def call(self, request: Request, on_progress: OnProgress) -> Answer:
        body = request.body()
        with self.connect() as connection:
            connection.settimeout(SILENCE_S)
            try:
                connection.sendall(body + b"\n")
                return self._answer(connection, on_progress)
            except KeyboardInterrupt:
                connection.sendall(json.dumps(CANCEL).encode() + b"\n")
                raise
            except TimeoutError:
                raise self._gone(f"The daemon has said nothing for {SILENCE_S} s.") from None
            except OSError as error:
                raise self._gone(f"The connection to the daemon broke: {error.strerror or error}.") from None

    def connect(self) -> socket.socket:
        """A connection to the operator's socket; a daemon is started where none runs. Raises NoDaemon."""
        connection = connected(places.operator_socket(self._state))
        if connection is None:
            from mcp_spaces.server import shim

            self._say(f"no daemon runs for {self._state}: starting one")
            try:
                shim.started_daemon(self._state).close()
            except shim.NotConnected as why:
                raise NoDaemon("\n".join(why.lines), hint="Run: mcp-spaces doctor") from None
            connection = connected(places.operator_socket(self._state))
        if connection is None:
            raise self._gone(f"Nobody listens on {places.operator_socket(self._state)}.")
        return connection

    def _answer(self, connection: socket.socket, on_progress: OnProgress) -> Answer:
        with connection.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if message.get("id") == REQUEST_ID or ("id" in message and "error" in message):
                    return answer_of(message)
                progress_of(message, on_progress)
        raise NoDaemon(
            "The daemon closed the connection before it answered.",
            hint=f"How far it came: mcp-spaces runs. Why it ended: {places.daemon_log(self._state)}",
        )

    def _gone(self, message: str) -> NoDaemon:
        return NoDaemon(message, hint=f"See {places.daemon_log(self._state)}, then run: mcp-spaces doctor")


def connected(path: str) -> socket.socket | None:
    """A connection to a daemon of this user, or None where none listens.

    Raises:
        NoDaemon: somebody else listens there, or this user may not connect.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise NoDaemon(f"{path}: {error.strerror or error}.", hint="Run: mcp-spaces doctor") from None
    _, owner, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if owner not in (0, os.geteuid()):
        connection.close()
        raise NoDaemon(
            f"{path} belongs to another user (uid {owner}).",
            hint=f"Set {places.STATE_DIRECTORY_VARIABLE} to a directory of yours.",
        )
    return connection
