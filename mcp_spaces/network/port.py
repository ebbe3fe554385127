"""What the gateway needs from the rest of the program, and what the rooms of runtimes need from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from mcp_spaces.network.model import Access, Refused, RuntimeRef, SecretAccess, Target
from mcp_spaces.sandbox.port import Connection, Sandbox


class Resolver(Protocol):
    async def addresses(self, host: str, *, space_id: str) -> Sequence[str]:
        """All of them, IPv4 and IPv6, in the order to be tried; empty when there is none. One space's slow names hold
        up no other's. Raises TimedOut."""


class Dialer(Protocol):
    async def dial(self, address: str, port: int) -> Connection:
        """To an address, never to a name. Raises RuntimeUnavailable when nobody answers."""


class Accesses(Protocol):
    def access(self, runtime: RuntimeRef) -> Access:
        """What the runtime may reach now: scope and policy as they are at this moment. Never raises: whatever is
        wrong with either, nothing may be reached."""

    def secrets(self, runtime: RuntimeRef) -> SecretAccess:
        """What it may use of the vault now. Never raises either."""


class NetworkLog(Protocol):
    async def write(self, runtime: RuntimeRef, event_type: str, body: Mapping[str, object]) -> None:
        """On the disk, among the events of the run that caused it where that is known. Raises SpacesError."""

    def run_of(self, runtime: RuntimeRef) -> str:
        """That run."""


class Neighbours(Protocol):
    async def dial(self, space_id: str, alias: str, port: int) -> Connection:
        """A server inside a sandbox of the space. Raises NotFound, WrongState or RuntimeUnavailable."""


class Narrowed(Protocol):
    known: set[str]
    """Hosts that may be named in records besides those of the space's list. To be added to."""
    refused: set[str]
    """`host:port` of what was asked for in vain; `another host:port` for names that a page may have made up."""


class RuntimeGateway(Protocol):
    """How a runtime gets its way out, and loses it."""

    async def attach(self, runtime: RuntimeRef, sandbox: Sandbox) -> None:
        """Admit it, and give its sandbox a proxy. Before anything runs there. A sandbox that can have no proxy stays
        without network, which is no error. Raises RuntimeUnavailable."""

    @property
    def proxies(self) -> Collection[str]:
        """Names of those that the operator has."""

    def admit(self, runtime: RuntimeRef) -> None:
        """From now on, until it is detached, its connections are served. Idempotent."""

    def accept(self, runtime: RuntimeRef, connection: Connection) -> None:
        """Serve a connection of a runtime's proxy: to its end, in the background. One of a runtime that is not admitted
        is closed."""

    def narrowed(self, runtime_id: str, permits: Callable[[Target], bool]) -> AbstractAsyncContextManager[Narrowed]:
        """Within it the runtime reaches only what `permits` too, at most what it may reach anyway. Connections to
        anything else are closed when it begins. Not to be nested. Raises RuntimeUnavailable: one did not close."""

    def refusal(self, runtime_id: str, host: str, port: int) -> Refused | None:
        """Why the newest tunnel that it asked for there was refused; None where it was not, or that is forgotten."""

    def detach(self, runtime_id: str) -> None:
        """Every connection is closed, and every later one. Idempotent."""
