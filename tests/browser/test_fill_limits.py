"""How often a secret is tried (threat B18), by a clock that stands where it is put."""

from __future__ import annotations

import pytest

from mcp_spaces.browser.secrets.fill_limits import FILLS_MAX, WINDOW_S, FillLimits
from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import QuotaExceeded

PATH, BEGAN = "prod/crm", 1_000.0


class Hours:
    """Stands at 1,000 s until it is moved."""

    def __init__(self) -> None:
        self.at = BEGAN
        self.limits = FillLimits(Clock(monotonic=lambda: self.at))

    def refused(self) -> QuotaExceeded:
        with pytest.raises(QuotaExceeded) as refused:
            self.limits.count(PATH)
        return refused.value


@pytest.fixture
def hours() -> Hours:
    return Hours()


def test_b18_the_tries_of_an_hour_are_counted_and_a_refused_one_is_none(hours: Hours) -> None:
    for minute in range(FILLS_MAX):
        hours.at = BEGAN + minute * 60
        hours.limits.count(PATH)
    hours.at = BEGAN + WINDOW_S - 600
    assert "in 11 minutes" in hours.refused().hint
    hours.at = BEGAN + WINDOW_S - 1
    assert "in 1 minutes" in hours.refused().hint
    hours.at = BEGAN + WINDOW_S
    hours.limits.count(PATH)
    hours.refused()
    hours.at = BEGAN + WINDOW_S + 60
    hours.limits.count(PATH)


def test_b18_a_success_starts_anew_and_another_secret_has_tries_of_its_own(hours: Hours) -> None:
    for _ in range(FILLS_MAX):
        hours.limits.count(PATH)
    hours.limits.count("prod/other")
    hours.limits.succeeded("prod/other")
    hours.refused()
    hours.limits.succeeded(PATH)
    for _ in range(FILLS_MAX):
        hours.limits.count(PATH)
    hours.refused()
