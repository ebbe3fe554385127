"""Which browser a launch without an alias means."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcp_spaces.browser.model import Isolation
from mcp_spaces.browser.sizes import BOOKED
from mcp_spaces.spaces.model import SIZES
from tests.security.app import World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def launched(world: World, space: str, **more: Any) -> str:
    return str((await world.call("browser.launch", space=space, **more)).alias)


async def test_a_stopped_browser_that_is_as_a_new_one_is_started_again(world: World) -> None:
    space = await world.space("work")
    first = await world.call("browser.launch", space=space)
    await world.call("browser.stop", space=space, runtime=first.id)
    again = await world.call("browser.launch", space=space)
    assert (again.id, again.alias) == (first.id, "browser")
    assert await launched(world, space) == "browser-2", "that one runs"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"profile": "ann"}, {}),
        ({}, {"profile": "ann"}),
        ({"options": {"viewport": {"width": 500, "height": 500}}}, {}),
        ({"scope": {"storage": []}}, {}),
        ({}, {"scope": {"storage": []}}),
        ({}, {"options": {"locale": "de-DE"}}),
    ],
    ids=str,
)
async def test_a_stopped_browser_that_is_another_one_is_left_alone(
    world: World, before: dict[str, Any], now: dict[str, Any]
) -> None:
    space = await world.space("work")
    await launched(world, space, **before)
    await world.call("browser.stop", space=space)
    assert await launched(world, space, **now) == "browser-2"


async def test_a_stopped_browser_of_other_limits_is_left_alone(world: World) -> None:
    space = await world.space("work", limits={"storage_bytes": 1000})
    await launched(world, space)
    await world.call("browser.stop", space=space)
    await world.call("space.update", space=space, patch={"limits": {"storage_bytes": 2000}})
    assert await launched(world, space) == "browser-2"


async def test_a_sandbox_that_has_the_name_is_no_browser(world: World) -> None:
    space = await world.space("work")
    size = BOOKED[Isolation.CONTEXT].model_dump(include=set(SIZES))
    await world.launched(space, alias="browser", scope={"limits": size})
    await world.call("sandbox.stop", space=space, runtime="browser")
    assert await launched(world, space) == "browser-2"


async def test_a_profile_is_found_again_by_a_launch_that_names_it(world: World) -> None:
    space = await world.space("work")
    await launched(world, space, profile="ann")
    await world.call("browser.stop", space=space)
    assert await launched(world, space, profile="ann") == "browser"
