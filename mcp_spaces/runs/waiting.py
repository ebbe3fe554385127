"""Waiting for runs to end: woken by the journal, never by looking again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import anyio


class RunWaiters:
    """`closed` is to be among `Journal.on_closed`."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[anyio.Event]] = defaultdict(set)

    def closed(self, run_id: str) -> None:
        for event in self._waiting.pop(run_id, ()):
            event.set()

    async def wait(self, run_id: str, *, is_open: Callable[[], bool], timeout_s: float) -> None:
        """Until the run is closed or the time is over. `is_open` is asked after we listen, so no end is missed."""
        event = anyio.Event()
        self._waiting[run_id].add(event)
        try:
            if is_open():
                with anyio.move_on_after(timeout_s):
                    await event.wait()
        finally:
            self._forget(run_id, event)

    def _forget(self, run_id: str, event: anyio.Event) -> None:
        others = self._waiting.get(run_id)
        if others is not None:
            others.discard(event)
            if not others:
                del self._waiting[run_id]
