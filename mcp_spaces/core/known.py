"""Where known secrets stand in some bytes: an Aho-Corasick automaton over the beginnings of all their forms.

Only the first ANCHOR_BYTES of a form are in the automaton; the rest is compared. So it stays small however long a
secret is, and one pass over the bytes finds all forms of all secrets (some hundreds of MB/s, see docs/benchmarks.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ahocorasick_rs import BytesAhoCorasick, Implementation

ANCHOR_BYTES = 16
DFA_ANCHORS_MAX = 2_000
"""Up to so many, some twenty secrets, the automaton is a table with a row for each state: three times as fast."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes that hold a secret, or several that overlap: `name` is that of the first, the longest among equals."""

    start: int
    end: int
    name: str


@dataclass(frozen=True, slots=True)
class Found:
    """`spans` in their order, none overlapping another. `begun_at`: where the first form begins that the content
    breaks off in the middle of; its length where there is none."""

    spans: list[Span]
    begun_at: int


class KnownForms:
    """Immutable: what is learnt later makes another one."""

    def __init__(self, names: Mapping[bytes, str]) -> None:
        """`names` has the form as its key. Each is to have at least a byte."""
        by_anchor: defaultdict[bytes, list[tuple[bytes, str]]] = defaultdict(list)
        for form in sorted(names, key=len, reverse=True):
            by_anchor[form[:ANCHOR_BYTES]].append((form, names[form]))
        self._candidates = list(by_anchor.values())
        self._automaton = BytesAhoCorasick(
            list(by_anchor), implementation=Implementation.DFA if len(by_anchor) <= DFA_ANCHORS_MAX else None
        )
        self._beginnings = frozenset(anchor[:count] for anchor in by_anchor for count in range(1, len(anchor)))

    def find(self, content: bytes) -> Found:
        spans: list[Span] = []
        length = begun_at = len(content)
        hits = self._automaton.find_matches_as_indexes(content, overlapping=True)
        for anchor, start, _ in sorted(hits, key=_place):
            whole = False
            for form, name in self._candidates[anchor]:
                if content.startswith(form, start):
                    if not whole:
                        spans.append(Span(start, start + len(form), name))
                    whole = True
                elif start < begun_at and start + len(form) > length and form.startswith(content[start:]):
                    begun_at = start
        if begun_at == length:
            # Shorter than an anchor, so behind every place that the automaton can tell of.
            tail = content[-ANCHOR_BYTES + 1 :]
            starts = (at for at in range(len(tail)) if tail[at:] in self._beginnings)
            begun_at -= len(tail) - next(starts, len(tail))
        return Found(merged(spans), begun_at)

    def begun(self, content: bytes) -> str | None:
        """The name of a form that `content` is the first half of, or more."""
        anchor, longest = content[:ANCHOR_BYTES], 2 * len(content)
        alike = (forms for forms in self._candidates if forms[0][0][:ANCHOR_BYTES].startswith(anchor))
        halves = (name for forms in alike for form, name in forms if len(form) <= longest and form.startswith(content))
        return next(halves, None)


def merged(spans: Iterable[Span]) -> list[Span]:
    """`spans` by start, the longest first among equals; what overlaps becomes one."""
    whole: list[Span] = []
    for span in spans:
        if whole and span.start < whole[-1].end:
            last = whole[-1]
            whole[-1] = Span(last.start, max(last.end, span.end), last.name)
        else:
            whole.append(span)
    return whole


def _place(match: tuple[int, int, int]) -> tuple[int, int]:
    _, start, end = match
    return start, -end
