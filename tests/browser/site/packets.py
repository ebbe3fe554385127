"""Two UDP listeners: one that speaks enough STUN/TURN to be told a user name, one that hears DNS questions."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.browser.site.records import Log, Packet

_COOKIE = bytes.fromhex("2112a442")
_BINDING, _ALLOCATE = b"\x00\x01", b"\x00\x03"


class Listener(asyncio.DatagramProtocol):
    def __init__(self, log: Log, name: str) -> None:
        self._log = log
        self._name = name
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, packet: bytes, sender: tuple[str | Any, int]) -> None:
        host, answer = ("", turn_answer(packet, sender)) if self._name == "stun" else dns_answer(packet)
        self._log.add(Packet(self._name, packet, host))
        if answer and self._transport:
            self._transport.sendto(answer, sender)


def turn_answer(packet: bytes, sender: tuple[str | Any, int]) -> bytes:
    """RFC 8489 and 8656. To an Allocate without a user: 401, whereupon the client says who it is."""
    kind, transaction = packet[:2], packet[8:20]
    if packet[4:8] != _COOKIE:
        return b""
    if kind == _BINDING:
        port = sender[1] ^ 0x2112
        address = bytes(int(part) ^ mask for part, mask in zip(sender[0].split("."), _COOKIE, strict=True))
        return _message(b"\x01\x01", transaction, _attribute(0x0020, b"\x00\x01" + port.to_bytes(2) + address))
    if kind == _ALLOCATE:
        refusal = _attribute(0x0009, b"\x00\x00\x04\x01Unauthorized")
        realm = _attribute(0x0014, b"evil.test") + _attribute(0x0015, b"once")
        return _message(b"\x01\x13", transaction, refusal + realm)
    return b""


def _message(kind: bytes, transaction: bytes, attributes: bytes) -> bytes:
    return kind + len(attributes).to_bytes(2) + _COOKIE + transaction + attributes


def _attribute(number: int, value: bytes) -> bytes:
    return number.to_bytes(2) + len(value).to_bytes(2) + value + bytes(-len(value) % 4)


def dns_answer(packet: bytes) -> tuple[str, bytes]:
    """The name of the first question, and the answer that there is no such name (RFC 1035)."""
    labels, at = [], 12
    while at < len(packet) and (size := packet[at]):
        labels.append(packet[at + 1 : at + 1 + size].decode("latin-1"))
        at += 1 + size
    question = packet[12 : at + 5]
    head = packet[:2] + b"\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00"
    return ".".join(labels).lower(), head + question if labels else b""
