"""The two local sockets: one for agents, one for the operator. Who may connect is who may be this user.

The directory is 0700 and the sockets 0600; the kernel names the user on the other side, and any other than the
daemon's own or root is refused. Which socket it is decides the principal: an agent never becomes the operator.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import mcp_types as types
from mcp.server.runner import serve_dual_era_loop

from mcp_spaces import places
from mcp_spaces.errors import InvalidInput, SpacesError, WrongState
from mcp_spaces.server import strict_json
from mcp_spaces.server.authentication import Visitor, visited_by
from mcp_spaces.server.limits import Lanes
from mcp_spaces.server.lines import LineReader, LineWriter
from mcp_spaces.server.local_clients import LocalClient, NoClient, first_line, met
from mcp_spaces.server.own_folder import identity
from mcp_spaces.server.terminal import serve_terminal, wanted

if TYPE_CHECKING:
    from mcp_spaces.core.caller import Caller
    from mcp_spaces.server.endpoint import SpacesServer
    from mcp_spaces.server.port import Application

log = logging.getLogger(__name__)

PREAMBLE_START = b'{"mcp-spaces":'
BACKLOG = 128
ACCEPT_AGAIN_S = 1.0
"""After there was no descriptor left for one more."""
PATH_BYTES_MAX = 107  # sockaddr_un
UNAUTHENTICATED = -32001
"""In the range that JSON-RPC leaves to implementations."""


class LocalSockets:
    def __init__(self, app: Application, server: SpacesServer) -> None:
        self._app = app
        self._server = server
        self._settings = server.settings
        self._lanes = Lanes(calls_max=self._settings.agent_calls_max, streams_max=self._settings.streams_max)
        self._open = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Accept connections on both sockets until left; then cancel what runs and remove them."""
        state = str(self._settings.state_dir)
        async with anyio.create_task_group() as tasks:
            async with (
                self._listener(tasks.start_soon, Path(places.agent_socket(state)), self._agent),
                self._listener(tasks.start_soon, Path(places.operator_socket(state)), self._operator),
            ):
                yield
            tasks.cancel_scope.cancel()

    @asynccontextmanager
    async def _listener(
        self, start_soon: Callable[..., object], path: Path, identify: Callable[[bytes], Awaitable[Caller]]
    ) -> AsyncIterator[None]:
        listener = bound(path)
        ours = identity(path)
        listener.listen(BACKLOG)
        listener.setblocking(False)

        async def accept() -> None:
            while True:
                try:
                    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                except OSError as error:
                    log.warning("a local connection could not be accepted: %s", error.strerror)
                    await asyncio.sleep(ACCEPT_AGAIN_S)
                else:
                    start_soon(self._connection, connection, identify)

        accepting = asyncio.create_task(accept())
        try:
            yield
        finally:
            accepting.cancel()
            listener.close()
            # Where the directory was moved, another daemon listens by this path.
            if identity(path) == ours:
                remove(path)

    async def _connection(self, connection: socket.socket, identify: Callable[[bytes], Awaitable[Caller]]) -> None:
        if not peer_is_us(connection):
            log.warning("refused a local connection of another user")
            connection.close()
            return
        self._open += 1
        try:
            if self._open > self._settings.local_connections_max:
                turn_away(connection, "Too many local connections are open.")
                return
            async with met(connection, line_bytes_max=self._settings.line_bytes_max) as client:
                await self._serve(client, identify)
        except NoClient as problem:
            log.warning("refused a local connection: %s", problem)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError):
            log.debug("a local client left without closing")
        except Exception:
            # One connection's trouble must not end the others, which live in the same task group.
            log.exception("a local connection ended by an error")
        finally:
            self._open -= 1

    async def _serve(self, client: LocalClient, identify: Callable[[bytes], Awaitable[Caller]]) -> None:
        answers = LineWriter(client.writer)
        arguments = wanted(client.first_line)
        if arguments is not None and identify == self._operator:
            await serve_terminal(self._app, self._app.operator(), arguments, client.reader, client.writer)
            return
        try:
            caller = await identify(client.first_line)
        except SpacesError as error:
            await _answer_first_request(client, answers, error)
            return
        first_request = b"" if _is_preamble(client.first_line) else client.first_line
        messages = LineReader(client.reader, answers, first_line=first_request)
        who = Visitor(caller, self._lanes.new(), today=self._app.current)
        with self._server.guard.following(caller), visited_by(who):
            await serve_dual_era_loop(
                self._server,
                messages,
                answers,
                lifespan_state={},
                init_options=self._server.create_initialization_options(),
            )

    async def _agent(self, first_line: bytes) -> Caller:
        key = _key(first_line)
        return self._app.local_agent() if key is None else await self._app.authenticate(key)

    async def _operator(self, first_line: bytes) -> Caller:
        if _is_preamble(first_line):
            raise InvalidInput("The operator's socket takes no key.", hint="Connect to the agents' socket with it.")
        return self._app.operator()


