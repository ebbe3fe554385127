"""How often a password may be tried: a login in a loop would lock the account (threat B18)."""

from __future__ import annotations

from collections import defaultdict

from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import QuotaExceeded

FILLS_MAX = 3
"""Of one secret within an hour, without a success, by all spaces together: the account knows of no spaces."""
WINDOW_S = 3600.0


class FillLimits:
    """Kept while the daemon runs: whoever could restart it may sign in by hand."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tries: dict[str, list[float]] = defaultdict(list)

    def count(self, path: str) -> None:
        """One more try. Raises QuotaExceeded: it is not made."""
        now = self._clock.monotonic()
        tries = [at for at in self._tries[path] if now - at < WINDOW_S]
        if len(tries) >= FILLS_MAX:
            minutes = int((WINDOW_S - (now - tries[0])) // 60) + 1
            raise QuotaExceeded(
                f"{path} was filled in {FILLS_MAX} times within an hour, and no login succeeded.",
                hint=f"See why first: a wrong password locks accounts. The next try is in {minutes} minutes.",
            )
        self._tries[path] = [*tries, now]

    def succeeded(self, path: str) -> None:
        self._tries.pop(path, None)
