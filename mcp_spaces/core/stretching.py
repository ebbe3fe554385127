"""Argon2id (RFC 9106): what makes guessing a passphrase or a PIN slow."""

from __future__ import annotations

import threading

_one_at_a_time = threading.Lock()
"""Two threads that derive with several lanes at once wait for each other for ever (cryptography 50 with its own
OpenSSL 4.0, whose lanes share one pool of threads)."""


def argon2id(text: str, *, salt: bytes, length: int, iterations: int, lanes: int, memory_kib: int) -> bytes:
    """`length` bytes. Blocks, for about half a second with 64 MiB and 3 iterations: call it in a worker thread."""
    # It takes a while to import, and most daemons never need it.
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    derivation = Argon2id(salt=salt, length=length, iterations=iterations, lanes=lanes, memory_cost=memory_kib)
    with _one_at_a_time:
        return derivation.derive(text.encode("utf-8", "surrogatepass"))