def turn_away(connection: socket.socket, why: str) -> None:
    """Before a word was read: whoever it is, nothing is kept for them."""
    error = types.ErrorData(code=types.INVALID_REQUEST, message=why)
    answer = types.JSONRPCError(jsonrpc="2.0", id=None, error=error)
    with connection, suppress(OSError):
        connection.setblocking(False)
        connection.send(answer.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")


def bound(path: Path) -> socket.socket:
    """A listening socket at `path`, mode 0600, in place of one that a killed daemon left.

    Raises:
        InvalidInput: the path is too long for a socket.
    """
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise InvalidInput(
            f"{path} is longer than the {PATH_BYTES_MAX} bytes that a socket's path may have.",
            hint=f"Set {places.STATE_DIRECTORY_VARIABLE} to a shorter path.",
        )
    remove(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener


def remove(path: Path) -> None:
    """Nobody can connect by this path any more. Not an error: it is gone already."""
    path.unlink(missing_ok=True)


def make_private(directory: Path) -> None:
    """Create the state directory, or check that it is nobody else's (threat T22).

    Raises:
        WrongState: it is not a directory of this user with mode 0700.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise WrongState(
            f"{directory}: {error.strerror}.", hint=f"Set {places.STATE_DIRECTORY_VARIABLE} to a directory of yours."
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise WrongState(
            f"{directory} is not a directory of this user.",
            hint=f"Set {places.STATE_DIRECTORY_VARIABLE} to a directory of yours.",
        )
    if found.st_mode & 0o077:
        raise WrongState(f"Others may read {directory}.", hint=f"Run: chmod 700 {directory}")


def peer_is_us(connection: socket.socket) -> bool:
    """Whether the process on the other side runs as this user, or as root."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return user in (0, os.geteuid())


def _is_preamble(line: bytes) -> bool:
    return line.startswith(PREAMBLE_START)


def _key(line: bytes) -> str | None:
    """The key of a preamble, or None for the local agent. Raises InvalidInput."""
    if not _is_preamble(line):
        return None
    try:
        said = strict_json.parse(line)
    except strict_json.AmbiguousJsonError:
        said = None
    match said:
        case {"mcp-spaces": 1, "key": str() as key, **rest} if not rest:
            return key
        case {"mcp-spaces": 1, "pipes": 2, **rest} if not rest:
            return None
        case _:
            raise InvalidInput("The first line is not one that this daemon knows.", hint="Update mcp-spaces.")


async def _answer_first_request(client: LocalClient, answers: LineWriter, error: SpacesError) -> None:
    """Tell a client why it is not served, as the answer to what it asks first: else it only sees a closed pipe."""
    line = client.first_line
    if _is_preamble(line):
        line = await first_line(client.reader)
    answers.refuse(strict_json.request_id(line), UNAUTHENTICATED, f"{error.message} {error.hint}".strip())
