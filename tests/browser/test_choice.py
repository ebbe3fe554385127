"""Where browsers run when nobody said so; drivers are made up, since what is chosen is all there is to see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import pytest

from mcp_spaces.browser.driver.choice import ChosenDriver
from mcp_spaces.browser.port import ContextSpec, Debugging, LiveContext
from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.port import Wall

pytestmark = pytest.mark.anyio


@dataclass
class Made:
    """A driver that is there or not, and notes what it was asked."""

    name: str
    lacks: str = ""
    """The wall that does not hold."""
    left: tuple[str, ...] = ()
    """Of a daemon before."""
    asked: list[str] = field(default_factory=list)
    looks: int = 0

    async def walls(self) -> Sequence[Wall]:
        self.looks += 1
        await anyio.lowlevel.checkpoint()
        return [
            Wall(name=one, holds=one != self.lacks, found=f"{self.name}: no {one}", mend=f"mend {one}")
            for one in ("browser engine", "browser image", "browser program", "browser memory")
        ]

    async def open(self, spec: ContextSpec) -> LiveContext:
        raise NotImplementedError

    async def debug(self, live: LiveContext) -> Debugging:
        raise NotImplementedError

    async def warm(self) -> None:
        self.asked.append("warm")

    async def reap(self) -> Sequence[str]:
        if self.lacks:
            raise RuntimeUnavailable(f"{self.name} does not answer.", hint="Start it.")
        return self.left

    async def aclose(self) -> None:
        self.asked.append("aclose")


async def test_containers_come_first_and_a_wall_that_is_only_weaker_changes_nothing() -> None:
    first, second = Made("container", lacks="browser memory"), Made("local")
    driver = ChosenDriver(first, second)
    assert driver.name == "auto"
    await driver.warm()
    assert (driver.name, first.asked, second.asked) == ("container", ["warm"], [])
    assert [one.found for one in await driver.walls()] == [one.found for one in await first.walls()]


@pytest.mark.parametrize("lacks", ["browser engine", "browser image", "browser program"])
async def test_without_what_containers_need_it_is_this_machine_s_chromium_and_the_log_says_so(
    lacks: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Made("container", lacks=lacks), Made("local")
    driver = ChosenDriver(first, second)
    await driver.warm()
    assert (driver.name, first.asked, second.asked) == ("local", [], ["warm"])
    assert f"with the local driver: container: no {lacks}" in caplog.text


async def test_who_comes_first_at_the_same_time_gets_the_same_one() -> None:
    first = Made("container")
    driver = ChosenDriver(first, Made("local"))
    async with anyio.create_task_group() as together:
        for _ in range(2):
            together.start_soon(driver.warm)
    assert (first.looks, first.asked) == (1, ["warm", "warm"])


async def test_once_it_is_chosen_it_stays_whatever_goes_and_comes() -> None:
    first, second = Made("container"), Made("local")
    driver = ChosenDriver(first, second)
    await driver.warm()
    first.lacks = "browser engine"
    await driver.warm()
    assert (driver.name, second.asked) == ("container", [])


async def test_where_neither_can_be_had_the_first_one_s_lack_is_told_and_the_next_call_looks_again() -> None:
    first, second = Made("container", lacks="browser engine"), Made("local", lacks="browser program")
    driver = ChosenDriver(first, second)
    with pytest.raises(RuntimeUnavailable) as refused:
        await driver.warm()
    assert refused.value.message == "container: no browser engine" and "mend browser engine" in refused.value.hint
    assert [one.found for one in await driver.walls()] == ["container: no browser engine", "local: no browser program"]
    second.lacks = ""
    await driver.warm()
    assert (driver.name, second.asked) == ("local", ["warm"])


async def test_what_a_daemon_before_left_is_removed_from_both() -> None:
    assert await ChosenDriver(Made("container", left=("a",)), Made("local", left=("b",))).reap() == ["a", "b"]
    assert await ChosenDriver(Made("container", lacks="browser engine"), Made("local", left=("b",))).reap() == ["b"]
    assert await ChosenDriver(Made("container"), Made("local")).reap() == []
    with pytest.raises(RuntimeUnavailable):
        await ChosenDriver(Made("container", lacks="browser engine"), Made("local")).reap()


async def test_both_are_closed() -> None:
    first, second = Made("container"), Made("local")
    await ChosenDriver(first, second).aclose()
    assert first.asked == second.asked == ["aclose"]
