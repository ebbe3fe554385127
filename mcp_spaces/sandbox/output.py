"""A command's output, bounded: head and tail of each stream in memory, all of it in a file once it is long.

What the run's redactor knows is taken out before anything is kept or cut.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mcp_spaces.core.answer import ANSWER_CHARACTERS
from mcp_spaces.core.redaction import RedactedStream, Redactor
from mcp_spaces.sandbox.cutting import cost, ends_within, shares, shortened, whole_characters
from mcp_spaces.sandbox.port import Stream

HEAD_BYTES = 8 << 10
"""Of each stream, kept from its start."""
TAIL_BYTES = 24 << 10
"""Of each stream, kept up to its end."""
OUTPUT_LIMIT_BYTES = 64 << 20
"""Of both streams together; a command that writes more is killed."""


@dataclass(slots=True)
class _Kept:
    """The two ends of one stream."""

    redacted: RedactedStream
    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    total_bytes: int = 0

    def add(self, chunk: bytes) -> None:
        self.total_bytes += len(chunk)
        room = HEAD_BYTES - len(self.head)
        if room > 0:
            self.head += chunk[:room]
            chunk = chunk[room:]
        if len(chunk) >= TAIL_BYTES:
            # What came before would no longer end where this begins.
            self.tail.clear()
        self.tail += chunk[-TAIL_BYTES:]
        if len(self.tail) > 2 * TAIL_BYTES:
            del self.tail[:-TAIL_BYTES]

    @property
    def left_out_bytes(self) -> int:
        return self.total_bytes - len(self.head) - len(self.tail)

    def text(self, budget: int) -> str:
        if not self.left_out_bytes:
            return shortened((bytes(self.head) + bytes(self.tail)).decode("utf-8", "replace"), budget)
        head = whole_characters(bytes(self.head), at_start=False, at_end=True).decode("utf-8", "replace")
        tail = whole_characters(bytes(self.tail), at_start=True, at_end=False).decode("utf-8", "replace")
        return ends_within(head, tail, budget, left_out=f"cut, {self.total_bytes:,} bytes in all")


@dataclass(frozen=True, slots=True)
class Shown:
    """What of the output goes into an answer."""

    stdout: str
    stderr: str
    truncated: bool


class Capture:
    """An `OutputSink`. `spool` names a fresh file. `finish` before anything is read; end with `discard`."""

    def __init__(self, spool: Callable[[], Path], redactor: Redactor, *, limit_bytes: int = OUTPUT_LIMIT_BYTES) -> None:
        self.over_limit = False
        self.on_over_limit: Callable[[], None] = _nobody_listens
        self._fresh_path = spool
        self._limit_bytes = limit_bytes
        self._came_bytes = 0
        self._streams = {stream: _Kept(redactor.stream()) for stream in (Stream.STDOUT, Stream.STDERR)}
        self._early: list[bytes] | None = []
        self._path: Path | None = None
        self._fd = -1

    def __call__(self, stream: Stream, chunk: bytes) -> None:
        if self.over_limit:
            return
        self._came_bytes += len(chunk)
        self._keep(kept := self._streams[stream], kept.redacted.feed(chunk))
        # What stands for a secret may be longer than the secret.
        if max(self._came_bytes, self.total_bytes) > self._limit_bytes:
            self.over_limit = True
            self.on_over_limit()

    def finish(self) -> None:
        """Nothing comes any more. Idempotent."""
        if self.over_limit:
            # What is held back may be most of a secret whose end was not taken in.
            return
        for kept in self._streams.values():
            self._keep(kept, kept.redacted.finish())

    @property
    def total_bytes(self) -> int:
        return sum(kept.total_bytes for kept in self._streams.values())

    @property
    def stdout_bytes(self) -> int:
        return self._streams[Stream.STDOUT].total_bytes

    @property
    def stderr_bytes(self) -> int:
        return self._streams[Stream.STDERR].total_bytes

    def shown(self, budget: int = ANSWER_CHARACTERS) -> Shown:
        """Both streams within `budget` characters of JSON."""
        kept = [self._streams[Stream.STDOUT], self._streams[Stream.STDERR]]
        whole = [one.text(ANSWER_CHARACTERS * 4) for one in kept]
        costs = [cost(text) for text in whole]
        if sum(costs) <= budget:
            return Shown(whole[0], whole[1], truncated=any(one.left_out_bytes for one in kept))
        texts = [one.text(share) for one, share in zip(kept, shares(costs, budget), strict=True)]
        return Shown(texts[0], texts[1], truncated=True)

    def take_file(self) -> Path | None:
        """The file with the full output, stdout and stderr as they came; from now on the caller's. None where the
        disk could not hold it."""
        if self._early is not None:
            self._open()
        path, self._path = self._path, None
        self._close()
        return path

    def discard(self) -> None:
        """Idempotent."""
        self._early = None
        self._close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def _keep(self, kept: _Kept, chunk: bytes) -> None:
        kept.add(chunk)
        self._spool(chunk)

    def _spool(self, chunk: bytes) -> None:
        if self._early is not None:
            self._early.append(chunk)
            if self.total_bytes > HEAD_BYTES:
                self._open()
        elif self._fd >= 0:
            self._write(chunk)

    def _open(self) -> None:
        early, self._early = self._early or [], None
        path = self._fresh_path()
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            # A full host disk must not end the command: its two ends are still in memory.
            return
        self._path = path
        self._write(b"".join(early))

    def _write(self, content: bytes) -> None:
        try:
            while content:
                content = content[os.write(self._fd, content) :]
        except OSError:
            self.discard()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _nobody_listens() -> None:
    """Until somebody does."""
