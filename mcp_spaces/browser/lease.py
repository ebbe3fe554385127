"""A lease: somebody's own DevTools client in control of one browser, for a while.

One client, once, on 127.0.0.1, with a token of 256 bits in the URL; nothing listens before or after it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from mcp_spaces.browser.lease_rules import Answered, is_foreign, own_targets, screened
from mcp_spaces.browser.port import Debugging
from mcp_spaces.errors import RuntimeUnavailable

log = logging.getLogger(__name__)
# What passes is the client's and the pages', and no log's.
_quiet = logging.getLogger("mcp_spaces.browser.lease.frames")
_quiet.setLevel(logging.WARNING)

ADDRESS = "127.0.0.1"
TOKEN_BYTES = 32
MESSAGE_BYTES_MAX = 32 << 20
"""One message from the client."""
HANDSHAKE_S = 10
CLOSE_S = 1
OURS = 1 << 40
"""Orders of the lease itself are numbered from here."""

OnEnd = Callable[[str], Awaitable[None]]


class Lease:
    """`open` listens; `end` may be called at any time. `on_end` is told the reason, once."""

    def __init__(self, debugging: Debugging, *, context_id: str, ttl_s: float, on_end: OnEnd) -> None:
        self._debugging = debugging
        self._context_id = context_id
        self._ttl_s = ttl_s
        self._on_end = on_end
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self._used = False
        self._port = 0
        self._server: Server | None = None
        self._connection: ServerConnection | None = None
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self.held: asyncio.Task[None] | None = None
        """Ends it with the permission that it was given under."""
        self._next = OURS

    @property
    def token(self) -> str:
        return self._token

    @property
    def connected(self) -> bool:
        """Whether the one client has come."""
        return self._used

    async def open(self, gone: Awaitable[str]) -> str:
        """The URL, for one connection. `gone` ends when the browser does. Raises RuntimeUnavailable."""
        try:
            self._server = await serve(
                self._serve,
                ADDRESS,
                0,
                process_request=self._admit,
                max_size=MESSAGE_BYTES_MAX,
                compression=None,
                open_timeout=HANDSHAKE_S,
                close_timeout=CLOSE_S,
                server_header=None,
                logger=_quiet,
            )
        except OSError as error:
            await self._debugging.aclose()
            raise RuntimeUnavailable("No address for the lease.", hint="Try again.") from error
        self._port = int(next(iter(self._server.sockets)).getsockname()[1])
        self._task = asyncio.create_task(self._run(gone))
        return f"ws://{ADDRESS}:{self._port}/{self._token}"

    async def end(self, reason: str) -> None:
        """Returns when nobody is connected any more. Idempotent."""
        self._finish(reason)
        if self._task is not None:
            await asyncio.shield(self._task)

    async def ended(self) -> None:
        """Once nobody is connected any more, and `on_end` was told."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def _finish(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_result(reason)

    async def _run(self, gone: Awaitable[str]) -> None:
        watched = asyncio.ensure_future(gone)
        try:
            await asyncio.wait({self._over, watched}, timeout=self._ttl_s, return_when=asyncio.FIRST_COMPLETED)
            self._finish("the browser is gone" if watched.done() else "its time was over")
        finally:
            watched.cancel()
            if self._server is not None:
                self._server.close()
                if self._connection is not None:
                    await self._connection.close(1001)
                await self._server.wait_closed()
            await self._debugging.aclose()
            self._finish("it was cancelled")
            await self._on_end(self._over.result())

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Programs of this machine that know the token: no web page can be one (threats N18, N20)."""
        hosts, path = request.headers.get_all("Host"), request.path
        if hosts not in ([f"{ADDRESS}:{self._port}"], [f"localhost:{self._port}"]) or request.headers.get_all("Origin"):
            return connection.respond(HTTPStatus.FORBIDDEN, "Not from here.\n")
        known = hmac.compare_digest(path.encode("utf-8", "replace"), f"/{self._token}".encode())
        if not known or self._used or self._over.done():
            return connection.respond(HTTPStatus.FORBIDDEN, "No such lease.\n")
        self._used = True
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        self._connection = connection
        if self._server is not None:
            # Nobody else is listened to from here on.
            self._server.close(close_connections=False)
        down = asyncio.create_task(self._down(connection))
        try:
            async for message in connection:
                await self._up(connection, message)
        except (ConnectionClosed, RuntimeUnavailable, ValueError):
            # What is no message ends the lease: the client is not what it says.
            pass
        finally:
            down.cancel()
            self._finish("the client left")

    async def _up(self, connection: ServerConnection, message: str | bytes) -> None:
        verdict = screened(message, context_id=self._context_id)
        if isinstance(verdict, Answered):
            await connection.send(json.dumps(verdict.answer))
            return
        if verdict.order["id"] >= OURS or self._over.done():
            raise ValueError("such ids are not the client's, and nothing is after the end")
        await self._debugging.send(json.dumps(verdict.order))

    async def _down(self, connection: ServerConnection) -> None:
        # What cannot be read ends the lease, as a browser does that is gone.
        with suppress(ConnectionClosed, RuntimeUnavailable, ValueError, RecursionError):
            while True:
                told = json.loads(await self._debugging.receive())
                if is_foreign(told, context_id=self._context_id):
                    await self._let_go(told)
                elif told.get("id", 0) < OURS:
                    await connection.send(json.dumps(own_targets(told, context_id=self._context_id)))
        self._finish("the browser is gone")

    async def _let_go(self, told: dict[str, Any]) -> None:
        """A target of another context: the client was attached to it by its own wish to be attached to all."""
        if told.get("method") != "Target.attachedToTarget":
            return
        attached = told["params"]["sessionId"]
        for order in (
            {"method": "Runtime.runIfWaitingForDebugger", "sessionId": attached},
            {"method": "Target.detachFromTarget", "params": {"sessionId": attached}},
        ):
            self._next += 1
            around = {"sessionId": told["sessionId"]} if "sessionId" in told and "params" in order else {}
            with suppress(ValueError):
                await self._debugging.send(json.dumps({"id": self._next, **around, **order}))
