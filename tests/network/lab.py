"""A gateway with a small internet of its own: names, addresses and servers are a test's; the gateway is the real one.

Clients are byte streams as a sandbox's agent gives them: whatever a test writes is what the gateway reads.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from mcp_spaces.core.approvals import Approvals
from mcp_spaces.core.facts import SecretUse
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.scope import NetworkGrant, NetworkMode, VaultGrant
from mcp_spaces.errors import DiskFull, NotFound, RuntimeUnavailable, WrongState
from mcp_spaces.network.authorities import Authorities
from mcp_spaces.network.budgets import Budget, Budgets
from mcp_spaces.network.dialing import Upstream
from mcp_spaces.network.gateway import Gateway
from mcp_spaces.network.injection import Injection
from mcp_spaces.network.model import NO_ACCESS, NO_SECRETS, Access, PrivateHosts, RuntimeRef, SecretAccess
from mcp_spaces.network.proxies import Proxies
from mcp_spaces.network.termination import Termination
from mcp_spaces.network.tls import Trust
from mcp_spaces.network.ways import Ways
from mcp_spaces.sandbox.port import Connection
from mcp_spaces.vault.model import Bindings, Code, Entry, Opened, RawSecret
from tests.vault.rig import Rig

PATIENCE_S = 20
PUBLIC = "93.184.216.34"
OTHER_PUBLIC = "93.184.216.35"
RUNTIME = RuntimeRef("rt_one", "sp_one", "main")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def allowing(*rules: str) -> Access:
    return Access(NetworkGrant(mode=NetworkMode.ALLOWLIST, allow=rules), neighbours=True)


OPEN = Access(NetworkGrant(mode=NetworkMode.OPEN), neighbours=True)


@dataclass
class Names:
    """A resolver. A list of lists answers each question with the next one."""

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __setitem__(self, host: str, addresses: Sequence[str]) -> None:
        self.answers[host] = [list(addresses)]

    async def addresses(self, host: str, *, space_id: str) -> Sequence[str]:
        self.asked.append(host)
        left = self.answers.get(host, [[]])
        return left.pop(0) if len(left) > 1 else left[0]


@dataclass
class Internet:
    """A dialer: what was dialled, and the server that answers there."""

    servers: dict[tuple[str, int], Callable[[Upstream], Awaitable[None]]] = field(default_factory=dict)
    dialled: list[tuple[str, int]] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    ends: list[Upstream] = field(default_factory=list)

    async def dial(self, address: str, port: int) -> Connection:
        self.dialled.append((address, port))
        server = self.servers.get((address, port), self.answer_ok)
        ours, theirs = await pair()
        self.ends += [ours, theirs]

        async def serve() -> None:
            with suppress(RuntimeUnavailable):
                await server(theirs)

        task = asyncio.ensure_future(serve())
        self.tasks.add(task)
        return ours

    async def answer_ok(self, client: Upstream) -> None:
        head = bytearray()
        while b"\r\n\r\n" not in head:
            piece = await client.receive()
            if not piece:
                break
            head += piece
        self.received.append(bytes(head))
        await client.send(OK)
        await client.finish()


@dataclass
class Records:
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    learnt: list[tuple[str, str]] = field(default_factory=list)
    is_full: bool = False
    no_room_for: str = ""
    """A type of event that cannot be written, where others can."""

    def run_of(self, runtime: RuntimeRef) -> str:
        return "run_lab"

    async def write(self, runtime: RuntimeRef, event_type: str, body: Mapping[str, object]) -> None:
        if self.is_full or event_type == f"network.{self.no_room_for}":
            raise DiskFull("full", hint="")
        self.events.append((event_type, dict(body)))

    def of(self, event_type: str) -> list[dict[str, object]]:
        return [body for kind, body in self.events if kind == f"network.{event_type}"]


@dataclass
class Rules:
    """What the runtime may reach; a test changes it under way."""

    now: Access = NO_ACCESS
    vault: SecretAccess = NO_SECRETS

    def access(self, runtime: RuntimeRef) -> Access:
        return self.now

    def secrets(self, runtime: RuntimeRef) -> SecretAccess:
        return self.vault


class NoVault:
    """The port's Secrets, and its Boxes, where there is nothing."""

    def __init__(self) -> None:
        self.on_rotation: list[Any] = []
        self.on_changed: list[Callable[[], None]] = []

    async def find(self, path: str, *, scope: VaultGrant) -> Entry:
        raise NotFound("No such secret here.", hint="")

    async def bound_to(self, host: str, *, scope: VaultGrant) -> Sequence[Bindings]:
        return ()

    async def open(
        self, path: str, *, scope: VaultGrant, purpose: SecretUse, run_id: str, origin: str | None = None
    ) -> Opened:
        raise NotFound("No such secret here.", hint="")

    async def code(self, path: str, *, scope: VaultGrant, run_id: str, origin: str | None = None) -> Code:
        raise NotFound("No such secret here.", hint="")

    async def read_raw(self, path: str, field: str | None, *, scope: VaultGrant, run_id: str) -> RawSecret:
        raise NotFound("No such secret here.", hint="")

    async def seal(self, content: bytes, *, label: str) -> bytes:
        raise WrongState("locked", hint="")

    async def unseal(self, stored: Callable[[], bytes | None], *, label: str) -> bytes | None:
        raise WrongState("locked", hint="")


