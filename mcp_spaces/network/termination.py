"""TLS that ends at the gateway: for hosts that secrets are bound to, in spaces with an authority of their own.

Every other tunnel stays one. Inside of the sandbox the authority is one more trusted root, in a file that programs are
pointed to; it is trusted nowhere else.
"""

from __future__ import annotations

import logging
import ssl

import anyio

from mcp_spaces.errors import RuntimeUnavailable, SpacesError
from mcp_spaces.network import head as heads
from mcp_spaces.network.authorities import Authorities
from mcp_spaces.network.flow import Buffered, Flow, Resumed
from mcp_spaces.network.head import RequestHead
from mcp_spaces.network.http_proxy import exchange, read_request
from mcp_spaces.network.model import PrivateHosts, Reason, Refused, RuntimeRef, Target
from mcp_spaces.network.port import Accesses
from mcp_spaces.network.tls import HANDSHAKE_S, TlsConnection
from mcp_spaces.network.tunnels import check_name, opened
from mcp_spaces.network.ways import Dial, Ways
from mcp_spaces.sandbox.port import Command, Sandbox

log = logging.getLogger(__name__)

BUNDLE = "/tmp/.mcp-spaces-authorities.pem"  # noqa: S108 - inside of a sandbox, which has its own
POINTERS = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE", "PIP_CERT",
    "DENO_CERT", "CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE",
)  # fmt: skip
WRITE = f"umask 022; {{ cat /etc/ssl/certs/ca-certificates.crt 2>/dev/null; cat; }} > {BUNDLE}"
WRITE_S = 20.0


class Termination:
    def __init__(self, *, authorities: Authorities, accesses: Accesses, ways: Ways, private: PrivateHosts) -> None:
        self._authorities = authorities
        self._accesses = accesses
        self._ways = ways
        self._private = private
        self._prepared: set[str] = set()

    async def prepare(self, runtime: RuntimeRef, sandbox: Sandbox) -> None:
        """Where the space wants it, put the public roots and ours into one file inside. What goes wrong leaves the
        sandbox with tunnels."""
        if not self._accesses.secrets(runtime).own_authority:
            return
        try:
            authority = await self._authorities.of(runtime.space_id)
            with anyio.fail_after(WRITE_S):
                process = await sandbox.start(Command(("/bin/sh", "-c", WRITE)), output=lambda _stream, _chunk: None)
                await process.write(authority.certificate)
                await process.close_stdin()
                ended = await process.wait()
        except (SpacesError, TimeoutError) as error:
            log.warning("runtime %s trusts no authority of its space's: %s", runtime.id, error)
            return
        if ended.exit_code == 0:
            self._prepared.add(runtime.id)

    def forget(self, runtime_id: str) -> None:
        self._prepared.discard(runtime_id)

    def environment(self, runtime: RuntimeRef) -> dict[str, str]:
        return dict.fromkeys(POINTERS, BUNDLE) if self._wanted(runtime) else {}

    async def ends_here(self, runtime: RuntimeRef, target: Target) -> bool:
        return self._wanted(runtime) and await self._ways.injection.is_bound(runtime, target)

    async def serve(self, flow: Flow, client: Buffered, target: Target, *, dial: Dial) -> int | None:
        """One request inside of a tunnel that was permitted. Raises Refused, SpacesError or EOFError."""
        begins = await opened(flow, client)
        if begins is None:
            return None
        if isinstance(begins, RequestHead):
            request = read_request(begins, private=self._private, tunnelled=target)
        else:
            await check_name(client, begins, target, self._private)
            head = await self._secured(flow, client, begins, target)
            if head is None:
                return None
            request = read_request(head, private=self._private, tunnelled=target, tls=True)
        flow.answered = False
        return await exchange(flow, client, request, lambda asked: self._ways.way(flow, asked, dial))

    def _wanted(self, runtime: RuntimeRef) -> bool:
        return runtime.id in self._prepared and self._accesses.secrets(runtime).own_authority

    async def _secured(self, flow: Flow, client: Buffered, hello: bytes, target: Target) -> RequestHead | None:
        authority = await self._authorities.of(flow.runtime.space_id)
        context = authority.context(target.host, self._authorities.now())
        secured = TlsConnection(Resumed(client.connection, hello), context)
        try:
            with anyio.fail_after(HANDSHAKE_S):
                await secured.handshake()
        except (ssl.SSLError, RuntimeUnavailable, TimeoutError) as problem:
            said = problem.reason if isinstance(problem, ssl.SSLError) else "it did not end"
            raise Refused(
                Reason.NO_TLS, f"TLS to {target} failed inside: {said}", rule="network.own_authority"
            ) from None
        client.continue_as(secured)
        flow.answered = False
        with anyio.move_on_after(HANDSHAKE_S):
            content = await client.head()
            return None if content is None else heads.request_head(content)
        raise Refused(Reason.TOO_SLOW, "the request did not arrive in time", status=408)
