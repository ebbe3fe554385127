"""A site of three origins for the browser's tests: `app.test` with logins and hostile pages, `evil.test` that listens,
`third.test` that is neither.

    async with Site() as site:
        daemon = start(network_private_hosts=site.private_hosts, …)     # or Chromium with site.chromium_arguments
        …
        with anyio.fail_after(10):
            await site.hit("evil.test", "/collect")
        assert site.reached("evil.test") == [] and site.holding(site.person.password) == []

Every page is a file in `pages/`; its first comment says what it is for, and `/` lists them.
"""

from __future__ import annotations

import asyncio
import html
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from tests.browser.site import logins, odd_answers, pages
from tests.browser.site.accounts import Accounts, Person
from tests.browser.site.certificates import Certificates
from tests.browser.site.logins import Backend, Handler
from tests.browser.site.packets import Listener
from tests.browser.site.records import Connect, Hello, Hit, Log, Message, Packet, Record, holds, is_at
from tests.browser.site.wire import (
    HEAD_BYTES_MAX,
    Answer,
    Request,
    read_request,
    socket_messages,
    write_answer,
)

NAMES = (
    "app.test",
    "www.app.test",
    "login.app.test",
    "evil.test",
    "app.test.evil.test",
    "app-test.evil.test",
    "evilapp.test",
    "third.test",
    "xn--pp-6kc.test",
)
"""The names that the site answers to, all of them with the same pages; `*.app.test` and `*.evil.test` as well."""
PORTS_TLS = (443, 8443)
HANDLERS: dict[tuple[str, str], Handler] = {**logins.HANDLERS, **odd_answers.HANDLERS}
HANDSHAKE_S = 10


