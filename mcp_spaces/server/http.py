"""Streamable HTTP: where it listens, and under which names."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mcp_spaces.errors import InvalidInput
from mcp_spaces.server.http_answer import MCP_PATH
from mcp_spaces.server.http_edge import HttpEdge
from mcp_spaces.server.http_protocol import Deadlines, bound, serving
from mcp_spaces.server.http_sessions import KeyedSessions

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from mcp_spaces.server.endpoint import SpacesServer
    from mcp_spaces.server.port import Application
    from mcp_spaces.settings import Settings

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


@asynccontextmanager
async def listening(
    app: Application, server: SpacesServer, *, front: Callable[[ASGIApp], ASGIApp] = lambda edge: edge
) -> AsyncIterator[str]:
    """Serve until left; the URL of the MCP endpoint. `front` may put something of the caller's before the edge.

    Raises:
        InvalidInput: the bind is not safe.
        WrongState: the address cannot be had.
    """
    settings = server.settings
    check_bind(settings)
    check_certificate(settings)
    with bound(settings.http_host, settings.http_port or 0) as listener:
        port = listener.getsockname()[1]
        manager = KeyedSessions(
            app=server,
            guard=server.guard,
            per_key_max=settings.http_sessions_per_key_max,
            session_idle_timeout=settings.http_session_idle_s,
            max_sessions=settings.http_sessions_max,
            max_request_body_size=settings.http_body_bytes_max,
        )
        hosts = allowed_hosts(settings, port)
        edge = HttpEdge(
            app,
            server.guard,
            manager.handle_request,
            settings,
            hosts=hosts,
            origins=allowed_origins(settings, hosts),
        )
        async with (
            manager.run(),
            serving(
                front(edge),
                listener,
                deadlines=Deadlines(settings.http_header_s, settings.http_body_s),
                connections_max=settings.http_connections_max,
                certificate=settings.http_tls_certificate,
                key=settings.http_tls_key,
            ),
        ):
            base = f"{_scheme(settings)}://{settings.http_address}:{port}"

            async def address() -> str:
                return settings.public_url or base

            app.entries.address = address
            try:
                yield base + MCP_PATH
            finally:
                app.entries.address = None


def check_bind(settings: Settings) -> None:
    """Refuse to be reachable by others without names and TLS (threat N04).

    Raises:
        InvalidInput: with what is missing.
    """
    if (settings.http_tls_certificate is None) != (settings.http_tls_key is None):
        raise InvalidInput("TLS needs both a certificate and its key.", hint="Give both, or neither.")
    if settings.http_is_loopback:
        return
    if not settings.http_allowed_hosts:
        raise InvalidInput(
            f"{settings.http_host} can be reached from other machines, but no name is allowed.",
            hint="Give each name that clients use, such as spaces.example.org: http_allowed_hosts, or serve --allowed-host.",
        )
    if settings.http_tls_certificate is None and not settings.http_behind_tls_proxy:
        raise InvalidInput(
            f"{settings.http_host} can be reached from other machines, and keys would travel in clear text.",
            hint="Give --tls-certificate and --tls-key, or say --behind-tls-proxy where a proxy ends TLS.",
        )


def check_certificate(settings: Settings) -> None:
    """Say what is wrong with the files for TLS before anything listens.

    Raises:
        InvalidInput: with the file, or what the two are not to each other.
    """
    certificate, key = settings.http_tls_certificate, settings.http_tls_key
    if certificate is None or key is None:
        return
    for file in (certificate, key):
        try:
            file.read_bytes()
        except OSError as error:
            raise InvalidInput(
                f"{file} cannot be read: {error.strerror or error}.",
                hint="It has to be a PEM file of the daemon's user.",
            ) from error
    try:
        # Without a passphrase of ours OpenSSL would ask for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        raise InvalidInput(
            f"The certificate {certificate} and the key {key} cannot be used: {error.reason or error}.",
            hint="Both have to be PEM; the key belongs to the first certificate, and has no passphrase.",
        ) from error


def allowed_hosts(settings: Settings, port: int) -> frozenset[str]:
    names = (*LOOPBACK_NAMES, settings.http_address) if settings.http_is_loopback else ()
    own = [f"{name}:{port}" for name in names]
    return frozenset([*own, *settings.http_allowed_hosts])


def allowed_origins(settings: Settings, hosts: frozenset[str]) -> frozenset[str]:
    """Pages that the server itself could have served, and those that the operator lists."""
    scheme = "https" if settings.http_behind_tls_proxy else _scheme(settings)
    return frozenset([*(f"{scheme}://{host}" for host in hosts), *settings.http_allowed_origins])


def _scheme(settings: Settings) -> str:
    return "http" if settings.http_tls_certificate is None else "https"
