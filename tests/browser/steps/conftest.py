"""A room with a fresh browser for each program."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.browser.room import Room, open_room
from tests.browser.steps.programs import PAGES


@pytest.fixture(scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Room]:
    async with open_room(tmp_path_factory.mktemp("room"), pages=PAGES) as room:
        yield room


@pytest.fixture
async def room(opened: Room) -> AsyncIterator[Room]:
    """With a fresh browser, under the permissive policy, in which scripts need nobody's yes."""
    await opened.policy()
    runtime = await opened.launched()
    opened.runtime = runtime
    yield opened
    await opened.call("browser.delete")
