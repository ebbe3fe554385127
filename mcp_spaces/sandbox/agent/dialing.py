"""Connections to servers inside, for the daemon."""

from __future__ import annotations

import _socket
import errno

from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.agent.loop import WRITABLE
from mcp_spaces.sandbox.agent.paths import Refused
from mcp_spaces.sandbox.agent.proxy_ports import LOOPBACK
from mcp_spaces.sandbox.agent.relays import Relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mcp_spaces.sandbox.agent.proxy_ports import Proxies

NONE_LEFT = (errno.EMFILE, errno.ENFILE)


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
