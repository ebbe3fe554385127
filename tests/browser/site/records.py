"""What reached the site: every request, socket message, TLS greeting, connection and packet, in order."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar
from urllib.parse import unquote_to_bytes


@dataclass(frozen=True, slots=True)
class Hit:
    """One HTTP request. `host` is the Host field in lower case without its port; fields' names are in lower case."""

    scheme: str
    host: str
    method: str
    path: str
    query: str
    fields: Mapping[str, str]
    body: bytes

    @property
    def content(self) -> bytes:
        fields = "\n".join(f"{name}: {value}" for name, value in self.fields.items())
        return f"{self.host} {self.path}?{self.query}\n{fields}\n".encode() + self.body


@dataclass(frozen=True, slots=True)
class Message:
    """One WebSocket message from a page."""

    host: str
    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """A TLS greeting: the server name that a client asked for, also where no request follows."""

    host: str

    @property
    def content(self) -> bytes:
        return self.host.encode()


@dataclass(frozen=True, slots=True)
class Connect:
    """An accepted TCP connection. Whom it is meant for is not known yet."""

    port: int
    host: str = ""
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Packet:
    """A UDP packet at the listener `stun` or `dns`. `host`: the name that a DNS question asks for."""

    listener: str
    content: bytes
    host: str = ""


Record: TypeAlias = Hit | Message | Hello | Connect | Packet
Kind = TypeVar("Kind", Hit, Message, Hello, Connect, Packet)


class Log:
    def __init__(self) -> None:
        self._records: list[Record] = []
        self._waiting: list[tuple[Callable[[Record], bool], asyncio.Future[Record]]] = []

    def add(self, record: Record) -> None:
        self._records.append(record)
        for wanted, future in self._waiting:
            if not future.done() and wanted(record):
                future.set_result(record)

    def all(self) -> list[Record]:
        return list(self._records)

    def of(self, kind: type[Kind], host: str = "") -> list[Kind]:
        """Those of one kind, at `host` and its sub-domains; empty: at any."""
        return [one for one in self._records if isinstance(one, kind) and (not host or is_at(one.host, host))]

    def holding(self, value: str) -> list[Record]:
        """Those that hold `value`: as it is, in any case, URL-encoded, in base64 or in hex."""
        return [one for one in self._records if holds(one.content, value)]

    async def first(self, wanted: Callable[[Record], bool]) -> Record:
        """The first record that is wanted, as soon as it is there. Waits for ever: the caller sets the bound."""
        for record in self._records:
            if wanted(record):
                return record
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        waiting = (wanted, future)
        self._waiting.append(waiting)
        try:
            return await future
        finally:
            self._waiting.remove(waiting)

    def clear(self) -> None:
        self._records.clear()


def is_at(host: str, domain: str) -> bool:
    """`host` is `domain` or a name below it. A trailing dot makes no difference."""
    host = host.removesuffix(".")
    return host == domain or host.endswith(f".{domain}")


def holds(content: bytes, value: str) -> bool:
    raw = value.encode()
    plain = unquote_to_bytes(content.replace(b"+", b" "))
    if raw.lower() in plain.lower() or raw.lower() in unquote_to_bytes(content).lower():
        return True
    # Without dots: in a host name hex is cut into labels.
    if raw.hex().encode() in content.lower().replace(b".", b""):
        return True
    standard = content.translate(bytes.maketrans(b"-_", b"+/"))
    return any(form in standard for form in _in_base64(raw))


def _in_base64(raw: bytes) -> list[bytes]:
    """The part of the text that depends on `raw` alone, for each of the three places where it may begin."""
    forms = []
    for before in range(3):
        text = base64.b64encode(bytes(before) + raw).rstrip(b"=")
        last = -1 if (before + len(raw)) % 3 else None
        forms.append(text[(0, 2, 3)[before] : last])
    return forms
