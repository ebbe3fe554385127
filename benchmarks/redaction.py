"""Bytes through a redactor that knows five secrets, beside the same bytes copied: what a log and base64 cost."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Iterator

from benchmarks.measure import Line, Series, Target
from mcp_spaces.core.redaction import Redactor

SECRETS = 5
CHUNK_BYTES = 64 << 10
"""As a sandbox's output comes."""
ROUND_BYTES = 16 << 20
ROUNDS = 10
LEAST_MB_S = 50


def lines() -> Iterator[Line]:
    chance = random.Random(7)
    log = b"2026-11-21T08:00:00Z INFO compiled module foo.bar in 12 ms, see https://example.com/?q=a%20b\n"
    for what, content in (
        ("a log", log * (CHUNK_BYTES // len(log))),
        ("base64", base64.b64encode(chance.randbytes(CHUNK_BYTES * 3 // 4))),
    ):
        ours, copied = [], []
        for _ in range(ROUNDS):
            ours.append(_rate(_knowing(chance).stream().feed, content))
            copied.append(_rate(lambda chunk: bytes(bytearray(chunk)), content))
        yield Line(
            what=f"redaction of {what}, {SECRETS} secrets",
            unit="MB/s",
            ours=Series(ours),
            baseline=Series(copied),
            against="copied twice",
            targets=[Target(LEAST_MB_S)],
        )


def _knowing(chance: random.Random) -> Redactor:
    redactor = Redactor()
    for number in range(SECRETS):
        redactor.learn(f"ghp_{chance.randbytes(18).hex()}/+é", name=f"prod/s{number}")
    redactor.stream().feed(b"the automaton is built at the first bytes")
    return redactor


def _rate(passed: Callable[[bytes], bytes], chunk: bytes) -> float:
    """MB/s over ROUND_BYTES."""
    count = ROUND_BYTES // len(chunk)
    started = time.perf_counter()
    for _ in range(count):
        passed(chunk)
    return count * len(chunk) / 1e6 / (time.perf_counter() - started)
