"""Keys and hashes out of what people type."""

from __future__ import annotations

import threading

from mcp_spaces.core.stretching import argon2id

PATIENCE_S = 60


def derived(*, lanes: int) -> bytes:
    return argon2id("a phrase", salt=b"0123456789abcdef", length=32, iterations=2, lanes=lanes, memory_kib=19 * 1024)


def test_several_at_a_time_come_to_an_end() -> None:
    found: list[bytes] = []
    # Daemons: should they wait for each other for ever, the tests after this one still run.
    threads = [threading.Thread(target=lambda: found.append(derived(lanes=4)), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert found == [derived(lanes=4)] * 4
    assert derived(lanes=1) != derived(lanes=4)


def test_it_is_the_argon2id_of_the_rfc() -> None:
    """RFC 9106 has its vector with a secret and associated data, which are not used here: this one is the reference
    implementation's, test.c: version 0x13, t=2, m=2^16, p=1, "password", "somesalt"."""
    found = argon2id("password", salt=b"somesalt", length=32, iterations=2, lanes=1, memory_kib=1 << 16)
    assert found.hex() == "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"
