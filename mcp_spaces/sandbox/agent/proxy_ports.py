"""The sandbox's proxy ports, whose every byte goes to the daemon."""

from __future__ import annotations

import _socket

from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.agent.paths import Refused
from mcp_spaces.sandbox.agent.relays import Relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mcp_spaces.sandbox.agent.calls import Call
    from mcp_spaces.sandbox.agent.loop import Loop

LOOPBACK = "127.0.0.1"
BACKLOG = 128
REST_S = 0.05
"""How long a proxy port is left alone when no descriptor is left for who connects."""


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
        """With `port` 0 the kernel chooses one; returns the port. Raises OSError when somebody inside holds it already,
        Refused when there are as many as there may be."""
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
            # A process that is being forked holds it for a moment longer, and would go on listening.
            socket.shutdown(_socket.SHUT_RDWR)
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
