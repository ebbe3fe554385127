"""Work that has to end once it began, work side by side, and work that nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """To its end, whoever goes away meanwhile."""
    with anyio.CancelScope(shield=True):
        return await work
    raise AssertionError("a shielded scope is not left by a cancellation")


async def side_by_side(calls: Iterable[Coroutine[Any, Any, object]]) -> None:
    """The first failure is raised once all have ended."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def heard(done: asyncio.Future[Any]) -> None:
    """As a callback of what may end when nobody waits for it any more: asyncio takes its failure for told."""
    if not done.cancelled():
        done.exception()


class Aside:
    """Work that nobody waits for: held until it is done, since asyncio holds no task. What it raises is nobody's: what it
    was for may be gone by then."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[Any]] = set()

    def start(self, work: Awaitable[object]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(heard)
