"""Connections: the sandbox's proxy ports, whose every byte goes to the daemon, and dials to servers inside.

Nothing here looks at the bytes: who may reach what is decided outside, where nobody inside can change it.
"""

from __future__ import annotations

import _socket
import errno
import os
import select

from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.agent.calls import Call
from mcp_spaces.sandbox.agent.paths import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from typing import Any

    from mcp_spaces.sandbox.agent.loop import Loop
else:
    # As `collections` has it, without importing what else is in there.
    from _collections import deque

LOOPBACK = "127.0.0.1"
BACKLOG = 128
REST_S = 0.05
"""How long a proxy port is left alone when no descriptor is left for who connects."""
GRANT_BYTES = wire.WINDOW // 4
"""What was written is granted again in pieces of this size, not byte by byte."""
NONE_LEFT = (errno.EMFILE, errno.ENFILE)
WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR


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


class Proxies:
    """The proxy ports. Every connection becomes a channel that this side opens; it says which port it came to."""

    def __init__(self, loop: Loop, calls: dict[int, Call]) -> None:
        self.loop = loop
        self.calls = calls
        self.open = 0
        self.next_channel = 2
        self.listening: dict[int, Any] = {}
        self.resting: set[int] = set()

    def listen(self, port: int) -> int:
        """With `port` 0 the kernel chooses one. Raises OSError when somebody inside holds it already."""
        if port in self.listening:
            return port
        if len(self.listening) >= wire.MAX_PROXIES:
            raise Refused("quota")
        socket: Any = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        try:
            socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            socket.bind((LOOPBACK, port))
            socket.listen(BACKLOG)
        except BaseException:
            socket.close()
            raise
        socket.setblocking(False)
        chosen: int = socket.getsockname()[1]
        self.listening[chosen] = socket
        self._watch(socket, chosen)
        return chosen

    def _watch(self, listening: Any, port: int) -> None:
        self.loop.watch(listening.fileno(), lambda: self._on_connection(listening, port))

    def withdraw(self, port: int) -> None:
        """What is connected stays: the daemon closes it. Idempotent."""
        socket = self.listening.pop(port, None)
        if socket is not None:
            if port in self.resting:
                self.resting.remove(port)
            else:
                self.loop.forget(socket.fileno())
            socket.close()

    def _rest(self, listening: Any, port: int) -> None:
        """Who connects waits until a descriptor is left; to look for one without pause would be all that is done."""
        self.resting.add(port)
        self.loop.forget(listening.fileno())

        def look_again() -> None:
            if self.listening.get(port) is listening:
                self.resting.remove(port)
                self._watch(listening, port)

        self.loop.later(REST_S, look_again)

    def _on_connection(self, listening: Any, port: int) -> None:
        try:
            fd, _ = listening._accept()
        except BlockingIOError:
            # Taken back.
            return
        except OSError:
            self._rest(listening, port)
            return
        accepted = _socket.socket(fileno=fd)
        accepted.setblocking(False)
        if self.open >= wire.MAX_CONNECTIONS:
            accepted.close()
            return
        accepted.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        channel = self.next_channel
        self.next_channel = (channel + 2) % (1 << 32) or 2
        relay = Relay(self.loop, channel, self._ended)
        try:
            relay.begin_relay(accepted)
        except OSError:
            accepted.close()
            return
        self.calls[channel] = relay
        self.open += 1
        relay.send(wire.ACCEPTED, wire.pack([wire.whole(port)]))

    def _ended(self, channel: int) -> None:
        self.open -= 1
        del self.calls[channel]


class Dialing(Relay):
    """A connection to a server inside. STARTED when it stands, FAILURE when nobody listens."""

    def begin(self, port: int, proxies: Proxies) -> None:
        self.port = port
        self.families = [(_socket.AF_INET, LOOPBACK), (_socket.AF_INET6, "::1")]
        self.connecting: Any = None
        if not 0 < port < 65536 or port in proxies.listening:
            # Through a proxy port of ours it would come back here, again and again.
            self.fail(Refused("nobody"))
            return
        self._next()

    def _next(self) -> None:
        while self.families:
            family, address = self.families.pop(0)
            socket = None
            try:
                socket = _socket.socket(family, _socket.SOCK_STREAM)
                socket.setblocking(False)
                problem = socket.connect_ex((address, self.port))
            except OSError as error:
                problem = error.errno or errno.EIO
            if problem in NONE_LEFT:
                self.fail(OSError(problem, ""))
                return
            if problem == 0:
                self._stands(socket)
                return
            if problem == errno.EINPROGRESS and socket is not None:
                self.connecting = socket
                self.loop.watch(socket.fileno(), self._on_connected, WRITABLE)
                return
            if socket is not None:
                socket.close()
        self.fail(Refused("nobody"))

    def _on_connected(self) -> None:
        socket, self.connecting = self.connecting, None
        self.loop.forget(socket.fileno())
        if socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
            socket.close()
            self._next()
        else:
            self._stands(socket)

    def _stands(self, socket: Any) -> None:
        self.send(wire.STARTED)
        try:
            socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            self.begin_relay(socket)
        except OSError:
            socket.close()
            self.close(wire.GONE)

    def on_kill(self) -> None:
        if self.connecting is not None:
            socket, self.connecting = self.connecting, None
            self.loop.forget(socket.fileno())
            socket.close()
            self.fail(Refused("stopped"))
        elif not self.closed:
            self.abort()
