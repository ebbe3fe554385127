"""One HTTP response: what every one of them carries, what may be asked for, and the line that it leaves in the log."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import quote

import mcp_types as types
from starlette.types import Message, Scope, Send

if TYPE_CHECKING:
    from mcp_spaces.server.port import LinkedFile

access_log = logging.getLogger("mcp_spaces.access")

MCP_PATH = "/mcp"
HEALTH_PATH = "/healthz"


def refusal_of(scope: Scope, *, hosts: frozenset[str], origins: frozenset[str]) -> str | None:
    """Why a request is not even looked at: a name that is not ours, or a page that is not (threats N18, N20)."""
    named = values(scope, b"host")
    if len(named) != 1 or named[0] not in hosts:
        return "This Host is not one of the server's names. The operator lists them in http_allowed_hosts."
    if any(origin not in origins for origin in values(scope, b"origin")):
        return "This Origin may not use the server. The operator lists them in http_allowed_origins."
    return None


class Answer:
    """Sends one response."""

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
        if status == 413:
            sized.append((b"connection", b"close"))  # the rest of the body is not read
        await self.send({"type": "http.response.start", "status": status, "headers": [*sized, *(headers or [])]})
        await self.send({"type": "http.response.body", "body": content})

    async def html(self, status: int, page: str, headers: Mapping[str, str]) -> None:
        content = page.encode()
        sized = {"content-type": "text/html; charset=utf-8", "content-length": str(len(content)), **headers}
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in sized.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})
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
        access_log.debug(
            "%s %s %s %.1f ms key=%s",
            self._scope["method"],
            shown(self._scope["path"]),
            self.status or "-",
            (time.monotonic() - self._started) * 1e3,
            self.key_id or "-",
        )


def values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for header, value in scope["headers"] if header == name]


def shown(path: str) -> str:
    """What a log may hold of a path: our own routes; anything else could be a key that was put in the wrong place."""
    if path in (MCP_PATH, HEALTH_PATH):
        return path
    one_time = next((kind for kind in ("/links/", "/entries/") if path.startswith(kind)), None)
    return "elsewhere" if one_time is None else f"{one_time}…"


def _is_header_text(text: str) -> bool:
    return bool(re.fullmatch(r"[\x21-\x7e][\x20-\x7e]{0,126}", text))
