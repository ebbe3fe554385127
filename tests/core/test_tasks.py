"""Work that nobody waits for: held until it is done, and its failures told to nobody."""

from __future__ import annotations

import asyncio
import gc
import weakref

import anyio.lowlevel
import pytest

from mcp_spaces.core.tasks import Aside

pytestmark = pytest.mark.anyio


async def test_it_is_held_until_it_is_done() -> None:
    aside, waited_for, done = Aside(), list[weakref.ref[asyncio.Future[None]]](), list[str]()

    async def work() -> None:
        waiting = asyncio.get_running_loop().create_future()
        waited_for.append(weakref.ref(waiting))
        await waiting
        done.append("work")

    aside.start(work())
    await anyio.wait_all_tasks_blocked()
    # Of a task that only its own future knows, nothing would be left.
    gc.collect()
    waiting = waited_for[0]()
    assert waiting is not None
    waiting.set_result(None)
    await anyio.wait_all_tasks_blocked()
    assert done == ["work"]
    del waiting
    gc.collect()
    assert waited_for[0]() is None


async def test_its_failure_is_not_complained_about() -> None:
    complaints, loop = list[object](), asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))

    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise RuntimeError("gone by now")

    try:
        Aside().start(fail())
        await anyio.wait_all_tasks_blocked()
        gc.collect()
    finally:
        loop.set_exception_handler(before)
    assert complaints == []
