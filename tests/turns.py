"""Whoever calls goes away in each moment in which that can be: at the first suspension of what it waits for, at the
second, and so on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel

T = TypeVar("T")

SUSPENSIONS_MAX = 200
TURNS = 20
"""Of the loop, after which what a cancelled call began has been seen."""


@dataclass(slots=True)
class _Counted(Generic[T]):
    work: Coroutine[Any, Any, T]
    suspended: Callable[[int], object]

    def __await__(self) -> Generator[Any, Any, T]:
        running, count, value = self.work.__await__(), 0, None
        try:
            waited_for = next(running)
            while True:
                count += 1
                self.suspended(count)
                try:
                    value = yield waited_for
                except BaseException as error:
                    waited_for = running.throw(error)
                else:
                    waited_for = running.send(value)
        except StopIteration as end:
            result: T = end.value
            return result


async def meanwhile(suspension: int, work: Coroutine[Any, Any, T], act: Callable[[], object]) -> T:
    """`act` when `work` is suspended for the so many-th time, counted from 1."""
    return await _Counted(work, lambda count: act() if count == suspension else None)


async def cancelled_at(suspension: int, work: Coroutine[Any, Any, object]) -> bool:
    """Cancel what waits for `work` when it is suspended for the so many-th time, as a client that leaves does. Whether
    it came so far."""
    with anyio.CancelScope() as scope:
        await meanwhile(suspension, work, scope.cancel)
    return scope.cancel_called


async def cancelled_everywhere(attempt: Callable[[int], Awaitable[bool]]) -> int:
    """`attempt(n)` calls `cancelled_at(n, …)`, looks at what came of it and returns what that returned; until one ran to
    its end. How many were cancelled, which is at least one."""
    for suspension in range(1, SUSPENSIONS_MAX):
        if not await attempt(suspension):
            assert suspension > 1, "it was never suspended"
            return suspension - 1
    raise AssertionError("it never comes to its end")


async def some_turns() -> None:
    for _ in range(TURNS):
        await anyio.lowlevel.checkpoint()
