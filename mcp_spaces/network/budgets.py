"""How much of the network a space may use: connections at a time, requests and bytes of a UTC day (threats N15, N16)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mcp_spaces.core.ids import Clock
from mcp_spaces.network.model import Reason, Refused

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Budget:
    """Of one space. Requests that were refused count too: probing is not free."""

    connections: int = 200
    requests_per_day: int = 200_000
    up_bytes_per_day: int = 4 << 30
    down_bytes_per_day: int = 64 << 30
    idle_s: float = 120
    """A connection over which nothing passed for so long is closed."""
    total_s: float = 3_600
    """The longest that one connection lives."""


@dataclass(slots=True)
class _Day:
    requests: Counter[str] = field(default_factory=Counter)
    up: Counter[str] = field(default_factory=Counter)
    down: Counter[str] = field(default_factory=Counter)
    told: set[tuple[str, str]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Spent:
    """By one space, since midnight UTC."""

    requests: int
    up_bytes: int
    down_bytes: int


NOTHING_SPENT: Mapping[str, Spent] = {}


def midnight(clock: Clock) -> float:
    """The last one, UTC, in seconds since 1970."""
    return float(clock.now() // DAY_S * DAY_S)


class Budgets:
    """Counted in memory, for a day. `spent` is what the records say of today before this daemon started, by space."""

    def __init__(self, budget: Budget, clock: Clock, *, spent: Mapping[str, Spent] = NOTHING_SPENT) -> None:
        self.budget = budget
        self._clock = clock
        self._open: Counter[str] = Counter()
        self._date = int(clock.now() // DAY_S)
        self._of_today = _Day(
            Counter({space: one.requests for space, one in spent.items()}),
            Counter({space: one.up_bytes for space, one in spent.items()}),
            Counter({space: one.down_bytes for space, one in spent.items()}),
        )

    def open(self, space_id: str) -> Spending:
        """One more connection. Raises Refused."""
        if self._open[space_id] >= self.budget.connections:
            raise self.over(space_id, "connections", f"{self.budget.connections} connections are open")
        self._open[space_id] += 1
        return Spending(self, space_id)

    def close(self, space_id: str) -> None:
        self._open[space_id] -= 1
        if not self._open[space_id]:
            del self._open[space_id]

    @property
    def today(self) -> _Day:
        date = int(self._clock.now() // DAY_S)
        if date != self._date:
            self._date, self._of_today = date, _Day()
        return self._of_today

    def over(self, space_id: str, what: str, words: str) -> OverBudget:
        told = self.today.told
        first = (space_id, what) not in told
        told.add((space_id, what))
        return OverBudget(Reason.OVER_BUDGET, words, rule=f"network.budget.{what}", first=first)


class OverBudget(Refused):
    """`first` of its kind this day: only that one is recorded, or the records would be the flood."""

    def __init__(self, reason: Reason, words: str, *, rule: str, first: bool) -> None:
        super().__init__(reason, words, rule=rule)
        self.first = first


class Spending:
    """What one connection adds. Each method raises Refused above the space's budget."""

    def __init__(self, budgets: Budgets, space_id: str) -> None:
        self.up_bytes = 0
        self.down_bytes = 0
        self._budgets = budgets
        self._space_id = space_id
        self._closed = False

    def request(self) -> None:
        most = self._budgets.budget.requests_per_day
        if self._budgets.today.requests[self._space_id] >= most:
            raise self._budgets.over(self._space_id, "requests", f"today's {most:,} requests are made")
        self._budgets.today.requests[self._space_id] += 1

    def up(self, size: int) -> None:
        self.up_bytes += size
        self._spend("up_bytes", self._budgets.today.up, size, self._budgets.budget.up_bytes_per_day)

    def down(self, size: int) -> None:
        self.down_bytes += size
        self._spend("down_bytes", self._budgets.today.down, size, self._budgets.budget.down_bytes_per_day)

    def _spend(self, what: str, spent: Counter[str], size: int, most: int) -> None:
        if spent[self._space_id] + size > most:
            raise self._budgets.over(self._space_id, what, f"today's {most:,} bytes are used")
        spent[self._space_id] += size

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._budgets.close(self._space_id)
