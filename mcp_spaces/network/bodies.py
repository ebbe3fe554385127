"""Where a body ends. Bytes pass unchanged; chunk sizes are only read along, and strictly."""

from __future__ import annotations

import re

from mcp_spaces.network.head import Framing, malformed

_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(;[^\x00-\x08\x0a-\x1f\x7f]*)?")
MAX_CHUNK_LINE = 1024
MAX_TRAILERS = 8 * 1024


class Body:
    """Counts along. `take` returns what belongs to the body; what follows it is nobody's."""

    def __init__(self, framing: Framing, *, until_closed: bool) -> None:
        """`until_closed`: without a length it goes on to the end of the connection (responses), else there is none."""
        self._chunks = _Chunks() if framing.chunked else None
        self._left = framing.length
        self._open = until_closed and framing.length is None
        self.needs_end = bool(self._left) or framing.chunked

    @property
    def is_over(self) -> bool:
        if self._chunks is not None:
            return self._chunks.is_over
        return not self._open and not self._left

    def content(self, piece: bytes) -> bytes:
        """As `take`, without what frames it: only what the chunks hold; trailers and extensions go. Raises Refused."""
        if self._chunks is None:
            return self.take(piece)
        into = bytearray()
        self._chunks.read(piece, into)
        return bytes(into)

    def take(self, content: bytes) -> bytes:
        """Raises Refused for chunks that are none."""
        if self._chunks is not None:
            return content[: self._chunks.read(content)]
        if self._open:
            return content
        taken = content[: self._left or 0]
        self._left = (self._left or 0) - len(taken)
        return taken


class _Chunks:
    def __init__(self) -> None:
        self._line = bytearray()
        self._left = 0
        self._state = "size"
        self._trailers = 0
        self.is_over = False

    def read(self, content: bytes, into: bytearray | None = None) -> int:
        """How many of these bytes belong to the body; what the chunks hold goes `into`."""
        at = 0
        while at < len(content) and not self.is_over:
            if self._state == "content":
                step = min(self._left, len(content) - at)
                if into is not None:
                    into += content[at : at + step]
                at += step
                self._left -= step
                if not self._left:
                    self._state = "after"
                continue
            end = content.find(b"\n", at)
            piece = content[at:] if end < 0 else content[at : end + 1]
            at += len(piece)
            self._line += piece
            if len(self._line) > MAX_CHUNK_LINE:
                raise malformed("a chunk's line is too long")
            if end >= 0:
                if not self._line.endswith(b"\r\n"):
                    raise malformed("a chunk's line ends oddly")
                line = bytes(self._line[:-2])
                self._line.clear()
                self._on_line(line)
        return at

    def _on_line(self, line: bytes) -> None:
        if self._state == "size":
            found = _SIZE.fullmatch(line)
            if found is None:
                raise malformed("that is no chunk")
            self._left = int(found[1], 16)
            self._state = "content" if self._left else "trailers"
        elif self._state == "after":
            if line:
                raise malformed("a chunk is longer than it says")
            self._state = "size"
        elif line:
            self._trailers += len(line)
            if self._trailers > MAX_TRAILERS:
                raise malformed("too many trailers")
        else:
            self.is_over = True
