"""A film of JPEG pictures as an AVI file (Motion JPEG), without an encoder: what VLC, mpv and ffmpeg play.

Layout: RIFF 'AVI ' { LIST hdrl, LIST movi { one 00dc chunk a frame }, idx1 }, all numbers little-endian. A frame that is
like the one before is an empty chunk, so that a page that stands still costs nothing.
(Microsoft, AVI RIFF File Reference.)
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

from mcp_spaces.state.disk import translated

RATE = 5
"""Frames a second."""
HEADER_BYTES = 224
"""Up to the first frame's chunk."""
_KEY_FRAME = 0x10
_HAS_INDEX = 0x10


class Film:
    """`add` pictures with their times, then `finish`. The file at `path` is made here, mode 0600. A disk that takes no
    more ends the film where it is, and nothing else. Raises DiskFull, WrongState: it cannot even begin."""

    def __init__(self, path: Path, *, bytes_max: int, frames_max: int) -> None:
        self.path = path
        self.width = self.height = 0
        self.frames = 0
        self.full = False
        """No more is taken: the limits are reached, or the disk is full."""
        self._bytes_max = bytes_max
        self._frames_max = frames_max
        self._began = 0.0
        self._index = io.BytesIO()
        self._largest = 0
        self._end = HEADER_BYTES
        """Where the next chunk begins."""
        with translated():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # Nothing waits in a buffer, to fail when the file is closed.
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def add(self, picture: bytes, *, at: float) -> None:
        """`at`: seconds, growing. A picture of another size than the first one, or none of JPEG, is left out."""
        size = jpeg_size(picture)
        if size is None or self.full:
            return
        if not self.frames:
            (self.width, self.height), self._began = size, at
        if size != (self.width, self.height):
            return
        place = max(round((at - self._began) * RATE), 0)
        while self.frames < place and not self.full:
            self._chunk(b"")
        if not self.full:
            self._chunk(picture)

    def finish(self) -> bool:
        """Whether there is a film; without a picture the file is removed. Raises DiskFull, WrongState."""
        if not self.frames:
            self.discard()
            return False
        movie_bytes = self._end - HEADER_BYTES
        index = self._index.getvalue()
        with translated():
            # Part of the chunk for which there was no room may be there.
            self._file.truncate(self._end)
            self._write(b"idx1" + struct.pack("<I", len(index)) + index, at=self._end)
            self._write(self._header(movie_bytes, len(index)), at=0)
            self._file.close()
        return True

    def discard(self) -> None:
        """Idempotent."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _chunk(self, content: bytes) -> None:
        chunk = b"00dc" + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
        try:
            self._write(chunk, at=self._end)
        except OSError:
            self.full = True
            return
        place = self._end - HEADER_BYTES + 4
        self._index.write(b"00dc" + struct.pack("<III", _KEY_FRAME if content else 0, place, len(content)))
        self._end += len(chunk)
        self.frames += 1
        self._largest = max(self._largest, len(content))
        self.full = self.frames >= self._frames_max or self._end >= self._bytes_max

    def _write(self, content: bytes, *, at: int) -> None:
        while content:
            written = os.pwrite(self._file.fileno(), content, at)
            content, at = content[written:], at + written

    def _header(self, movie_bytes: int, index_bytes: int) -> bytes:
        main = struct.pack(
            "<14I", 1_000_000 // RATE, self._largest * RATE, 0, _HAS_INDEX, self.frames, 0, 1, self._largest,
            self.width, self.height, 0, 0, 0, 0,
        )  # fmt: skip
        stream = b"vidsMJPG" + struct.pack(
            "<I2H8I4H", 0, 0, 0, 0, 1, RATE, 0, self.frames, self._largest, 0xFFFFFFFF, 0, 0, 0, self.width, self.height
        )
        picture = struct.pack(
            "<IiiHH4sIiiII", 40, self.width, self.height, 1, 24, b"MJPG", self.width * self.height * 3, 0, 0, 0, 0
        )
        listed = _list(b"strl", _part(b"strh", stream) + _part(b"strf", picture))
        headers = _list(b"hdrl", _part(b"avih", main) + listed)
        total = 4 + len(headers) + 12 + movie_bytes + 8 + index_bytes
        head = b"RIFF" + struct.pack("<I", total) + b"AVI " + headers
        return head + b"LIST" + struct.pack("<I", 4 + movie_bytes) + b"movi"


def _part(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content


def _list(name: bytes, content: bytes) -> bytes:
    return b"LIST" + struct.pack("<I", len(content) + 4) + name + content


def jpeg_size(picture: bytes) -> tuple[int, int] | None:
    """Width and height from the frame header; None for what is no JPEG."""
    if picture[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 < len(picture) and picture[at] == 0xFF:
        marker, length = picture[at + 1], int.from_bytes(picture[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", picture[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None
