"""What stands in front of every HTTP route: whose name the request uses, who sends it, how much, and how it is logged.

Host and Origin are compared with exact lists whatever address is bound, so that no web page reaches this server under
a name of its own (threats N18, N20). There are no cookies; a key comes in the Authorization header and nowhere else
(T03). Only `application/json` bodies are read, which a page cannot send without asking first (N19).
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import mcp_types as types
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_spaces.errors import SpacesError, Unauthenticated
from mcp_spaces.server import strict_json
from mcp_spaces.server.authentication import Visitor, visited_by
from mcp_spaces.server.limits import Lanes

if TYPE_CHECKING:
    from mcp_spaces.core.caller import Caller
    from mcp_spaces.server.authentication import Guard
    from mcp_spaces.server.port import Application, LinkedFile
    from mcp_spaces.settings import Settings

access_log = logging.getLogger("mcp_spaces.access")
log = logging.getLogger(__name__)

MCP_PATH = "/mcp"
HEALTH_PATH = "/healthz"
LINK_PATH = re.compile(r"/links/([A-Za-z0-9_-]{16,128})")
BEARER = re.compile(rb"(?i:bearer) +([\x21-\x7e]{1,512})")


class HttpEdge:
    def __init__(
        self,
        app: Application,
        guard: Guard,
        mcp: ASGIApp,
        settings: Settings,
        *,
        hosts: frozenset[str],
        origins: frozenset[str],
    ) -> None:
        self._app = app
        self._guard = guard
        self._mcp = mcp
        self._settings = settings
        self._hosts = hosts
        self._origins = origins
        self._lanes = Lanes(calls_max=settings.agent_calls_max, streams_max=settings.streams_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = _Answer(scope, send)
        try:
            await self._route(scope, receive, answer)
        except Exception:
            log.exception("internal error in %s %s", scope["method"], _shown(scope["path"]))
            if answer.status is None:
                await answer.json(500, {"error": "internal", "message": "The daemon's log has the cause."})
        finally:
            answer.log()

    async def _route(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        if refusal := self._refusal(scope):
            await answer.json(403, {"error": "forbidden", "message": refusal})
        elif scope["path"] == MCP_PATH:
            await self._serve_mcp(scope, receive, answer)
        elif link := LINK_PATH.fullmatch(scope["path"]):
            await self._serve_link(scope["method"], link[1], answer)
        elif scope["path"] == HEALTH_PATH:
            await answer.json(200, {"status": "ok"})
        else:
            await answer.json(404, {"error": "not_found", "message": f"MCP is served at {MCP_PATH}."})

    def _refusal(self, scope: Scope) -> str | None:
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return "This Host is not one of the server's names. The operator lists them in http_allowed_hosts."
        if any(origin not in self._origins for origin in _values(scope, b"origin")):
            return "This Origin may not use the server. The operator lists them in http_allowed_origins."
        return None

    async def _serve_mcp(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            caller = await self._caller(scope)
        except Unauthenticated as error:
            challenge = [(b"www-authenticate", b'Bearer realm="mcp-spaces"')]
            await answer.json(401, {"error": error.code, "message": f"{error.message} {error.hint}"}, challenge)
            return
        answer.key_id = caller.key_id
        if scope["method"] == "POST":
            body = await self._body(scope, receive, answer)
            if body is None:
                return
            receive = _replayed(body, receive)
        # The SDK compares this with who opened a session, and lets nobody else use it.
        bearer = AccessToken(token="", client_id=caller.key_id or "", scopes=[], subject=caller.principal_id)
        scope["user"] = AuthenticatedUser(bearer)
        with visited_by(Visitor(caller, self._lanes.of(caller.key_id or caller.principal_id))):
            if scope["method"] == "GET":
                # A stream of the handshake era stays open for as long as the client likes.
                with self._guard.following(caller):
                    await self._mcp(scope, receive, answer.send)
            else:
                await self._mcp(scope, receive, answer.send)

    async def _caller(self, scope: Scope) -> Caller:
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        bearer = BEARER.fullmatch(sent[0]) if len(sent) == 1 else None
        if bearer is None:
            raise Unauthenticated(
                "A key is needed.", hint="Send `Authorization: Bearer KEY`; `mcp-spaces key create` makes one."
            )
        return await self._app.authenticate(bearer[1].decode("ascii"))

    async def _body(self, scope: Scope, receive: Receive, answer: _Answer) -> bytes | None:
        """The whole request body, or None when it was refused. The connection has a deadline for it."""
        kinds = _values(scope, b"content-type")
        if len(kinds) != 1 or kinds[0].partition(";")[0].strip().lower() != "application/json":
            await answer.rpc_error(415, None, types.INVALID_REQUEST, "Content-Type has to be application/json.")
            return None
        chunks, size = [], 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._settings.http_body_bytes_max:
                limit = f"A request may have {self._settings.http_body_bytes_max:,} bytes."
                await answer.rpc_error(413, None, types.INVALID_REQUEST, limit)
                return None
            more = message.get("more_body", False)
        body = b"".join(chunks)
        try:
            strict_json.parse(body)
        except strict_json.AmbiguousJsonError as error:
            await answer.rpc_error(400, strict_json.request_id(body), types.PARSE_ERROR, f"Parse error: {error}")
            return None
        return body

    async def _serve_link(self, method: str, token: str, answer: _Answer) -> None:
        """A stored file by its one-time link, as a download that no browser runs (threat S18)."""
        if method != "GET":
            await answer.json(405, {"error": "method", "message": "Links are read with GET."}, [(b"allow", b"GET")])
            return
        try:
            file = await self._app.redeem_link(token)
        except SpacesError as error:
            await answer.json(404, {"error": error.code, "message": f"{error.message} {error.hint}".strip()})
            return
        await answer.file(file)


class _Answer:
    """One response: what every one of them carries, and the line that it leaves in the log."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._started = time.monotonic()
        self.status: int | None = None
        self.key_id: str | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", []))
            names = {name.lower() for name, _ in headers}
            headers += [(name, value) for name, value in self._always() if name not in names]
            message = {**message, "headers": headers}
        await self._send(message)

    def _always(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"date", formatdate(usegmt=True).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
        ]

    async def json(
        self, status: int, body: Mapping[str, object], headers: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        content = json.dumps(body).encode()
        sized = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        if status in (408, 413):
            sized.append((b"connection", b"close"))  # the rest of the body is not read
        await self.send({"type": "http.response.start", "status": status, "headers": [*sized, *(headers or [])]})
        await self.send({"type": "http.response.body", "body": content})

    async def rpc_error(self, status: int, request_id: types.RequestId | None, code: int, message: str) -> None:
        await self.json(status, {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}})

    async def file(self, file: LinkedFile) -> None:
        headers = {
            "content-type": file.content_type if _is_header_text(file.content_type) else "application/octet-stream",
            "content-length": str(file.size_bytes),
            "content-disposition": f"attachment; filename*=UTF-8''{quote(file.file_name, safe='')}",
            "content-security-policy": "default-src 'none'; sandbox",
            "cross-origin-resource-policy": "same-origin",
        }
        await self.send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
            }
        )
        async for chunk in file.chunks:
            await self.send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})

    def log(self) -> None:
        """No query, no header, no link's token: nothing that lets somebody in (threat T03)."""
        access_log.info(
            "%s %s %s %.1f ms key=%s",
            self._scope["method"],
            _shown(self._scope["path"]),
            self.status or "-",
            (time.monotonic() - self._started) * 1e3,
            self.key_id or "-",
        )


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for header, value in scope["headers"] if header == name]


def _shown(path: str) -> str:
    """What a log may hold of a path: our own routes; anything else could be a key that was put in the wrong place."""
    if path in (MCP_PATH, HEALTH_PATH):
        return path
    return "/links/…" if path.startswith("/links/") else "elsewhere"


def _is_header_text(text: str) -> bool:
    return bool(re.fullmatch(r"[\x21-\x7e][\x20-\x7e]{0,126}", text))


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once, then whatever the client does next: the SDK waits for it to leave."""
    parts: AsyncIterator[Any] = _once({"type": "http.request", "body": body, "more_body": False})

    async def receive_again() -> Message:
        async for part in parts:
            message: Message = part
            return message
        return await receive()

    return receive_again


async def _once(message: Message) -> AsyncIterator[Message]:
    yield message
