"""A gateway's stand-in: the other end of a context's way out, with a few hosts of its own and everything else refused."""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.port import Connection

HOSTS = ("one.test", "two.test")
REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
SOCKET_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass
class SmallNet:
    """`asked` has every first line that came out of the browser: all there ever is of its traffic."""

    folder: Path
    pages: dict[str, str] = field(default_factory=dict)
    """By path, on every host."""
    asked: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    trusted: str = ""
    _ports: tuple[int, int] = (0, 0)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def accept(self, connection: Connection) -> None:
        task = asyncio.ensure_future(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def port(self) -> int:
        """Where the pages are served on this machine."""
        return self._ports[0]

    def hosts(self) -> set[str]:
        """Names or addresses that something was asked of."""
        return {line.split()[1].removeprefix("http://").partition("/")[0].rpartition(":")[0]
                or line.split()[1].removeprefix("http://").partition("/")[0] for line in self.asked}  # fmt: skip

    async def _serve(self, connection: Connection) -> None:
        try:
            with suppress(RuntimeUnavailable, OSError):
                await self._relay(connection)
                while await connection.receive():
                    pass
        finally:
            connection.close()

    async def _relay(self, connection: Connection) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = await connection.receive()
            if not piece:
                return
            head += piece
        self.heads.append(head)
        line = head.partition(b"\r\n")[0].decode()
        self.asked.append(line)
        method, target = line.split()[:2]
        tunnel = method == "CONNECT"
        host = target.removeprefix("http://").partition("/")[0].partition(":")[0]
        if host not in HOSTS:
            await connection.send(REFUSED)
            await connection.finish()
            return
        port = self._ports[1] if tunnel and target.endswith(":443") else self._ports[0]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if tunnel:
            await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
            writer.write(head.partition(b"\r\n\r\n")[2])
        else:
            writer.write(head.replace(f"http://{host}".encode(), b"", 1))
        down = asyncio.ensure_future(self._down(reader, connection))
        try:
            while piece := await connection.receive():
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()
            await asyncio.wait({down})

    async def _down(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        with suppress(RuntimeUnavailable, OSError):
            while piece := await reader.read(1 << 16):
                await connection.send(piece)
            await connection.finish()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1].decode().partition("?")[0]
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
            }
            if b"sec-websocket-key" in headers:
                digest = hashlib.sha1(headers[b"sec-websocket-key"] + SOCKET_KEY, usedforsecurity=False).digest()
                writer.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n\x81\x05hello"
                )
                await writer.drain()
                await reader.read()
            elif path == "/endless":
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-thing\r\nContent-Length: 2000000000\r\n"
                    b"Content-Disposition: attachment; filename=endless\r\n\r\n"
                )
                while not writer.is_closing():
                    writer.write(bytes(1 << 20))
                    await writer.drain()
            elif path == "/stalls":
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-thing\r\nContent-Length: 2000000\r\n"
                    b"Content-Disposition: attachment; filename=stalls\r\n\r\n" + bytes(1 << 20)
                )
                await reader.read()
            elif path == "/never":
                await reader.read()
            else:
                body, extra = self.pages.get(path, "<p>nothing here</p>").encode(), b""
                if path.startswith("/download"):
                    extra = b"Content-Disposition: attachment; filename=../../wanted.txt\r\n"
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n%s"
                    % (extra, len(body), body)
                )
                await writer.drain()
        writer.close()
        self._writers.discard(writer)


@asynccontextmanager
async def small_net(folder: Path) -> AsyncIterator[SmallNet]:
    net = SmallNet(folder)
    context, net.trusted = _tls(folder)
    plain = await asyncio.start_server(net._answer, "127.0.0.1", 0)
    secured = await asyncio.start_server(net._answer, "127.0.0.1", 0, ssl=context)
    net._ports = (plain.sockets[0].getsockname()[1], secured.sockets[0].getsockname()[1])
    try:
        yield net
    finally:
        plain.close()
        secured.close()
        for task in list(net._tasks):
            task.cancel()
        await asyncio.gather(*net._tasks, return_exceptions=True)
        for writer in net._writers:
            writer.transport.abort()


def _tls(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server's context for the hosts, and what a browser is told to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOSTS[0])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return context, base64.b64encode(hashlib.sha256(public).digest()).decode()


class Canaries:
    """Servers of this machine that no browser may reach: whatever arrives here came past the gateway."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.address = _own_address()
        self._tcp = socket.socket()
        self._tcp.bind(("0.0.0.0", 0))
        self._tcp.listen(16)
        self._tcp.setblocking(False)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("0.0.0.0", 0))
        self._udp.setblocking(False)
        self.tcp_port: int = self._tcp.getsockname()[1]
        self.udp_port: int = self._udp.getsockname()[1]

    def look(self) -> list[str]:
        """What arrived: connections and packets wait in their sockets until somebody looks."""
        with suppress(BlockingIOError):
            while True:
                connection, peer = self._tcp.accept()
                connection.close()
                self.reached.append(f"tcp from {peer}")
        with suppress(BlockingIOError):
            while True:
                content, peer = self._udp.recvfrom(4096)
                self.reached.append(f"udp from {peer}: {content[:20]!r}")
        return self.reached

    def close(self) -> None:
        self._tcp.close()
        self._udp.close()


def _own_address() -> str:
    """One of this machine that is not loopback, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            # Nothing is sent: this only asks which address would be used.
            one.connect(("203.0.113.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(one.getsockname()[0])
