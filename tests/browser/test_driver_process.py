"""Playwright's Node: beside the daemon's own output, given up while it starts, and found dead."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from mcp_spaces.browser.driver.playwright import PlaywrightDriver
from mcp_spaces.errors import RuntimeUnavailable
from tests.browser.rigs import PATIENCE_S, await_end, below, eventually, is_playwrights, unheard

DRIVEN = """
import asyncio, os

async def drive():
    from mcp_spaces.browser.driver.playwright import PlaywrightDriver
    driver = PlaywrightDriver()
    await driver.playwright()
    print(os.get_blocking(2))
    await driver.aclose()

asyncio.run(drive())
"""


@pytest.fixture(params=["pipe", "socket"])
def standard_error(request: pytest.FixtureRequest) -> Iterator[int]:
    """As a terminal's `2>&1 | less` and containers have it, and as journald has it."""
    if request.param == "pipe":
        reading, writing = os.pipe()
    else:
        reading, writing = (one.detach() for one in socket.socketpair())
    yield writing
    os.close(reading)
    os.close(writing)


def test_a_browser_costs_our_log_no_lines_where_its_reader_is_slow(standard_error: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRIVEN], stdout=subprocess.PIPE, stderr=standard_error, timeout=60, check=True
    )
    assert done.stdout.decode().split() == ["True"]


def nodes() -> list[int]:
    return [pid for pid in below(os.getpid()) if is_playwrights(pid)]


async def test_a_start_that_is_given_up_is_the_next_one_s() -> None:
    driver, before = PlaywrightDriver(), set(nodes())
    try:
        with anyio.CancelScope() as caller:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(driver.playwright)
                await eventually(lambda: set(nodes()) > before)
                caller.cancel()
        (given_up,) = set(nodes()) - before
        await driver.playwright()
        assert set(nodes()) - before == {given_up}
    finally:
        await driver.aclose()
    assert set(nodes()) <= before


class SlowToTell(PlaywrightDriver):
    """Whether it is alive is known once somebody says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asking: list[asyncio.Event] = []

    async def _alive(self, playwright: object) -> bool:
        self.asking.append(asyncio.Event())
        await self.asking[-1].wait()
        return False


async def test_a_node_that_two_find_dead_is_replaced_once(tmp_path: Path) -> None:
    driver, before = SlowToTell(), set(nodes())
    nobody = f"ws+unix:{tmp_path}/nobody.sock:/"

    async def connect() -> None:
        with pytest.raises(RuntimeUnavailable, match="does not answer"):
            await driver.connect(nobody)

    with unheard("Connection closed while reading from the driver"), anyio.fail_after(PATIENCE_S):
        try:
            await driver.playwright()
            (dead,) = set(nodes()) - before
            os.kill(dead, signal.SIGKILL)
            await_end(dead)
            first, second = asyncio.create_task(connect()), asyncio.create_task(connect())
            await eventually(lambda: len(driver.asking) == 2)
            driver.asking[0].set()
            done, _ = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
            (fresh,) = set(nodes()) - before
            driver.asking[1].set()
            await asyncio.gather(first, second)
            assert len(done) == 1 and set(nodes()) - before == {fresh}
        finally:
            await driver.aclose()
