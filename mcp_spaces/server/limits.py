"""How much one client may do at a time (threat D11)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mcp_spaces.errors import QuotaExceeded


@dataclass(eq=False, slots=True)
class Lane:
    """One local connection, or one key over HTTP."""

    calls_max: int
    streams_max: int
    calls: int = 0
    streams: int = 0

    @contextmanager
    def call(self) -> Iterator[None]:
        """Raises QuotaExceeded when `calls_max` run already."""
        if self.calls >= self.calls_max:
            raise QuotaExceeded(
                f"{self.calls_max} calls are running here already.", hint="Wait for one of them to end, then repeat."
            )
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Raises QuotaExceeded when `streams_max` are open already."""
        if self.streams >= self.streams_max:
            raise QuotaExceeded(
                f"{self.streams_max} change streams are open here already.", hint="Close one, or use one for all."
            )
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1

    @property
    def is_idle(self) -> bool:
        return not self.calls and not self.streams


class Lanes:
    """One lane per key, for as long as something runs in it."""

    def __init__(self, *, calls_max: int, streams_max: int) -> None:
        self._calls_max = calls_max
        self._streams_max = streams_max
        self._lanes: dict[str, Lane] = {}

    def new(self) -> Lane:
        return Lane(self._calls_max, self._streams_max)

    def of(self, key_id: str) -> Lane:
        if len(self._lanes) >= 1_000:  # so that keys that came and went do not pile up
            self._lanes = {key: lane for key, lane in self._lanes.items() if not lane.is_idle}
        return self._lanes.setdefault(key_id, self.new())
