"""Steps that wait for a person. They live with the runtime, as the handles do that they work on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mcp_spaces.errors import Conflict

LABEL_CHARACTERS = 12
PAUSED_MAX = 20
"""Of one runtime; the oldest is given up for a new one."""


@dataclass(slots=True)
class Paused:
    """`position` steps are done, and `events` are theirs; `made`: handles that they made. `label` is this call's own."""

    label: str = ""
    position: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    claimed_by: str | None = None
    """The run that goes on with them."""


class PausedSteps:
    def __init__(self) -> None:
        self._by_fingerprint: dict[str, Paused] = {}

    def claim(self, fingerprint: str, *, run_id: str) -> Paused:
        """Where the same call stands, or a beginning. Raises Conflict while another call is under way with it."""
        stands = self._by_fingerprint.get(fingerprint)
        if stands is None:
            return Paused(label=run_id[-LABEL_CHARACTERS:], claimed_by=run_id)
        if stands.claimed_by is not None:
            raise Conflict("Another call goes on with these steps.", hint=f"Wait: run_wait run={stands.claimed_by}")
        stands.claimed_by = run_id
        return stands

    def keep(self, fingerprint: str, stands: Paused) -> None:
        stands.claimed_by = None
        self._by_fingerprint.pop(fingerprint, None)
        while len(self._by_fingerprint) >= PAUSED_MAX:
            self._by_fingerprint.pop(next(iter(self._by_fingerprint)))
        self._by_fingerprint[fingerprint] = stands

    def end(self, fingerprint: str) -> None:
        self._by_fingerprint.pop(fingerprint, None)
