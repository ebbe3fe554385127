"""Proxies of the operator's, through which a runtime's connections may go on: named in the settings, permitted by a
space's mount, chosen at a launch. Rules, budgets and records stay the gateway's; the proxy looks the names up."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

import anyio

from mcp_spaces.errors import InvalidInput
from mcp_spaces.network.flow import Buffered
from mcp_spaces.network.model import Reason, Refused, Target, host_and_port
from mcp_spaces.sandbox.port import Connection

ANSWER_S = 15.0


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that takes CONNECT. `authorization` is the whole header's value, or empty."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    async def go_on(self, connection: Connection, target: Target) -> Connection:
        """Over a connection to the proxy, to `target`; it is closed otherwise. Raises Refused, RuntimeUnavailable or
        EOFError."""
        try:
            await self._ask(connection, target)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _ask(self, connection: Connection, target: Target) -> None:
        credentials = f"Proxy-Authorization: {self.authorization}\r\n" if self.authorization else ""
        head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{credentials}\r\n"
        answered = Buffered(connection)
        content: bytes | None = None
        with anyio.move_on_after(ANSWER_S):
            await connection.send(head.encode("ascii"))
            content = await answered.head()
        parts = (content or b"").split(b"\r\n", 1)[0].split(b" ", 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or parts[1] != b"200":
            status = parts[1].decode("ascii", "replace")[:3] if len(parts) > 1 else "nothing"
            raise Refused(Reason.UNREACHABLE, f"the proxy answered {status}", status=502)


@dataclass(frozen=True, slots=True)
class Proxies:
    by_name: Mapping[str, Proxy]

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Proxies:
        """`us=proxy.example.com:8080` or `us=user:password@proxy.example.com:8080`, both percent-encoded. Raises
        InvalidInput, without the password in it."""
        found: dict[str, Proxy] = {}
        for entry in entries:
            name, equals, rest = entry.strip().partition("=")
            credentials, at, address = rest.rpartition("@")
            if not name or not equals:
                raise InvalidInput("Setting network_proxies: an entry has no name.", hint="Write name=host:port.")
            try:
                host, port = host_and_port(address.lower())
            except ValueError:
                raise InvalidInput(
                    f"Setting network_proxies: the address of {name[:80]!r} cannot be read.",
                    hint="Write name=host:port, or name=user:password@host:port.",
                ) from None
            encoded = base64.b64encode(unquote(credentials).encode()).decode()
            found[name] = Proxy(host, port, f"Basic {encoded}" if at else "")
        return cls(found)

    def named(self, name: str) -> Proxy:
        """Raises Refused: the operator took it away."""
        proxy = self.by_name.get(name)
        if proxy is None:
            raise Refused(
                Reason.UNREACHABLE, f"the proxy {name} is not there any more", rule="mounts.proxy", status=502
            )
        return proxy