class Site:
    """`async with Site() as site:` in the test's own event loop.

    Inside, `https://app.test`, `https://evil.test` and `https://third.test` (and `http://`, and port 8443) lead here
    for whoever is given `private_hosts` (the daemon's setting) or `chromium_arguments` (a browser of its own).

    `clock` is the time for one-time codes. `udp_address`: where STUN and DNS listen; `0.0.0.0` where a container has
    to be able to reach them, whose pages are then asked with `?at=` and an address of the host.
    """

    def __init__(
        self,
        *,
        person: Person | None = None,
        clock: Callable[[], float] = time.time,
        udp_address: str = "127.0.0.1",
    ) -> None:
        self.person = person or Person.new()
        self.log = Log()
        self.https_port = 0
        self.http_port = 0
        self.stun_port = 0
        self.dns_port = 0
        self._clock = clock
        self._udp_address = udp_address
        self._certificates = Certificates.make([*NAMES, "*.app.test", "*.evil.test", "127.0.0.1"])
        self._backend = Backend(Accounts(self.person, clock))
        self._servers: list[asyncio.Server] = []
        self._udp: list[asyncio.DatagramTransport] = []
        self._busy: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------------------------------ for who visits

    @property
    def accounts(self) -> Accounts:
        return self._backend.accounts

    @property
    def comments(self) -> list[str]:
        """What /comment shows to everybody."""
        return self._backend.comments

    @property
    def ca_pem(self) -> bytes:
        return self._certificates.ca_pem

    @property
    def spki_hash(self) -> str:
        return self._certificates.spki_hash

    @property
    def private_hosts(self) -> list[str]:
        """Entries for the setting `network_private_hosts`: each name with its ports, and where they are."""
        https = [f"{name}:{port}=127.0.0.1:{self.https_port}" for name in NAMES for port in PORTS_TLS]
        return https + [f"{name}:80=127.0.0.1:{self.http_port}" for name in NAMES]

    @property
    def chromium_arguments(self) -> list[str]:
        """For a browser that goes through no gateway: every `*.test` name leads here, no other name anywhere."""
        ports = {**dict.fromkeys(PORTS_TLS, self.https_port), 80: self.http_port}
        # With the dot as well: WebRTC looks names up with one.
        names = ("*.test", "*.test.")
        rules = [f"MAP {name}:{port} 127.0.0.1:{ours}" for name in names for port, ours in ports.items()]
        rules += [f"MAP {name} 127.0.0.1" for name in names]
        rules += ["MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"]
        return [
            f"--host-resolver-rules={', '.join(rules)}",
            f"--ignore-certificate-errors-spki-list={self.spki_hash}",
        ]

    # ------------------------------------------------------------------------------------------- what happened

    def hits(self, host: str = "") -> list[Hit]:
        """Requests to `host` and its sub-domains, by either protocol; without a host: all."""
        return self.log.of(Hit, host)

    def messages(self, host: str = "") -> list[Message]:
        return self.log.of(Message, host)

    def packets(self, listener: str) -> list[Packet]:
        """UDP packets at `stun` or `dns`."""
        return [packet for packet in self.log.of(Packet) if packet.listener == listener]

    def connects(self) -> list[Connect]:
        return self.log.of(Connect)

    def reached(self, host: str) -> list[Record]:
        """Everything that names `host`: requests, messages, TLS greetings, DNS questions. Empty: it heard nothing."""
        return [one for one in self.log.all() if is_at(one.host, host)]

    def holding(self, value: str) -> list[Record]:
        """Every record, at any host, that holds `value` in any of the usual encodings."""
        return self.log.holding(value)

    async def hit(self, host: str, path: str = "", *, holding: str = "") -> Hit:
        """The first request to exactly `host`, to `path` where given, and that holds a value where given. Waits for
        ever: the caller sets the bound."""
        found = await self.log.first(
            lambda one: (
                isinstance(one, Hit)
                and one.host == host
                and path in ("", one.path)
                and (not holding or holds(one.content, holding))
            )
        )
        assert isinstance(found, Hit)
        return found

    async def record(self, wanted: Callable[[Record], bool]) -> Record:
        """The first record of any kind that is wanted. Waits for ever: the caller sets the bound."""
        return await self.log.first(wanted)

    def forget(self) -> None:
        """As if nobody had ever been here: log, sessions, failures, comments."""
        self.log.clear()
        self._backend = Backend(Accounts(self.person, self._clock), self.stun_port)

    # ------------------------------------------------------------------------------------------------- serving

    async def __aenter__(self) -> Site:
        context = self._certificates.server_context()
        context.sni_callback = self._greeted
        https = await self._listen(context)
        http = await self._listen(None)
        self.https_port, self.http_port = (server.sockets[0].getsockname()[1] for server in (https, http))
        self.stun_port, self.dns_port = await self._listen_udp("stun"), await self._listen_udp("dns")
        self._backend.stun_port = self.stun_port
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        for transport in self._udp:
            transport.close()
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    async def _listen(self, context: ssl.SSLContext | None) -> asyncio.Server:
        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(reader, writer, "https" if context else "http")

        loop = asyncio.get_running_loop()

        def connection() -> asyncio.StreamReaderProtocol:
            # Called at accept, before any TLS: a bare connection counts as well.
            self.log.add(Connect(server.sockets[0].getsockname()[1]))
            reader = asyncio.StreamReader(limit=HEAD_BYTES_MAX)
            return asyncio.StreamReaderProtocol(reader, accepted)

        timeout_s = HANDSHAKE_S if context else None
        server = await loop.create_server(connection, "127.0.0.1", 0, ssl=context, ssl_handshake_timeout=timeout_s)
        self._servers.append(server)
        return server

    async def _listen_udp(self, name: str) -> int:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Listener(self.log, name), local_addr=(self._udp_address, 0)
        )
        self._udp.append(transport)
        port: int = transport.get_extra_info("sockname")[1]
        return port

    def _greeted(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self.log.add(Hello((name or "").lower()))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, scheme: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, ValueError, TimeoutError, ssl.SSLError):
                await self._converse(reader, writer, scheme)
        finally:
            writer.close()
            self._busy.discard(task)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, scheme: str) -> None:
        while request := await read_request(reader, scheme):
            self.log.add(
                Hit(scheme, request.host, request.method, request.path, request.query, request.fields, request.body)
            )
            if request.wants_socket:
                async for message in socket_messages(request, reader, writer):
                    self.log.add(Message(request.host, request.path, message))
                return
            try:
                answer = self._answer(request)
            except ValueError as error:
                answer = Answer(str(error).encode(), 400, kind="text/plain")
            await write_answer(writer, answer, method=request.method)
            if answer.stream is not None:
                return

    def _answer(self, request: Request) -> Answer:
        if is_at(request.host, "evil.test") and request.method == "POST":
            return odd_answers.collect(self._backend, request)
        if request.path == "/":
            return index()
        method = "GET" if request.method == "HEAD" else request.method
        if handler := HANDLERS.get((method, request.path)):
            return handler(self._backend, request)
        if script := pages.scripts().get(request.path):
            return Answer(script, kind="text/javascript")
        if request.path not in pages.sources():
            return Answer(b"<!doctype html><title>404</title><h1>Nothing here</h1>", 404)
        return (logins.password if request.method == "POST" else logins.page)(self._backend, request)


def index() -> Answer:
    """Every page with what it is for."""
    lines = [f"<li><a href={path}>{path}</a> {html.escape(why)}" for path, why in pages.purposes().items()]
    return Answer(f"<!doctype html><title>Site</title><ul>{''.join(lines)}</ul>".encode())
