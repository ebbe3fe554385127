"""What stands in front of every HTTP route: whose name the request uses, who sends it, how much, and how it is logged.

Host and Origin are compared with exact lists whatever address is bound, so that no web page reaches this server under
a name of its own (threats N18, N20). There are no cookies; a key comes in the Authorization header and nowhere else
(T03). Only `application/json` bodies are read, which a page cannot send without asking first (N19).
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import mcp_types as types
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_spaces.errors import SpacesError, Unauthenticated
from mcp_spaces.server import strict_json
from mcp_spaces.server.authentication import Visitor, visited_by
from mcp_spaces.server.entry_pages import ENTRY_PATH, EntryPages, is_from_its_page
from mcp_spaces.server.http_answer import HEALTH_PATH, MCP_PATH, Answer, refusal_of, shown, values
from mcp_spaces.server.limits import Lanes

if TYPE_CHECKING:
    from mcp_spaces.core.caller import Caller
    from mcp_spaces.server.authentication import Guard
    from mcp_spaces.server.port import Application
    from mcp_spaces.settings import Settings

log = logging.getLogger(__name__)

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
        self._pages = EntryPages(app.entries)
        self._lanes = Lanes(calls_max=settings.agent_calls_max, streams_max=settings.streams_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer(scope, send)
        try:
            await self._route(scope, receive, answer)
        except Exception:
            log.exception("internal error in %s %s", scope["method"], shown(scope["path"]))
            if answer.status is None:
                await answer.json(500, {"error": "internal", "message": "The daemon's log has the cause."})
        finally:
            answer.log()

    async def _route(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        page = ENTRY_PATH.fullmatch(scope["path"])
        origins = self._origins | {"null"} if page and is_from_its_page(scope) else self._origins
        if refusal := refusal_of(scope, hosts=self._hosts, origins=origins):
            await answer.json(403, {"error": "forbidden", "message": refusal})
        elif scope["path"] == MCP_PATH:
            await self._serve_mcp(scope, receive, answer)
        elif link := LINK_PATH.fullmatch(scope["path"]):
            await self._serve_link(scope["method"], link[1], answer)
        elif page:
            await self._pages.serve(page[1], scope, receive, answer)
        elif scope["path"] == HEALTH_PATH:
            await answer.json(200, {"status": "ok"})
        else:
            await answer.json(404, {"error": "not_found", "message": f"MCP is served at {MCP_PATH}."})

    async def _serve_mcp(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        try:
            caller = await self._caller(scope)
            answer.key_id = caller.key_id
            if scope["method"] == "POST":
                body = await self._body(scope, receive, answer)
                if body is None:
                    return
                receive = _replayed(body, receive)
                # Whoever sends it slowly may have lost the key, or a part of its scope, meanwhile.
                caller = self._app.current(caller)
        except Unauthenticated as error:
            challenge = [(b"www-authenticate", b'Bearer realm="mcp-spaces"')]
            await answer.json(401, {"error": error.code, "message": f"{error.message} {error.hint}"}, challenge)
            return
        # The SDK compares this with who opened a session, and lets nobody else use it.
        bearer = AccessToken(token="", client_id=caller.key_id or "", scopes=[], subject=caller.principal_id)
        scope["user"] = AuthenticatedUser(bearer)
        lane = self._lanes.of(caller.key_id or caller.principal_id)
        with visited_by(Visitor(caller, lane, today=self._app.current)):
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

    async def _body(self, scope: Scope, receive: Receive, answer: Answer) -> bytes | None:
        """The whole request body, or None when it was refused. The connection has a deadline for it."""
        kinds = values(scope, b"content-type")
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

    async def _serve_link(self, method: str, token: str, answer: Answer) -> None:
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
