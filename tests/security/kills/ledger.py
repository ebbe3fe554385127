"""What clients of a daemon were told, so that it can be compared with what is there after a kill."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tests.security.lines import Said


@dataclass
class Fact:
    """What a thing may look like: one value once the last change was acknowledged, two while one is under way."""

    known: Any = None
    coming: Any = None
    settled: bool = True

    def changing(self, value: Any) -> None:
        self.coming, self.settled = value, False

    def changed(self) -> None:
        self.known, self.settled = self.coming, True

    def refused(self) -> None:
        self.settled = True

    def allows(self, found: Any) -> bool:
        return found == self.known or (not self.settled and found == self.coming)

    def found(self, value: Any) -> None:
        """After a restart: whatever was under way has happened or not."""
        self.known, self.settled = value, True


@dataclass
class Ledger:
    """Of one state folder. Each fact is written by one client only, so that there is no other order than its own."""

    rng: random.Random
    runs: dict[str, str] = field(default_factory=dict)
    """Run ids of answers, with the state that the record has to have."""
    labels: dict[str, Fact] = field(default_factory=dict)
    """By space id: its label `n`, None where the space is gone."""
    files: dict[tuple[str, str], Fact] = field(default_factory=dict)
    """By space id and path in storage: the sha256, None where there is none."""
    written: dict[tuple[str, str], Fact] = field(default_factory=dict)
    """By runtime id and path in its workspace: the content."""
    homes: dict[str, str] = field(default_factory=dict)
    """By runtime id: its space."""
    approvals: dict[str, Fact] = field(default_factory=dict)
    """By id: its state."""
    keys: dict[str, Fact] = field(default_factory=dict)
    """By token: whether it is valid."""
    acknowledged: int = 0
    writes: int = 0
    """Acknowledged ones, in sandboxes."""

    def note(self, said: Said) -> None:
        self.acknowledged += 1
        if said.run_id is not None:
            self.runs[said.run_id] = "succeeded"
