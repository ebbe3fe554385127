"""Chromium's debugging pipe, offered to Playwright on a unix socket that only this user can open.

Messages are JSON, ended by a NUL on the pipe and one a frame on the WebSocket. There is never a port (threat B21).
A second client may join (a lease): it talks to a session of its own, and its messages are told apart by their ids.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
from websockets.asyncio.server import Server, ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed

from mcp_spaces.errors import RuntimeUnavailable

log = logging.getLogger(f"{__name__}.socket")
# At its debug level the library logs what is sent, and that may be a secret (threat L10).
log.setLevel(logging.WARNING)

MESSAGE_BYTES_MAX = 256 << 20
"""One message from a browser: a page of 100 MP as PNG in base64 is below it."""
WAITING_BYTES_MAX = 512 << 20
"""What may wait for Playwright to read it. A browser that sends more is cut off."""
SOCKET_SUFFIX = ".sock"
GUEST_IDS = 1 << 30
"""The second client's messages are numbered from here; Playwright counts from 1."""
GUEST_ASKS_MAX = 10_000
"""Orders of the second client that may wait for their answers."""
GUEST_WAITING_BYTES_MAX = 64 << 20
"""What may wait for the second client to read it. One that reads too slowly is sent away."""

ATTACH_S = 10
ID = re.compile(rb'\{"id":(\d{1,18})[,}]')
SESSION = re.compile(rb',"sessionId":"([^"\\]+)"\}$')
SESSION_BYTES = 200

Send = Callable[[bytes], Awaitable[None]]


