"""As much of HTTP/1.1 and WebSocket (RFC 6455) as a browser needs from a test server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

HEAD_BYTES_MAX = 1 << 16
BODY_BYTES_MAX = 64 << 20
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Request:
    scheme: str
    method: str
    target: str
    fields: Mapping[str, str]
    body: bytes

    @property
    def host(self) -> str:
        """In lower case, without the port."""
        return (urlsplit(f"//{self.fields.get('host', '')}").hostname or "").lower()

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        return urlsplit(self.target).query

    @property
    def parameters(self) -> dict[str, str]:
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    @property
    def cookies(self) -> dict[str, str]:
        pairs = (pair.strip().partition("=") for pair in self.fields.get("cookie", "").split(";"))
        return {name: value for name, _, value in pairs}

    @property
    def wants_socket(self) -> bool:
        return self.fields.get("upgrade", "").lower() == "websocket"


@dataclass(frozen=True, slots=True)
class Answer:
    """`stream` instead of `content` for what is too much for memory; `delay_s` before the first byte."""

    content: bytes = b""
    status: int = 200
    fields: Sequence[tuple[str, str]] = ()
    kind: str = "text/html; charset=utf-8"
    stream: AsyncIterator[bytes] | None = None
    delay_s: float = 0


def redirect(to: str, *cookies: str, status: int = 303) -> Answer:
    return Answer(status=status, fields=[("Location", to), *(("Set-Cookie", cookie) for cookie in cookies)])


def in_json(content: Any, *cookies: str, status: int = 200) -> Answer:
    fields = [("Set-Cookie", cookie) for cookie in cookies]
    return Answer(json.dumps(content).encode(), status, fields, kind="application/json")


async def read_request(reader: asyncio.StreamReader, scheme: str) -> Request | None:
    """None: the client is gone. Raises ValueError for what is no request, or one with too large a body."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    line, *lines = head.decode("latin-1").strip().split("\r\n")
    method, target, _ = line.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    fields = {name.strip().lower(): value.strip() for name, _, value in pairs}
    size = int(fields.get("content-length", "0"))
    if size > BODY_BYTES_MAX:
        raise ValueError(f"A body of {size} bytes is too large.")
    return Request(scheme, method, target, fields, await reader.readexactly(size))


async def write_answer(writer: asyncio.StreamWriter, answer: Answer, *, method: str) -> None:
    await asyncio.sleep(answer.delay_s)
    fields = [("Content-Type", answer.kind), ("Cache-Control", "no-store"), *answer.fields]
    if answer.stream is None:
        fields.append(("Content-Length", str(len(answer.content))))
    else:
        fields.append(("Connection", "close"))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    writer.write(f"HTTP/1.1 {answer.status} {_phrase(answer.status)}\r\n{head}\r\n".encode("latin-1"))
    if method != "HEAD":
        writer.write(answer.content)
    await writer.drain()
    if answer.stream is not None and method != "HEAD":
        async for piece in answer.stream:
            writer.write(piece)
            await writer.drain()


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "Other"


async def socket_messages(
    request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> AsyncIterator[bytes]:
    """Shakes hands, then gives each message until the page closes. Fragments come one by one."""
    accept = hashlib.sha1(request.fields["sec-websocket-key"].encode() + _ACCEPT).digest()
    fields = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {base64.b64encode(accept).decode()}"
    writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n\r\n".encode())
    await writer.drain()
    while True:
        first, second = await reader.readexactly(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
        if size > BODY_BYTES_MAX:
            return
        mask = await reader.readexactly(4)
        content = bytes(byte ^ mask[at % 4] for at, byte in enumerate(await reader.readexactly(size)))
        if first & 0xF == 8:
            return
        yield content
