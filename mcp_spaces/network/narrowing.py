"""A runtime that reaches less for a while: only where a secret may go that is in one of its pages (threats B05 to B07)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from mcp_spaces.errors import WrongState
from mcp_spaces.network.model import Reason, Refused, RuntimeRef, Target

REFUSED_KEPT = 20
ANOTHER = "another host"
"""In records and answers: a page could put the secret into a name that it asks for (threats L06, N07)."""


@dataclass(slots=True)
class Narrow:
    """Implements `port.Narrowed`."""

    permits: Callable[[Target], bool]
    known: set[str] = field(default_factory=set)
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

    def named(self, runtime: RuntimeRef, target: Target, listed: Iterable[str]) -> Target:
        """As it may be recorded: what stands word for word in the list, or is known, was not made up by a page."""
        narrow = self._by_runtime.get(runtime.id)
        if narrow is None or target.host in narrow.known or any(one in (target.host, str(target)) for one in listed):
            return target
        return replace(target, host=ANOTHER)

    def check(self, runtime: RuntimeRef, target: Target, *, named: Target) -> None:
        """Raises Refused."""
        narrow = self._by_runtime.get(runtime.id)
        if narrow is None or narrow.permits(target):
            return
        if len(narrow.refused) < REFUSED_KEPT:
            narrow.refused.add(str(named))
        raise Refused(
            Reason.NARROWED, "a secret is being filled in, which is not bound to this host", rule="browser.fill"
        )
