"""One connection of a runtime on its way through the gateway."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio

from mcp_spaces.core.ids import Clock
from mcp_spaces.network.budgets import Spending
from mcp_spaces.network.head import END, check_growth
from mcp_spaces.network.model import RuntimeRef, Target
from mcp_spaces.sandbox.port import Connection

TOUCH_S = 1.0


class Flow:
    """`target` is set once it is permitted; from then on a change of the rules may withdraw it."""

    def __init__(self, runtime: RuntimeRef, spending: Spending, *, idle_s: float, clock: Clock) -> None:
        self.runtime = runtime
        self.spending = spending
        self.target: Target | None = None
        self.granted_until: Callable[[], Awaitable[float | None]] | None = None
        """Until when the secrets of its request may be used, in seconds since 1970; None: no more. Asked again with each
        change while it is open."""
        self.named: Target | None = None
        """As records name what it asked for: without the host where that could be a secret."""
        self.answered = False
        """The client was told something: what goes wrong now can only be shown by breaking off."""
        self.withdrawn = False
        self.ended = anyio.Event()
        self.life = anyio.CancelScope(deadline=anyio.current_time() + idle_s)
        self._clock = clock
        self._idle_s = idle_s
        self._ends_at = math.inf
        self._grant_ends_first = False
        self._touched = anyio.current_time()

    def touch(self) -> None:
        """Bytes passed."""
        now = anyio.current_time()
        if now - self._touched > TOUCH_S or self._clock.now() >= self._ends_at:
            self._touched = now
            self._live_on(now)

    def withdraw(self) -> None:
        self.withdrawn = True
        self.life.cancel()

    async def recheck_secrets(self) -> None:
        """Withdraw it where its secrets may be used no more; where that is so from a known moment on, then."""
        if self.granted_until is None:
            return
        until = await self.granted_until()
        if until is None:
            self.withdraw()
        else:
            self._ends_at = until
            self._live_on(self._touched)

    @property
    def expired(self) -> bool:
        """It ended with the time for which its secrets were granted."""
        return self.life.cancelled_caught and self._grant_ends_first

    def _live_on(self, since: float) -> None:
        # What is left is by the clock on the wall, which may jump; then the next bytes end it, whatever the deadline was.
        idle_at, ends_at = since + self._idle_s, anyio.current_time() + self._ends_at - self._clock.now()
        self._grant_ends_first = ends_at < idle_at
        self.life.deadline = min(idle_at, ends_at)


class Buffered:
    """A connection whose first bytes are looked at before they are passed on."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._held = b""

    async def some(self) -> bytes:
        """What was put back, else the next bytes; empty at the end."""
        if self._held:
            content, self._held = self._held, b""
            return content
        return await self.connection.receive()

    def put_back(self, content: bytes) -> None:
        self._held = content + self._held

    async def begins(self) -> bool:
        """Wait for the first bytes; False when the connection ends before."""
        self.put_back(await self.some())
        return bool(self._held)

    async def head(self) -> bytes | None:
        """The head of a message without the empty line at its end; None when the connection ends before its first
        byte. Raises Refused when it is too long, EOFError when it is cut off."""
        gathered = bytearray()
        while True:
            content = await self.some()
            if not content:
                if gathered:
                    raise EOFError
                return None
            searched = max(0, len(gathered) - len(END) + 1)
            gathered += content
            end = gathered.find(END, searched)
            check_growth(gathered if end < 0 else gathered[:end])
            if end >= 0:
                self.put_back(bytes(gathered[end + len(END) :]))
                return bytes(gathered[:end])

    def continue_as(self, connection: Connection) -> None:
        """What is said from here on goes another way: inside of TLS that ends here."""
        self.connection, self._held = connection, b""


class Resumed:
    """The port's Connection, from bytes on that were looked at already."""

    def __init__(self, connection: Connection, seen: bytes) -> None:
        self._connection = connection
        self._seen = seen

    async def receive(self) -> bytes:
        if self._seen:
            content, self._seen = self._seen, b""
            return content
        return await self._connection.receive()

    async def send(self, content: bytes) -> None:
        await self._connection.send(content)

    async def finish(self) -> None:
        await self._connection.finish()

    def close(self) -> None:
        self._connection.close()
