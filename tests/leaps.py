"""Time that passes at once, so that a test says when somebody's seconds are over, and no busy machine does."""

from __future__ import annotations

import asyncio


def leap(seconds: float) -> None:
    """For this event loop, and for good: whatever was to happen in so many seconds happens next. The deadlines of a
    test's own guards come nearer by as much."""
    loop = asyncio.get_running_loop()
    before = loop.time

    def later() -> float:
        return before() + seconds

    # No port stands between the loop and its clock.
    loop.time = later  # type: ignore[method-assign]
