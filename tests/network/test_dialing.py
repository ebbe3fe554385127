"""Looking names up: whose slow names hold up whom."""

from __future__ import annotations

import threading

import anyio
import pytest

from mcp_spaces.errors import TimedOut
from mcp_spaces.network.dialing import LOOKUPS, SystemResolver

pytestmark = pytest.mark.anyio
PATIENCE_S = 20


async def test_n16_a_space_that_asks_for_slow_names_holds_up_no_other() -> None:
    go = threading.Event()

    def look_up(name: str) -> list[str]:
        if name.startswith("slow"):
            assert go.wait(PATIENCE_S)
        return [name]

    resolver = SystemResolver(look_up, resolve_s=0.05)
    timed_out: list[str] = []
    queued: list[str] = []

    async def ask(name: str) -> None:
        try:
            queued.extend(await resolver.addresses(name, space_id="sp_one"))
        except TimedOut:
            timed_out.append(name)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for number in range(LOOKUPS):
                tasks.start_soon(ask, f"slow{number}.test")
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(ask, "quick.test")
            assert await resolver.addresses("quick.test", space_id="sp_two") == ["quick.test."]
            while len(timed_out) < LOOKUPS:
                await anyio.wait_all_tasks_blocked()
            # Given up is not over: a thread waits on, and the next one of that space waits for its place, unhurried.
            assert queued == []
            go.set()
    assert queued == ["quick.test."]


async def test_a_name_that_is_none_has_no_address() -> None:
    def look_up(name: str) -> list[str]:
        raise OSError(name)

    assert await SystemResolver(look_up).addresses("nobody.test", space_id="sp_one") == []
