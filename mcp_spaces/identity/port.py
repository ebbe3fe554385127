"""What other rooms may ask about principals."""

from __future__ import annotations

from typing import Protocol


class Principals(Protocol):
    def name_of(self, principal_id: str) -> str | None:
        """None where there is no such principal any more."""
