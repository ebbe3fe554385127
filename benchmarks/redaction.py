"""Bytes through a redactor that knows five secrets, beside the same bytes copied: what a log and base64 cost. And
through the gateway's search of answers, when it knows as many credentials as it ever does."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Iterator

from benchmarks.measure import Line, Series, Target
from mcp_spaces.core.redaction import RedactedStream, Redactor
from mcp_spaces.network.scrubbing import CREDENTIALS_MAX, Scrubber

SECRETS = 5
CHUNK_BYTES = 64 << 10
"""As a sandbox's output comes."""
ROUND_BYTES = 16 << 20
ROUNDS = 10
LEAST_MB_S = 50


def lines() -> Iterator[Line]:
    chance = random.Random(7)
    log = b"2026-11-21T08:00:00Z INFO compiled module foo.bar in 12 ms, see https://example.com/?q=a%20b\n"
    base = base64.b64encode(chance.randbytes(CHUNK_BYTES * 3 // 4))
    five, all_of_them = f"{SECRETS} secrets", f"{SECRETS} secrets and {CREDENTIALS_MAX} Basic credentials"
    for what, content, knowing in (
        (f"redaction of a log, {five}", log * (CHUNK_BYTES // len(log)), _redacting),
        (f"redaction of base64, {five}", base, _redacting),
        (f"an answer at the gateway, base64, {all_of_them}", base, _scrubbing),
    ):
        ours, copied = [], []
        for _ in range(ROUNDS):
            ours.append(_rate(knowing(chance).feed, content))
            copied.append(_rate(lambda chunk: bytes(bytearray(chunk)), content))
        yield Line(
            what=what,
            unit="MB/s",
            ours=Series(ours),
            baseline=Series(copied),
            against="copied twice",
            targets=[Target(LEAST_MB_S)],
        )


def _redacting(chance: random.Random) -> RedactedStream:
    redactor = Redactor()
    for name, value in _secrets(chance):
        redactor.learn(value, name=name)
    return _warm(redactor.stream())


def _scrubbing(chance: random.Random) -> RedactedStream:
    scrubber = Scrubber()
    for name, value in _secrets(chance):
        scrubber.learn(value, name=name)
        for number in range(CREDENTIALS_MAX):
            scrubber.learn_credentials(base64.b64encode(f"user{number}:{value}".encode()).decode(), name=name)
    return _warm(scrubber.stream())


def _secrets(chance: random.Random) -> Iterator[tuple[str, str]]:
    for number in range(SECRETS):
        yield f"prod/s{number}", f"ghp_{chance.randbytes(18).hex()}/+é"


def _warm(stream: RedactedStream) -> RedactedStream:
    stream.feed(b"the automaton is built at the first bytes")
    return stream


def _rate(passed: Callable[[bytes], bytes], chunk: bytes) -> float:
    """MB/s over ROUND_BYTES."""
    count = ROUND_BYTES // len(chunk)
    started = time.perf_counter()
    for _ in range(count):
        passed(chunk)
    return count * len(chunk) / 1e6 / (time.perf_counter() - started)
