"""How a figure is taken, and what it is held against."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

Unit = Literal["ms", "calls/s", "MB/s", "MB", "bytes", "tools", "tokens"]
HIGHER_IS_BETTER: frozenset[Unit] = frozenset({"calls/s", "MB/s"})

WARM_UP = 3
"""Repetitions before the first one that counts."""
STRETCH = 50
"""Values in a row that make a median of their own."""


@dataclass(frozen=True, slots=True)
class Series:
    """The same thing measured again and again."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def p95(self) -> float:
        """By nearest rank: with few values that is the worst one."""
        ordered = sorted(self.values)
        return ordered[math.ceil(0.95 * len(ordered)) - 1]

    @property
    def quietest(self) -> float | None:
        """The least median of STRETCH values in a row, of times: what others do on the same machine only adds to them.
        None where there are not twice as many."""
        if len(self.values) < 2 * STRETCH:
            return None
        starts = range(0, len(self.values) - STRETCH + 1, STRETCH)
        return min(median(self.values[start : start + STRETCH]) for start in starts)


@dataclass(frozen=True, slots=True)
class Target:
    """What was promised. `of_baseline`: the limit is a multiple of the baseline's median, not a figure of its own."""

    limit: float
    of_baseline: bool = False

    def met(self, line: Line) -> bool:
        limit = self.limit * line.baseline.median if self.of_baseline and line.baseline else self.limit
        found = line.ours.median
        return found >= limit if line.unit in HIGHER_IS_BETTER else found <= limit

    def words(self, unit: Unit) -> str:
        sign = "≥" if unit in HIGHER_IS_BETTER else "≤"
        if not self.of_baseline:
            return f"{sign} {self.limit:,g} {unit}"
        if self.limit < 1:
            return f"{1 / self.limit:g} × faster"
        return f"{sign} {self.limit:g} × baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table. `against` says what the baseline is."""

    what: str
    unit: Unit
    ours: Series
    baseline: Series | None = None
    against: str = ""
    targets: Sequence[Target] = ()

    @property
    def missed(self) -> bool:
        return not all(target.met(self) for target in self.targets)


def timed(action: Callable[[], object], *, before: Callable[[], object] | None = None) -> float:
    """Milliseconds; `before` is not counted."""
    if before is not None:
        before()
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000


def repeated(action: Callable[[], object], *, count: int) -> Series:
    for _ in range(WARM_UP):
        action()
    return Series([timed(action) for _ in range(count)])


def side_by_side(
    ours: Callable[[], object], baseline: Callable[[], object], *, count: int, baseline_count: int, rounds: int = 5
) -> tuple[Series, Series]:
    """Both in milliseconds, in turns, so that a busy minute of the machine falls on both."""
    for _ in range(WARM_UP):
        ours()
    baseline()
    ours_ms: list[float] = []
    baseline_ms: list[float] = []
    for _ in range(rounds):
        ours_ms += [timed(ours) for _ in range(max(count // rounds, 1))]
        baseline_ms += [timed(baseline) for _ in range(max(baseline_count // rounds, 1))]
    return Series(ours_ms), Series(baseline_ms)
