"""A scene for secrets at the gateway: the real gateway, the real vault and a server that speaks TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLError

import pytest

from mcp_spaces.core.policy import Policy, policy_from
from mcp_spaces.core.redaction import encodings
from mcp_spaces.core.scope import VaultGrant
from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.network.dialing import Upstream
from mcp_spaces.network.model import SecretAccess
from mcp_spaces.network.tls import TlsConnection, server_context
from mcp_spaces.vault.model import Bindings, Kind
from mcp_spaces.vault.wanted import wanted_entry
from tests.network.lab import Lab, allowing, laboratory
from tests.network.servers import certificate_for
from tests.vault.rig import Rig, open_rig

CANARY = "s3cr3t-Tök&n/+<value>=42"
HOST = "api.test"
ORIGIN = f"https://{HOST}"
REFERENCE = "{{vault:prod/api#token}}"
STANDARD = policy_from("standard", {})
PRIVATE = (f"{HOST}:80=127.0.0.1:5080", f"{HOST}:443=127.0.0.1:5443", f"{HOST}:8443=127.0.0.1:5444",
           "other.test:443=127.0.0.1:5443", "other.test:80=127.0.0.1:5080")  # fmt: skip


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_for(HOST, tmp_path_factory.mktemp("certificate"))


@dataclass
class Site:
    """A server that speaks TLS: keeps what it was sent, and answers with whatever a test made of it."""

    certificate: Path
    received: list[bytes] = field(default_factory=list)
    answer: Callable[[bytes], bytes] = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    afterwards: Callable[[TlsConnection], Awaitable[None]] | None = None
    piece_bytes: int = 1 << 20

    async def serve(self, connection: Upstream) -> None:
        secured = TlsConnection(connection, server_context(str(self.certificate)))
        try:
            await secured.handshake()
        except (SSLError, RuntimeUnavailable):
            return
        heard = b""
        while b"\r\n\r\n" not in heard:
            piece = await secured.receive()
            if not piece:
                return
            heard += piece
        self.received.append(heard)
        answer = self.answer(heard)
        for at in range(0, len(answer), self.piece_bytes):
            await secured.send(answer[at : at + self.piece_bytes])
        if self.afterwards is not None:
            await self.afterwards(secured)
        await secured.finish()


@dataclass
class Scene:
    lab: Lab
    rig: Rig
    site: Site

    async def put(self, path: str = "prod/api", *, kind: Kind = Kind.API_KEY, **bindings: tuple[str, ...]) -> None:
        fields = {Kind.API_KEY: {"token": CANARY}, Kind.LOGIN: {"username": "ann", "password": CANARY}}[kind]
        wanted = wanted_entry(
            path, kind, fields, label=None, bindings=Bindings(**{"origins": (ORIGIN,), **bindings}), now=1.0
        )
        await self.rig.vault.keeping.put([wanted], run_id="run_test", action="set")

    async def ask(self, *fields: str, uri: str = f"http://{HOST}/", method: str = "GET", body: bytes = b"") -> bytes:
        host = uri.partition("://")[2].partition("/")[0].partition("?")[0]
        lines = [f"{method} {uri} HTTP/1.1", f"Host: {host}", *fields, "", ""]
        return await self.lab.ask("\r\n".join(lines).encode() + body)

    def policy(self, policy: Policy, *allow: str, deny: tuple[str, ...] = ()) -> None:
        self.lab.rules.vault = SecretAccess(VaultGrant(allow=allow or ("prod",), deny=deny), policy, "work")

    def reasons(self) -> list[object]:
        return [body["reason"] for body in self.lab.records.of("refused")]

    @property
    def sent(self) -> bytes:
        """What the server got, of the last request."""
        return self.site.received[-1]


@asynccontextmanager
async def staged(folder: Path, certificate: Path, *, stored: bool = True) -> AsyncIterator[Scene]:
    """`stored`: with the secret that REFERENCE names."""
    async with (
        open_rig(folder) as rig,
        laboratory(
            allowing(HOST, "other.test"), private=PRIVATE, rig=rig, authorities=certificate, clock=rig.time.clock
        ) as lab,
    ):
        site = Site(certificate)
        for port in (5443, 5444):
            lab.internet.servers["127.0.0.1", port] = site.serve
        scene = Scene(lab, rig, site)
        scene.policy(STANDARD)
        if stored:
            await scene.put()
        yield scene


@pytest.fixture
async def scene(tmp_path: Path, certificate: Path) -> AsyncIterator[Scene]:
    async with staged(tmp_path, certificate) as scene:
        yield scene


def status(answer: bytes) -> int:
    return int(answer[9:12])


def body_of(answer: bytes) -> bytes:
    """Without chunks."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b"chunked" not in head:
        return rest
    body = b""
    while size := int(rest.partition(b"\r\n")[0], 16):
        rest = rest.partition(b"\r\n")[2]
        body, rest = body + rest[:size], rest[size + 2 :]
    return body


def no_secret_in(text: bytes) -> bool:
    return [form for form in encodings(CANARY) if form.encode() in text] == []
