"""Which browser whoever launches gets while others launch, too, and what a machine that has nothing left answers."""

from __future__ import annotations

import asyncio
import gc
import resource
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.browser.driver.host import Host, HostedContext, WayOut
from mcp_spaces.browser.driver.hosts import Hosts
from mcp_spaces.browser.driver.playwright import PlaywrightDriver
from mcp_spaces.browser.port import ContextSpec
from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.port import SandboxLimits, Wall
from tests.browser.rigs import LIMITS, PATIENCE_S, contained, eventually, local, open_driver, short_folder
from tests.descriptors import open_here

pytestmark = pytest.mark.anyio


class NoneToBeHad(Hosts):
    """Each start takes until somebody says that it failed."""

    name = "none"
    making = 0

    async def _make(self, limits: SandboxLimits) -> Host:
        self.making += 1
        self.fails = asyncio.Event()
        try:
            await self.fails.wait()
        finally:
            self.making -= 1
        raise RuntimeUnavailable("There is none.", hint="Get one.")

    async def _reap(self) -> Sequence[str]:
        return ()

    async def walls(self) -> Sequence[Wall]:
        return ()


@pytest.fixture
async def none_to_be_had(tmp_path: Path) -> AsyncIterator[NoneToBeHad]:
    driver = NoneToBeHad(playwright=PlaywrightDriver(), folder=tmp_path, limits=LIMITS, pool_size=0)
    yield driver
    await driver.aclose()


def wanted(runtime_id: str = "rt_one") -> ContextSpec:
    return ContextSpec(runtime_id=runtime_id, space_id="sp_one", accept=lambda one: one.close(), limits=LIMITS)


async def test_a_launch_that_fails_leaves_the_others_of_its_space_in_their_turn(none_to_be_had: NoneToBeHad) -> None:
    async def launch() -> None:
        with pytest.raises(RuntimeUnavailable):
            await none_to_be_had.open(wanted())

    with anyio.fail_after(PATIENCE_S):
        async with asyncio.TaskGroup() as launches:
            first, _ = launches.create_task(launch()), launches.create_task(launch())
            await eventually(lambda: none_to_be_had.making == 1)
            none_to_be_had.fails.set()
            await first
            # The second one's turn, and somebody comes who did not see the first.
            await eventually(lambda: not none_to_be_had.fails.is_set())
            launches.create_task(launch())
            for left in (1, 0):
                for _ in range(3):
                    await asyncio.sleep(0)
                assert none_to_be_had.making == 1
                none_to_be_had.fails.set()
                if left:
                    await eventually(lambda: not none_to_be_had.fails.is_set())


class SlowToGo:
    """A browser that never comes up, and takes its time to go."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.may_go = asyncio.Event()

    async def start(self, _playwright: PlaywrightDriver, *, folder: Path) -> None:
        self.steps.append("starts")
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.steps.append("stops")
        await self.may_go.wait()
        self.steps.append("is gone")


async def test_the_end_waits_for_a_browser_whose_start_was_given_up(tmp_path: Path) -> None:
    slow: Any = SlowToGo()

    class OneToBeHad(NoneToBeHad):
        async def _make(self, limits: SandboxLimits) -> Host:
            host: Host = slow
            return host

    driver = OneToBeHad(playwright=PlaywrightDriver(), folder=tmp_path, limits=LIMITS, pool_size=0)

    async def close() -> None:
        await driver.aclose()
        slow.steps.append("closed")

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(driver.open, wanted())
            await eventually(lambda: slow.steps == ["starts"])
            group.cancel_scope.cancel()
        await eventually(lambda: slow.steps == ["starts", "stops"])
        async with anyio.create_task_group() as group:
            group.start_soon(close)
            await anyio.wait_all_tasks_blocked()
            slow.may_go.set()
        assert slow.steps == ["starts", "stops", "is gone", "closed"]


async def test_a_launch_that_is_given_up_leaves_no_files_of_its_container() -> None:
    with short_folder() as folder:

        def files() -> list[Path]:
            return list((folder / "workspaces").glob("*.ext4"))

        async with open_driver(contained(folder)) as driver, anyio.create_task_group() as group:
            group.start_soon(driver.open, wanted())
            await eventually(lambda: files() != [])
            group.cancel_scope.cancel()
        assert files() == []


@pytest.mark.parametrize("closing", [True, False])
async def test_a_warm_browser_that_fails_is_told_in_the_log_unless_the_daemon_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, closing: bool
) -> None:
    driver = NoneToBeHad(playwright=PlaywrightDriver(), folder=tmp_path, limits=LIMITS, pool_size=1)

    async def warm() -> None:
        with pytest.raises(RuntimeUnavailable):
            await driver.warm()

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(warm)
            await eventually(lambda: driver.making == 1)
            if closing:
                group.start_soon(driver.aclose)
                await anyio.wait_all_tasks_blocked()
            driver.fails.set()
            if not closing:
                # What is tried once more, for its reason.
                await eventually(lambda: driver.making == 1 and not driver.fails.is_set())
                driver.fails.set()
        await driver.aclose()
    assert ("kept warm" in caplog.text) is not closing


class Holder:
    """Of a browser what a context of it needs, and of a context what its runtime closes."""

    downloads = "/downloads"
    context_s = PATIENCE_S

    def __init__(self) -> None:
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.contexts: set[object] = set()
        self.removed: list[str] = []

    def on(self, _event: str, _listener: object) -> None:
        pass

    async def close(self) -> None:
        pass

    async def withdraw(self, _way: WayOut) -> None:
        pass

    async def remove(self, path: str) -> None:
        self.removed.append(path)


async def test_what_a_context_leaves_is_taken_away_and_not_what_its_runtime_has_by_then() -> None:
    holder: Any = Holder()
    last, now = (HostedContext(holder, holder, runtime_id="rt_one", way=WayOut(1), options={}) for _ in range(2))
    await last.close()
    assert holder.removed == [last.downloads_folder] != [now.downloads_folder]
    assert {Path(one.downloads_folder).parent for one in (last, now)} == {Path(Holder.downloads)}


async def test_a_machine_that_has_nothing_left_is_said_in_words() -> None:
    with short_folder() as folder:
        async with open_driver(local(folder)) as driver:
            (folder / "local").write_text("in the way")
            with pytest.raises(RuntimeUnavailable, match="did not start: File exists"):
                await driver.open(wanted())
            (folder / "local").unlink()
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            # What earlier tests left would make room just when there has to be none.
            gc.collect()
            taken, sockets = {number for number, _ in open_here()}, open_here("socket:")
            free = [number for number in range(len(taken) + 5) if number not in taken]
            try:
                for spare in range(1, 5):
                    resource.setrlimit(resource.RLIMIT_NOFILE, (free[spare], before[1]))
                    with pytest.raises(RuntimeUnavailable, match="did not start: Too many open files"):
                        await driver.open(wanted())
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            # Pipes are Python's own, and 3.11.2 leaves some open where it finds no more.
            assert open_here("socket:") <= sockets
