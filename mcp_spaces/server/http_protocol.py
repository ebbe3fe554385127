"""HTTP/1.1 connections with deadlines: uvicorn waits for ever for a request that never arrives (threat D10)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from mcp_spaces.errors import WrongState

CONNECTING_MAX = 2_048
"""Connections that the kernel holds until they are accepted."""
GOODBYE_S = 2
"""What open requests have at the end to finish by themselves."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    header_s: float
    body_s: float


class DeadlineProtocol(H11Protocol):
    """Closes a connection whose headers, or then whose body, take too long. Answers may take as long as they like."""

    def __init__(self, config: uvicorn.Config, server_state: ServerState, deadlines: Deadlines) -> None:
        super().__init__(config=config, server_state=server_state, app_state={})
        self._deadlines = deadlines
        self._timer: asyncio.TimerHandle | None = None
        self._reading_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        self._allow(self._deadlines.header_s)

    def data_received(self, data: bytes) -> None:
        last: RequestResponseCycle | None = self.cycle
        if self._timer is None and (last is None or last.response_complete):
            self._allow(self._deadlines.header_s)  # the next request of a connection that was kept open
        super().data_received(data)

    def handle_events(self) -> None:
        """Also called when an answer is complete, for a request that was sent before it."""
        before: RequestResponseCycle | None = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._allow(self._deadlines.body_s)
            self._reading_body = True
        if self._reading_body and not self.cycle.more_body:
            self._disarm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _allow(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _disarm(self) -> None:
        self._reading_body = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def bound(host: str, port: int) -> socket.socket:
    """A socket at one address; port 0 picks a free one.

    Raises:
        WrongState: the address is taken, or not of this machine.
    """
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=CONNECTING_MAX
        )
        # Accepted connections inherit it. asyncio sets it for sockets of its own only, and without it each answer's
        # body waits 40 ms for the client to acknowledge the headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise WrongState(
            f"{host} port {port}: {error.strerror or error}.",
            hint="Choose another: http_port, http_host, or serve --http-port.",
        ) from error


@asynccontextmanager
async def serving(
    app: ASGIApp,
    listener: socket.socket,
    *,
    deadlines: Deadlines,
    connections_max: int,
    certificate: Path | None = None,
    key: Path | None = None,
) -> AsyncIterator[None]:
    """Serve `app` until left. Of uvicorn only the protocol is used: its server polls and takes signals."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=connections_max,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: DeadlineProtocol(config, state, deadlines),
        sock=listener,
        ssl=config.ssl,
        ssl_handshake_timeout=deadlines.header_s if config.ssl else None,
    )
    try:
        yield
    finally:
        server.close()
        await _say_goodbye(state)


async def _say_goodbye(state: ServerState) -> None:
    for connection in list(state.connections):
        connection.shutdown()
    if state.tasks:
        with anyio.CancelScope(shield=True):
            _, late = await asyncio.wait(state.tasks, timeout=GOODBYE_S)
            for task in late:
                task.cancel()
