"""The bytes of a connection, whoever opened it: `proxy_ports.py` and `dialing.py`.

Nothing here looks at the bytes: who may reach what is decided outside, where nobody inside can change it.
"""

from __future__ import annotations

import _socket
import os

from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.agent.calls import Call
from mcp_spaces.sandbox.agent.loop import WRITABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from typing import Any
else:
    # As `collections` has it, without importing what else is in there.
    from _collections import deque

GRANT_BYTES = wire.WINDOW // 4
"""What was written is granted again in pieces of this size, not byte by byte."""


class Relay(Call):
    """The bytes of one socket, both ways, each within its window."""

    def begin_relay(self, socket: Any) -> None:
        """Raises OSError when no descriptor is left."""
        self.socket = socket
        self.fd = socket.fileno()
        # A descriptor of its own: the loop watches reading and writing apart.
        self.out = os.dup(self.fd)
        self.room = wire.WINDOW
        self.reads = False
        self.read_all = False
        self.pending: deque[bytes] = deque()
        self.owed = 0
        self.writing = False
        self.dropping = False
        self.ends = False
        self.wrote_all = False
        self._read_on()

    # From inside to the daemon

    def _read_on(self) -> None:
        wanted = not self.read_all and self.room > 0
        if wanted != self.reads:
            self.reads = wanted
            if wanted:
                self.loop.watch_source(self.fd, self._on_readable)
            else:
                self.loop.forget_source(self.fd)

    def _on_readable(self) -> None:
        try:
            chunk = os.read(self.fd, min(wire.CHUNK, self.room))
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        if chunk:
            self.room -= len(chunk)
            self.send(wire.REPLY, chunk)
            self._read_on()
            return
        if self.dropping:
            self.abort()
            return
        self.read_all = True
        self._read_on()
        self.send(wire.FINISHED)
        self._maybe_gone()

    def on_room(self, size: int) -> None:
        self.room += size
        self._read_on()

    # From the daemon to inside

    def on_content(self, content: bytes) -> None:
        if self.dropping:
            self._grant(len(content))
            return
        self.pending.append(content)
        if not self.writing:
            self._write()

    def on_end(self) -> None:
        self.ends = True
        if not self.writing:
            self._write()

    def _grant(self, size: int) -> None:
        self.send(wire.GRANT, wire.pack([wire.whole(size)]))

    def _nobody_reads(self) -> None:
        """A server may answer and close before it has read everything: what is there to be read still counts, and what
        still comes for it is dropped."""
        if self.read_all:
            self.abort()
            return
        self.dropping = True
        if self.writing:
            self.writing = False
            self.loop.forget(self.out)
        dropped = self.owed + sum(map(len, self.pending))
        self.owed = 0
        self.pending.clear()
        if dropped:
            self._grant(dropped)

    def _write(self) -> None:
        while self.pending:
            content = self.pending[0]
            try:
                written = os.write(self.out, content)
            except BlockingIOError:
                break
            except OSError:
                self._nobody_reads()
                return
            self.owed += written
            if written == len(content):
                self.pending.popleft()
            else:
                self.pending[0] = content[written:]
        if self.owed >= GRANT_BYTES or (self.owed and not self.pending):
            self._grant(self.owed)
            self.owed = 0
        waits = bool(self.pending)
        if waits != self.writing:
            self.writing = waits
            if waits:
                self.loop.watch(self.out, self._write, WRITABLE)
            else:
                self.loop.forget(self.out)
        if self.ends and not waits and not self.wrote_all:
            self.wrote_all = True
            try:
                self.socket.shutdown(_socket.SHUT_WR)
            except OSError:
                self._nobody_reads()
                return
            self._maybe_gone()

    # The end

    def on_kill(self) -> None:
        self.abort()

    def abort(self) -> None:
        """Whatever is still on its way is lost; the other side sees a reset where it can."""
        if not self.closed:
            try:
                self.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            except OSError:
                pass
            self._free()

    def _maybe_gone(self) -> None:
        if self.read_all and self.wrote_all:
            self._free()

    def _free(self) -> None:
        self.read_all = True
        if self.reads:
            self.reads = False
            self.loop.forget_source(self.fd)
        if self.writing:
            self.writing = False
            self.loop.forget(self.out)
        self.pending.clear()
        os.close(self.out)
        self.socket.close()
        self.close(wire.GONE)
