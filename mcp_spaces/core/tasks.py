"""Work that has to end once it began, and work side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
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
