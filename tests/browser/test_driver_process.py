"""Playwright's Node beside the daemon's own output."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

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
