"""A long command is judged beside the event loop: to read 64 KiB as bash does takes up to half a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
from anyio.to_thread import run_sync

from mcp_spaces.core.facts import Facts, ShellFacts

T = TypeVar("T")

LONG_CHARACTERS = 4_096
"""Up to here a command is read at once. A character takes up to 8 µs (measured: nothing but redirections)."""

# One at a time: each more thread that thinks would take its turn at the interpreter from whoever is served meanwhile.
_reader = anyio.CapacityLimiter(1)


async def judged(facts: Facts, judge: Callable[[], T]) -> T:
    """What `judge`, a pure function of these facts, says."""
    if isinstance(facts, ShellFacts) and len(facts.command) > LONG_CHARACTERS:
        return await run_sync(judge, limiter=_reader)
    return judge()
