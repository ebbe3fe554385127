"""TLS over any connection of ours: to a server whose certificate is verified, or from a client as the host it named."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import anyio

from mcp_spaces.errors import InvalidInput, RuntimeUnavailable
from mcp_spaces.network.model import Reason, Refused, Target
from mcp_spaces.sandbox.port import Connection

HANDSHAKE_S = 10.0
PIECE_BYTES = 64 * 1024
PROTOCOLS = ["http/1.1"]


class Trust:
    """Whom servers are believed: the system's authorities, and the operator's own for private hosts alone."""

    def __init__(self, own_authorities: Path | None = None, *, handshake_s: float = HANDSHAKE_S) -> None:
        """Raises InvalidInput when the file is no bundle of certificates."""
        self._handshake_s = handshake_s
        self._public = _client_context()
        self._private = self._public
        if own_authorities is not None:
            self._private = _client_context()
            try:
                self._private.load_verify_locations(own_authorities)
            except (OSError, ssl.SSLError):
                raise InvalidInput(
                    f"Setting network_authorities: {own_authorities} holds no certificates.",
                    hint="Name a PEM file with the certificates of your own authorities.",
                ) from None

    async def connect(self, connection: Connection, target: Target, *, private: bool) -> TlsConnection:
        """To a server that proves to be `target.host`; the connection is closed otherwise. Raises Refused."""
        context = self._private if private else self._public
        secured = TlsConnection(connection, context, server_name=target.host)
        try:
            with anyio.fail_after(self._handshake_s):
                await secured.handshake()
        except TimeoutError:
            connection.close()
            raise Refused(Reason.TOO_SLOW, f"TLS to {target} took too long", status=504) from None
        except ssl.SSLCertVerificationError as problem:
            connection.close()
            raise Refused(
                Reason.BAD_CERTIFICATE,
                f"the certificate of {target} is not trusted: {problem.verify_message}",
                status=502,
            ) from None
        except (ssl.SSLError, RuntimeUnavailable):
            connection.close()
            raise Refused(Reason.BAD_CERTIFICATE, f"{target} speaks no TLS that is trusted", status=502) from None
        except BaseException:
            connection.close()
            raise
        return secured


def _client_context() -> ssl.SSLContext:
    return _strict(ssl.create_default_context())


def server_context(certificate: str) -> ssl.SSLContext:
    """For one host; `certificate` is a PEM file of its leaf and its key."""
    context = _strict(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.load_cert_chain(certificate)
    return context


def _strict(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Some releases of Python, Debian 12's 3.11.2 among them, take an end that nobody signed for a good one.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols(PROTOCOLS)
    return context


class TlsConnection:
    """The port's Connection. Without `server_name` it is the server's side."""

    def __init__(self, connection: Connection, context: ssl.SSLContext, *, server_name: str | None = None) -> None:
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self._sending = anyio.Lock()
        self._finished = False

    async def handshake(self) -> None:
        """Raises ssl.SSLError or RuntimeUnavailable."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError:
                # The other side is told why.
                with suppress(RuntimeUnavailable):
                    await self._flush()
                raise
            else:
                await self._flush()
                return

    async def receive(self) -> bytes:
        while True:
            try:
                return self._tls.read(PIECE_BYTES)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError:
                # An end that nobody signed could be an attacker's, except after our own.
                if self._finished:
                    return b""
                raise _broken() from None

    async def send(self, content: bytes) -> None:
        at = 0
        try:
            while at < len(content):
                at += self._tls.write(memoryview(content)[at : at + PIECE_BYTES])
                await self._flush()
        except ssl.SSLError:
            raise _broken() from None

    async def finish(self) -> None:
        if not self._finished:
            self._finished = True
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            await self._flush()
            await self._connection.finish()

    def close(self) -> None:
        self._connection.close()

    async def _fill(self) -> None:
        content = await self._connection.receive()
        if content:
            self._incoming.write(content)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        # Records have an order: whoever takes them out sends them before the next ones are taken.
        async with self._sending:
            while content := self._outgoing.read():
                await self._connection.send(content)


def _broken() -> RuntimeUnavailable:
    return RuntimeUnavailable("The connection broke.", hint="Try again.")
