"""The name in a TLS ClientHello (RFC 8446, 6066). Reads just enough; everything odd is refused, never guessed at."""

from __future__ import annotations

HANDSHAKE = 22
CLIENT_HELLO = 1
SERVER_NAME = 0
ENCRYPTED_CLIENT_HELLO = 0xFE0D
OLD_ENCRYPTED_NAMES = (0xFFCE, 0xFF02, 0xFF03)
HOST_NAME = 0
MAX_RECORD = 1 << 14
MAX_HELLO = 1 << 15
"""Bytes. With post-quantum keys a hello has about 2 KiB."""


class NotTls(Exception):
    """These bytes are no ClientHello, or one that no honest client sends."""


class HiddenName(Exception):
    """Which server is meant cannot be seen (ECH)."""


class NoName(HiddenName):
    """It names no server."""


def is_whole(content: bytes) -> bool:
    """Whether the hello has arrived. Raises NotTls as soon as it cannot become one."""
    return _hello(content) is not None


def server_name(content: bytes, *, greased: bool = False) -> str:
    """The SNI of a whole hello, in lower case. `greased`: an ECH extension is only there for show, as its sender
    has no keys. Raises NotTls, HiddenName or NoName."""
    hello = _hello(content)
    if hello is None:
        raise NotTls("it is cut off")
    found: dict[int, bytes] = {}
    for kind, body in _extensions(hello):
        if kind in found:
            raise NotTls("an extension comes twice")
        found[kind] = body
    hiding = OLD_ENCRYPTED_NAMES if greased else (ENCRYPTED_CLIENT_HELLO, *OLD_ENCRYPTED_NAMES)
    if any(kind in found for kind in hiding):
        raise HiddenName("the server's name is encrypted")
    if SERVER_NAME not in found:
        raise NoName("no server is named")
    return _name(found[SERVER_NAME])


def _hello(content: bytes) -> bytes | None:
    """The handshake message, out of as many records as it takes; None while more has to come."""
    message, at = bytearray(), 0
    while True:
        header = content[at : at + 5]
        if header[:1] not in (b"", bytes([HANDSHAKE])) or header[1:2] not in (b"", b"\3"):
            raise NotTls("no handshake")
        if len(header) < 5:
            return None
        size = int.from_bytes(header[3:5], "big")
        if not 0 < size <= MAX_RECORD:
            raise NotTls("a record of no possible size")
        if len(content) < at + 5 + size:
            return None
        message += content[at + 5 : at + 5 + size]
        if message and message[0] != CLIENT_HELLO:
            raise NotTls("another handshake message")
        if len(message) >= 4:
            wanted = 4 + int.from_bytes(message[1:4], "big")
            if wanted > MAX_HELLO:
                raise NotTls("too long")
            if len(message) == wanted:
                return bytes(message[4:])
            if len(message) > wanted:
                raise NotTls("more than a hello")
        at += 5 + size
        if at > MAX_HELLO:
            raise NotTls("too many records")


def _extensions(hello: bytes) -> list[tuple[int, bytes]]:
    reader = _Reader(hello)
    reader.take(2 + 32)
    reader.sized(1)
    reader.sized(2)
    reader.sized(1)
    if reader.is_empty:
        return []
    block = _Reader(reader.sized(2))
    if not reader.is_empty:
        raise NotTls("something follows the extensions")
    found = []
    while not block.is_empty:
        kind = int.from_bytes(block.take(2), "big")
        found.append((kind, block.sized(2)))
    return found


def _name(body: bytes) -> str:
    outer = _Reader(body)
    names = _Reader(outer.sized(2))
    kind = names.take(1)[0]
    name = names.sized(2)
    if kind != HOST_NAME or not names.is_empty or not outer.is_empty:
        raise NotTls("not exactly one name")
    if not name or len(name) > 253 or not name.isascii() or b"\0" in name:
        raise NotTls("a name that is none")
    return name.decode("ascii").lower()


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    @property
    def is_empty(self) -> bool:
        return self._at == len(self._content)

    def take(self, size: int) -> bytes:
        taken = self._content[self._at : self._at + size]
        if len(taken) != size:
            raise NotTls("a length is wrong")
        self._at += size
        return taken

    def sized(self, length_bytes: int) -> bytes:
        return self.take(int.from_bytes(self.take(length_bytes), "big"))
