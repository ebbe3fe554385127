"""How many calls a principal made today: every call leaves records, and records fill disks (threat D11)."""

from __future__ import annotations

from mcp_spaces.core.caller import Caller
from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import QuotaExceeded
from mcp_spaces.state.database import Database

DAY_S = 86_400


class DailyCalls:
    """Counted in memory; what was recorded before this daemon started is read once a principal and day."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._day = 0
        self._calls: dict[str, int] = {}

    def count(self, caller: Caller) -> None:
        """One more. Raises QuotaExceeded above the limit, and then nothing is recorded: that is the point."""
        day = int(self._clock.now() // DAY_S)
        if day != self._day:
            self._day = day
            self._calls.clear()
        made = self._calls.get(caller.principal_id)
        if made is None:
            made = self._recorded(caller.principal_id, since=day * DAY_S)
        if made >= caller.scope.limits.calls_per_day:
            raise QuotaExceeded(
                f"This principal has made its {made:,} calls of today.",
                hint="Go on after midnight UTC, or ask for more.",
            )
        self._calls[caller.principal_id] = made + 1

    def _recorded(self, principal_id: str, *, since: float) -> int:
        (row,) = self._database.read(
            "SELECT count(*) AS made FROM runs WHERE principal_id = ? AND started_at >= ?", (principal_id, since)
        )
        return int(row["made"])
