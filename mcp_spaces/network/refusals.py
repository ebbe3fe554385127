"""Why tunnels were refused last, for runtimes whose programs show nothing of it, as Chromium does."""

from __future__ import annotations

from mcp_spaces.network.model import Refused, Target

KEPT = 32
"""Of one runtime; the oldest is forgotten first."""


class Refusals:
    def __init__(self) -> None:
        self._by_runtime: dict[str, dict[tuple[str, int], Refused]] = {}

    def note(self, runtime_id: str, target: Target, refused: Refused) -> None:
        noted = self._by_runtime.setdefault(runtime_id, {})
        noted.pop((target.host, target.port), None)
        noted[target.host, target.port] = refused
        if len(noted) > KEPT:
            del noted[next(iter(noted))]

    def permitted(self, runtime_id: str, target: Target) -> None:
        """What was said before holds no more."""
        self._by_runtime.get(runtime_id, {}).pop((target.host, target.port), None)

    def forget(self, runtime_id: str) -> None:
        self._by_runtime.pop(runtime_id, None)

    def of(self, runtime_id: str, host: str, port: int) -> Refused | None:
        return self._by_runtime.get(runtime_id, {}).get((host, port))