@dataclass
class Neighbourhood:
    ends: list[Upstream] = field(default_factory=list)

    async def dial(self, space_id: str, alias: str, port: int) -> Connection:
        if (space_id, alias, port) != ("sp_one", "web", 8000):
            raise NotFound("No such sandbox.", hint="")
        ours, theirs = await pair()
        self.ends += [ours, theirs]
        await theirs.send(OK)
        return ours


class Client:
    """One connection from inside the sandbox."""

    def __init__(self, end: Upstream) -> None:
        self.end = end

    async def say(self, content: bytes) -> None:
        await self.end.send(content)

    async def hear(self, *, until: bytes | None = None) -> bytes:
        """All there is, or as far as these words. What breaks off counts as its end."""
        heard = bytearray()
        with anyio.fail_after(PATIENCE_S):
            try:
                while piece := await self.end.receive():
                    heard += piece
                    if until is not None and until in heard:
                        break
            except RuntimeUnavailable:
                pass
        return bytes(heard)


@dataclass
class Lab:
    rules: Rules
    names: Names
    internet: Internet
    records: Records
    gateway: Gateway
    budgets: Budgets
    clients: list[Client] = field(default_factory=list)

    async def client(self, runtime: RuntimeRef = RUNTIME) -> Client:
        ours, theirs = await pair()
        self.gateway.accept(runtime, theirs)
        client = Client(ours)
        self.clients.append(client)
        return client

    async def ask(self, request: bytes) -> bytes:
        """Say it all, and hear the whole answer."""
        client = await self.client()
        with anyio.fail_after(PATIENCE_S):
            with suppress(RuntimeUnavailable):
                await client.say(request)
        heard = await client.hear()
        client.end.close()
        return heard

    async def tunnel(self, authority: str) -> Client:
        client = await self.client()
        await client.say(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        assert (await client.hear(until=b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        return client


async def pair() -> tuple[Upstream, Upstream]:
    ends = []
    for one in socket.socketpair():
        ends.append(Upstream(*await asyncio.open_unix_connection(sock=one)))
    return ends[0], ends[1]


@asynccontextmanager
async def laboratory(
    access: Access = NO_ACCESS,
    *,
    budget: Budget | None = None,
    private: Sequence[str] = (),
    proxies: Sequence[str] = (),
    clock: Clock | None = None,
    rig: Rig | None = None,
    authorities: Path | None = None,
    own: Collection[str] = (),
) -> AsyncIterator[Lab]:
    """With a rig, its vault and database are the gateway's; otherwise there is none. `own`: this machine's addresses."""
    clock = clock or Clock()
    rules, names, internet, records = Rules(access), Names(), Internet(), Records()
    neighbours = Neighbourhood()
    names["api.example.com"] = [PUBLIC]
    names["evil.com"] = [OTHER_PUBLIC]
    budgets = Budgets(budget or Budget(), clock)
    private_hosts = PrivateHosts.parse(private)
    vault = NoVault() if rig is None else rig.vault
    database: Any = None if rig is None else rig.database
    ways = Ways(
        injection=Injection(
            secrets=vault,
            accesses=rules,
            approvals=Approvals(database, clock),
            records=records,
            learn=lambda runtime, value, *, name: records.learnt.append((runtime.id, name)),
        ),
        accesses=rules,
        private=private_hosts,
        trust=Trust(authorities),
    )
    gateway = Gateway(
        accesses=rules,
        neighbours=neighbours,
        records=records,
        resolver=names,
        dialer=internet,
        private_hosts=private_hosts,
        proxies=Proxies.parse(proxies),
        is_own=lambda address: address in own,
        budgets=budgets,
        clock=clock,
        ways=ways,
        termination=Termination(
            authorities=Authorities(database, vault, clock), accesses=rules, ways=ways, private=private_hosts
        ),
    )
    gateway.admit(RUNTIME)
    lab = Lab(rules, names, internet, records, gateway, budgets)
    try:
        yield lab
    finally:
        with anyio.CancelScope(shield=True):
            await gateway.aclose()
            for task in internet.tasks:
                task.cancel()
            await asyncio.gather(*internet.tasks, return_exceptions=True)
            for end in [*internet.ends, *neighbours.ends, *(client.end for client in lab.clients)]:
                end.close()


def hello(
    name: str | None, *, extensions: Sequence[tuple[int, bytes]] = (), names: Sequence[str] | None = None, cut: int = 0
) -> bytes:
    """A ClientHello, in records of `cut` bytes each where that is given."""
    blocks = list(extensions)
    for one in names if names is not None else ([] if name is None else [name]):
        raw = one.encode("latin-1")
        entry = b"\0" + len(raw).to_bytes(2, "big") + raw
        blocks.append((0, len(entry).to_bytes(2, "big") + entry))
    packed = b"".join(kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body for kind, body in blocks)
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + len(packed).to_bytes(2, "big") + packed
    message = b"\1" + len(body).to_bytes(3, "big") + body
    pieces = [message[at : at + cut] for at in range(0, len(message), cut)] if cut else [message]
    return b"".join(b"\x16\3\1" + len(piece).to_bytes(2, "big") + piece for piece in pieces)
