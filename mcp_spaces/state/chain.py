"""The audit chain: each row's MAC covers the one before it, and the head is anchored outside the database.

A chain alone shows edits, deletions and reordering, but not a cut tail; the anchor does. The anchor is written
after the commit that it describes, so it may lag behind the database after a kill, and is never ahead of it
unless rows were removed.

    mac(n) = HMAC-SHA256(key, mac(n-1) || seq || at || kind || run_id || body)      each part length-prefixed
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path

GENESIS = b"\0" * 32


@dataclass(frozen=True, slots=True)
class Link:
    """One end of the chain. `receipt` is what callers are given."""

    seq: int
    mac: bytes

    @property
    def receipt(self) -> str:
        return f"{self.seq}:{self.mac.hex()[:32]}"


START = Link(seq=0, mac=GENESIS)


class Sealer:
    """MACs under the instance's key, which lies beside the database in a 0600 file, not in it."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError("the sealing key has 32 bytes")
        self._key = key

    def next_link(self, previous: Link, *, at: float, kind: str, run_id: str, body: str) -> Link:
        seq = previous.seq + 1
        parts = (b"chain", previous.mac, str(seq).encode(), repr(float(at)).encode(), kind.encode(), run_id.encode())
        return Link(seq=seq, mac=self._mac(*parts, body.encode()))

    def seal_row(self, table: str, row_id: str, body: str) -> bytes:
        """For rows that grant something: a changed row is refused when it is read."""
        return self._mac(b"row", table.encode(), row_id.encode(), body.encode())

    def row_is_intact(self, table: str, row_id: str, body: str, mac: bytes) -> bool:
        return hmac.compare_digest(self.seal_row(table, row_id, body), mac)

    def _mac(self, *parts: bytes) -> bytes:
        framed = b"".join([len(part).to_bytes(8, "big") + part for part in parts])
        return hmac.digest(self._key, framed, hashlib.sha256)


class Anchor:
    """The head of the chain in a file of its own: `seq mac-in-hex`, fixed width, rewritten in place."""

    _WIDTH = 20 + 1 + 64 + 1

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @property
    def is_new(self) -> bool:
        return os.fstat(self._fd).st_size == 0

    def write(self, link: Link) -> None:
        os.pwrite(self._fd, f"{link.seq:020d} {link.mac.hex()}\n".encode(), 0)

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)

    @classmethod
    def read(cls, path: Path) -> Link | None:
        """None when nothing was ever anchored. ValueError when the file is not an anchor."""
        try:
            text = path.read_text("ascii")
        except FileNotFoundError:
            return None
        if not text:
            return None
        if len(text) != cls._WIDTH:
            raise ValueError("the anchor file is damaged")
        seq, mac = text.split()
        return Link(seq=int(seq), mac=bytes.fromhex(mac))
