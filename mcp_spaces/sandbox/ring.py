"""The last of what a job printed: both streams, in the order in which they came, read by a cursor."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from mcp_spaces.sandbox.cutting import cost, text_within
from mcp_spaces.sandbox.port import Stream

RING_BYTES = 1 << 20
"""Output kept of one job; older output is dropped."""
PIECES = 16_384
"""Pieces of one ring, so that single bytes to both streams in turn cannot cost a hundred times their size."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Output of one stream without a break. `start` counts the bytes of both streams before it."""

    start: int
    stream: Stream
    content: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.content)


class Ring:
    """The last RING_BYTES of both streams, in the order in which they came."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self.end = 0

    @property
    def start(self) -> int:
        return self._pieces[0].start if self._pieces else self.end

    def add(self, stream: Stream, content: bytes) -> None:
        if not content:
            return
        last = self._pieces[-1] if self._pieces else None
        # Many tiny writes would make as many pieces: they grow together up to a size that copying does not feel.
        if last is not None and last.stream is stream and len(last.content) + len(content) <= 4096:
            self._pieces[-1] = Piece(last.start, stream, last.content + content)
        else:
            self._pieces.append(Piece(self.end, stream, content))
        self.end += len(content)
        # In whole pieces: to cut one for each byte that comes would copy it as often.
        while self.end - self.start > RING_BYTES or len(self._pieces) > PIECES:
            self._pieces.popleft()

    def trim(self, most_bytes: int) -> None:
        """Forget what is older than the last `most_bytes`."""
        while (over := self.end - self.start - most_bytes) > 0:
            oldest = self._pieces.popleft()
            if len(oldest.content) > over:
                self._pieces.appendleft(Piece(oldest.start + over, oldest.stream, oldest.content[over:]))

    def since(self, cursor: int, budget: int, *, ended: bool) -> tuple[list[tuple[Stream, str]], int]:
        """Texts from `cursor` on, within `budget` characters of JSON, and the cursor after them."""
        texts: list[tuple[Stream, str]] = []
        cursor = max(cursor, self.start)
        for stream, content in self._joined(cursor):
            last = cursor + len(content) >= self.end
            fitting = text_within(content, budget, open_end=last and not ended)
            if fitting.text:
                texts.append((stream, fitting.text))
            cursor += fitting.used_bytes
            budget -= cost(fitting.text)
            if fitting.used_bytes < len(content):
                break
        return texts, cursor

    def _joined(self, cursor: int) -> list[tuple[Stream, bytes]]:
        joined: list[tuple[Stream, bytearray]] = []
        for piece in self._pieces:
            if piece.end <= cursor:
                continue
            content = piece.content[max(cursor - piece.start, 0) :]
            if joined and joined[-1][0] is piece.stream:
                joined[-1][1].extend(content)
            else:
                joined.append((piece.stream, bytearray(content)))
        return [(stream, bytes(content)) for stream, content in joined]
