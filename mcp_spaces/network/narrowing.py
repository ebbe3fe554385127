"""A runtime that reaches less for a while: only where a secret may go that is in one of its pages (threats B05 to B07)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mcp_spaces.errors import WrongState
from mcp_spaces.network.model import Reason, Refused, RuntimeRef, Target

REFUSED_KEPT = 20


@dataclass(slots=True)
class Narrow:
    """Implements `port.Narrowed`."""

    permits: Callable[[Target], bool]
    refused: set[str] = field(default_factory=set)


class Narrowings:
    def __init__(self) -> None:
        self._by_runtime: dict[str, Narrow] = {}

    @contextmanager
    def entered(self, runtime_id: str, permits: Callable[[Target], bool]) -> Iterator[Narrow]:
        """Raises WrongState: it is narrowed already."""
        if runtime_id in self._by_runtime:
            raise WrongState("A secret is being filled in here.", hint="Try again when that is done.")
        narrow = self._by_runtime[runtime_id] = Narrow(permits)
        try:
            yield narrow
        finally:
            del self._by_runtime[runtime_id]

    def check(self, runtime: RuntimeRef, target: Target) -> None:
        """Raises Refused."""
        narrow = self._by_runtime.get(runtime.id)
        if narrow is None or narrow.permits(target):
            return
        if len(narrow.refused) < REFUSED_KEPT:
            narrow.refused.add(str(target))
        raise Refused(
            Reason.NARROWED, "a secret is being filled in, which is not bound to this host", rule="browser.fill"
        )