class DevToolsPipe:
    """`send` writes to the browser; what comes from it goes to `feed`. `broken` is set when it must be given up."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._server: Server | None = None
        self.path: Path | None = None
        self._ended = False
        self.broken = asyncio.Event()
        self.why = "the connection to the browser broke"
        self.guest: Guest | None = None
        self._guest_ids = itertools.count(GUEST_IDS)
        self._guest_sessions: set[str] = set()

    async def serve(self, folder: Path) -> str:
        """Listen in `folder`, which nobody else can enter. Returns the endpoint for Playwright."""
        path, token = folder / f"{secrets.token_hex(6)}{SOCKET_SUFFIX}", secrets.token_urlsafe(32)

        async def client(connection: ServerConnection) -> None:
            if connection.request is not None and secrets.compare_digest(connection.request.path, f"/{token}"):
                await self._relay(connection)

        self.path = path
        # It listens before it is ours to close.
        with anyio.CancelScope(shield=True):
            self._server = await unix_serve(
                client, str(path), compression=None, max_size=MESSAGE_BYTES_MAX, ping_interval=None, logger=log
            )
        return f"ws+unix:{path}:/{token}"

    def feed(self, chunk: bytes) -> None:
        """Never blocks."""
        *ended, rest = chunk.split(b"\0")
        for part in ended:
            self._partial.append(part)
            self._take(b"".join(self._partial))
            self._partial, self._partial_bytes = [], 0
        if rest:
            self._partial.append(rest)
            self._partial_bytes += len(rest)
        if self._partial_bytes > MESSAGE_BYTES_MAX or self._waiting_bytes > WAITING_BYTES_MAX:
            self.why = "the browser sent more than is taken"
            self._waiting.clear()
            self.end()

    def end(self) -> None:
        """The browser is gone, or has to go."""
        self._ended = True
        self.broken.set()
        self._arrived.set()
        if self.guest is not None:
            self.guest.end()

    async def aclose(self) -> None:
        self.end()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _take(self, message: bytes) -> None:
        if self._guest_sessions and self._is_guests(message):
            return
        self._waiting.append(message)
        self._waiting_bytes += len(message)
        self._arrived.set()

    def _is_guests(self, message: bytes) -> bool:
        """Whether it is for the second client, or for one that has left: Playwright's driver ends at what it did not
        ask for, and every runtime with it."""
        try:
            told = json.loads(message)
            if not self._is_theirs(told.get("id"), told.get("sessionId")):
                return False
            if self.guest is not None:
                self.guest.take(told)
        except ValueError:
            return False
        except RecursionError:
            # Deeper than Python reads or writes; Chromium puts the number first and the session last.
            number, session = ID.match(message), SESSION.search(message[-SESSION_BYTES:])
            if not self._is_theirs(number and int(number[1]), session and session[1].decode()):
                return False
            if self.guest is not None:
                self.guest.send_away()
        return True

    def _is_theirs(self, number: object, session: object) -> bool:
        return (isinstance(number, int) and number >= GUEST_IDS) or session in self._guest_sessions

    async def _relay(self, connection: ServerConnection) -> None:
        down = asyncio.create_task(self._down(connection))
        # Playwright's driver died: nobody drives this browser any more.
        why = "the connection to Playwright broke"
        try:
            async for message in connection:
                await self._send((message.encode() if isinstance(message, str) else message) + b"\0")
        except ConnectionClosed:
            pass
        except RuntimeUnavailable:
            why = self.why
        finally:
            down.cancel()
            if not self._ended:
                self.why = why
                self.end()

    async def _down(self, connection: ServerConnection) -> None:
        try:
            while not self._ended or self._waiting:
                while self._waiting:
                    message = self._waiting.popleft()
                    self._waiting_bytes -= len(message)
                    await connection.send(message, text=True)
                self._arrived.clear()
                if not self._ended:
                    await self._arrived.wait()
        except ConnectionClosed:
            return
        await connection.close()

    # The second client

    async def invite(self) -> Guest:
        """One at a time: whoever was there before is sent away."""
        if self._ended:
            raise RuntimeUnavailable("The browser is gone.", hint="Launch it again.")
        if self.guest is not None:
            await self.guest.aclose()
        # From now on messages are looked at, which costs time: the empty name is no session's.
        self._guest_sessions.add("")
        self.guest = guest = Guest(self._send, self._leave, ids=self._guest_ids, sessions=self._guest_sessions)
        await guest.begin()
        return guest

    def _leave(self, guest: Guest) -> None:
        if self.guest is guest:
            self.guest = None


class Guest:
    """Implements `Debugging`: a browser-level session beside Playwright's."""

    def __init__(self, send: Send, leave: Callable[[Guest], None], *, ids: Iterator[int], sessions: set[str]) -> None:
        """`ids` are never used twice. `sessions`: of all such clients so far; its own are added."""
        self._send = send
        self._leave = leave
        self._ids = ids
        self._sessions = sessions
        self._asked: dict[int, int | None] = {}
        self._attached: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._session = ""
        self._below: set[str] = set()
        self._received: asyncio.Queue[str | None] = asyncio.Queue(10_000)
        self._waiting_bytes = 0
        self._ended = False
        self._detached = False

    async def begin(self) -> None:
        await self._order({"method": "Target.attachToBrowserTarget"}, reply_to=None)
        try:
            async with asyncio.timeout(ATTACH_S):
                self._session = await self._attached
        except TimeoutError:
            self._leave(self)
            raise RuntimeUnavailable("The browser does not answer.", hint="Try again.") from None
        if self._ended:
            self._leave(self)
            raise RuntimeUnavailable("The browser is gone.", hint="Launch it again.")
        self._sessions.add(self._session)

    async def send(self, message: str) -> None:
        """Raises ValueError for what is no message of the protocol, RuntimeUnavailable."""
        try:
            order = json.loads(message)
        except RecursionError:
            raise ValueError("nested too deep") from None
        if (
            not isinstance(order, dict)
            or type(order.get("id")) is not int
            or not isinstance(order.get("method"), str)
            or not isinstance(order.get("params", {}), dict)
        ):
            raise ValueError("not a message of the DevTools protocol")
        session = order.get("sessionId", self._session)
        if not isinstance(session, str) or (session != self._session and session not in self._below):
            raise ValueError("not a session of this client")
        if len(self._asked) >= GUEST_ASKS_MAX:
            raise ValueError("too many orders wait for an answer")
        wanted = {"method": order["method"], "params": order.get("params", {}), "sessionId": session}
        await self._order(wanted, reply_to=order["id"])

    async def receive(self) -> str:
        message = await self._received.get()
        if message is None:
            raise RuntimeUnavailable("The browser is gone.", hint="Launch it again.")
        self._waiting_bytes -= len(message)
        return message

    async def aclose(self) -> None:
        self.end()
        if not self._detached:
            self._detached = True
            order = {"method": "Target.detachFromTarget", "params": {"sessionId": self._session}}
            with suppress(RuntimeUnavailable):
                await self._order(order, reply_to=None)
        self._leave(self)

    def end(self) -> None:
        if self._ended:
            return
        self._ended = True
        if not self._attached.done():
            self._attached.set_result("")
        if self._received.full():
            self._received.get_nowait()
        self._received.put_nowait(None)

    async def _order(self, order: dict[str, Any], *, reply_to: int | None) -> None:
        number = next(self._ids)
        text = json.dumps({**order, "id": number}, allow_nan=False)
        self._asked[number] = reply_to
        await self._send(text.encode() + b"\0")

    def take(self, told: dict[str, Any]) -> None:
        """What came for this client, or for one before it."""
        number, session = told.get("id"), told.get("sessionId")
        if isinstance(number, int):
            if number in self._asked:
                self._reply(self._asked.pop(number), told)
            return
        if session != self._session and session not in self._below:
            return
        if told.get("method") == "Target.attachedToTarget":
            self._below.add(told["params"]["sessionId"])
            self._sessions.add(told["params"]["sessionId"])
        elif told.get("method") == "Target.detachedFromTarget":
            self._below.discard(told["params"].get("sessionId", ""))
        if session == self._session:
            del told["sessionId"]
        self._give(told)

    def _reply(self, reply_to: int | None, told: dict[str, Any]) -> None:
        if reply_to is not None:
            told["id"] = reply_to
            if told.get("sessionId") == self._session:
                del told["sessionId"]
            self._give(told)
        elif not self._attached.done() and "sessionId" in told.get("result", {}):
            self._attached.set_result(str(told["result"]["sessionId"]))

    def _give(self, told: dict[str, Any]) -> None:
        if self._ended:
            return
        message = json.dumps(told)
        self._waiting_bytes += len(message)
        if self._received.full() or self._waiting_bytes > GUEST_WAITING_BYTES_MAX:
            # A client that does not read.
            self.send_away()
            return
        self._received.put_nowait(message)

    def send_away(self) -> None:
        """And the browser goes on."""
        self.end()
        self._leave(self)
