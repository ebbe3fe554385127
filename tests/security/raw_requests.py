"""Requests as the gateway reads them, byte for byte, and the list that most of its tests give it."""

from __future__ import annotations

from tests.network.lab import allowing

LIST = allowing("api.example.com", "*.example.org", "only443.example.net:443")
HOST = "api.example.com"


def get(uri: str, host: str | None = HOST, *more: str) -> bytes:
    lines = [f"GET {uri} HTTP/1.1", *([] if host is None else [f"Host: {host}"]), *more]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def connect(authority: str, *more: str) -> bytes:
    return "\r\n".join([f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *more, "", ""]).encode("latin-1")


def post(*fields: str, body: bytes = b"") -> bytes:
    head = "\r\n".join([f"POST http://{HOST}/ HTTP/1.1", f"Host: {HOST}", *fields, "", ""])
    return head.encode() + body


def both(host: str) -> bytes:
    return get(f"http://{host}/", host)
