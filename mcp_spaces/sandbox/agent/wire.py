"""The words that the daemon and the agent exchange.

A frame is a header (payload length u32, kind u8, channel u32, big endian) and at most MAX_PAYLOAD bytes. A channel is
one call: the daemon opens odd channels, the agent opens even ones, each a connection to its proxy port. Fields inside
a payload are byte strings, each with its length (u32) before it; a whole number is a field of eight bytes.

    daemon → agent                                       agent → daemon
    OPEN     verb, fields…                               HELLO    version, fields… (once, on channel 0)
    CONTENT  bytes, within the window                    GRANT    window: this many more bytes of CONTENT
    END      no more content                             STARTED  the program runs
    KILL     stop it; answered by the last frame         STDOUT, STDERR  at most CHUNK bytes
    RESIZE   rows, columns                               EXIT     exit code, microseconds, out of memory
    ROOM     window: this many more bytes of REPLY       REPLY    a part of an answer's content
                                                         ACCEPTED somebody connected to a proxy port (even channels)
                                                         FINISHED a connection's bytes from inside are over
                                                         RESULT, FAILURE, GONE   the channel's last frame
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VERSION = b"1"
HEADER = struct.Struct(">IBI")
LENGTH = struct.Struct(">I")
WHOLE = struct.Struct(">q")
MAX_PAYLOAD = 256 * 1024
CHUNK = 64 * 1024
WINDOW = 256 * 1024
"""How many bytes of CONTENT the daemon may send on a channel before the first GRANT; likewise the agent of a
connection's bytes before the first ROOM."""
MAX_CONNECTIONS = 256
"""Connections through one sandbox's proxy ports at a time."""
MAX_PROXIES = 64
"""Proxy ports of one sandbox at a time: its own, or one for each browser that a container holds."""

OPEN, CONTENT, END, KILL, RESIZE, ROOM = 1, 2, 3, 4, 5, 6
HELLO, GRANT, STARTED, STDOUT, STDERR, EXIT, REPLY, RESULT, FAILURE, GONE, ACCEPTED, FINISHED = range(16, 28)


class Malformed(Exception):
    """Bytes that are no frame, or no fields."""


def frame(kind: int, channel: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(len(payload), kind, channel) + payload


def pack(fields: Iterable[bytes]) -> bytes:
    return b"".join([LENGTH.pack(len(field)) + field for field in fields])


def unpack(payload: bytes) -> list[bytes]:
    """The fields of a payload. Raises Malformed when they do not fill it exactly."""
    fields = []
    at, end = 0, len(payload)
    while at < end:
        if end - at < 4:
            raise Malformed("a length is cut off")
        (size,) = LENGTH.unpack_from(payload, at)
        at += 4
        if size > end - at:
            raise Malformed("a field is cut off")
        fields.append(payload[at : at + size])
        at += size
    return fields


def whole(number: int) -> bytes:
    return WHOLE.pack(number)


def number(fields: Sequence[bytes], index: int) -> int:
    """The whole number in a field. Raises Malformed when it is missing or no number."""
    if index >= len(fields) or len(fields[index]) != 8:
        raise Malformed("field %d is not a whole number" % index)
    value: int = WHOLE.unpack(fields[index])[0]
    return value
