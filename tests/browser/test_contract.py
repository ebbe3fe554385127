"""Every driver keeps the contract: containers, this machine's Chromium in a jail, and as it is without root."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from mcp_spaces.browser.driver.host import HostedContext
from mcp_spaces.browser.port import BrowserDriver
from tests.browser.contract.contexts import Contexts
from tests.browser.contract.ends import Ends
from tests.browser.contract.keeping import Keeping, Pool, Sizes
from tests.browser.contract.walls import Jails, Walls
from tests.browser.contract.ways_out import WaysOut
from tests.browser.rigs import (
    PATIENCE_S,
    Opener,
    chromium_of,
    contained,
    local,
    open_driver,
    read_lines,
    short_folder,
    status_of,
)
from tests.browser.small_net import Canaries, SmallNet, small_net

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.geteuid() != 0, reason="looking into other users' processes takes root"),
]


@pytest.fixture(scope="class")
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="class")
async def whole_net(folder: Path) -> AsyncIterator[SmallNet]:
    async with small_net(folder) as net:
        yield net


@pytest.fixture
def net(whole_net: SmallNet) -> SmallNet:
    whole_net.asked.clear()
    whole_net.heads.clear()
    return whole_net


@pytest.fixture
def canaries() -> Iterator[Canaries]:
    found = Canaries()
    yield found
    found.close()


@pytest.fixture
async def opener(driver: BrowserDriver, net: SmallNet) -> AsyncIterator[Opener]:
    opener = Opener(driver, net, [])
    yield opener
    with anyio.CancelScope(shield=True):
        for live in opener.lives:
            await live.close()


class Contract(Contexts, WaysOut, Ends, Sizes, Keeping, Pool, Walls, Jails):
    pass


class TestContainers(Contract):
    @pytest.fixture(scope="class")
    async def driver(self, folder: Path, whole_net: SmallNet) -> AsyncIterator[BrowserDriver]:
        async with open_driver(contained(folder, trusted=whole_net.trusted)) as driver:
            yield driver

    @pytest.fixture
    async def fresh(self, folder: Path) -> AsyncIterator[BrowserDriver]:
        async with open_driver(contained(folder)) as driver:
            yield driver

    @pytest.fixture
    async def warm(self, folder: Path) -> AsyncIterator[BrowserDriver]:
        async with open_driver(contained(folder, pool_size=1, linger_s=0)) as driver:
            yield driver


class OfThisMachine:
    """What a local Chromium is started with, whatever is around it."""

    async def test_b22_l19_chromium_has_no_groups_dumps_no_core_and_makes_files_for_itself_alone(
        self, opener: Opener
    ) -> None:
        (browser,) = chromium_of(await opener.open())
        status, limits = status_of(browser), read_lines(f"/proc/{browser}/limits")
        assert (status["Groups"], status["Umask"]) == ("", "0077")
        (core,) = [one.split() for one in limits if one.startswith("Max core file size")]
        assert core[4:6] == ["0", "0"]


class TestJailed(Contract, OfThisMachine):
    @pytest.fixture(scope="class")
    async def driver(self, folder: Path, whole_net: SmallNet) -> AsyncIterator[BrowserDriver]:
        async with open_driver(local(folder, trusted=whole_net.trusted)) as driver:
            yield driver

    @pytest.fixture
    async def fresh(self, folder: Path) -> AsyncIterator[BrowserDriver]:
        async with open_driver(local(folder)) as driver:
            yield driver

    @pytest.fixture
    async def warm(self, folder: Path) -> AsyncIterator[BrowserDriver]:
        async with open_driver(local(folder, pool_size=1, linger_s=0)) as driver:
            yield driver

    async def test_chromium_sees_no_files_of_people(self, opener: Opener) -> None:
        (browser,) = chromium_of(await opener.open())
        inside = Path(f"/proc/{browser}/root")
        # A folder may have been a mount before, as /run mostly is: the last one covers it.
        mounts = {line.split()[4]: line.split()[5].split(",") for line in read_lines(f"/proc/{browser}/mountinfo")}
        assert ["ro" in mounts[name] for name in ("/root", "/home", "/run")] == [True] * 3
        assert {"nosuid", "nodev"} <= set(mounts["/tmp"])
        assert [list((inside / name).iterdir()) for name in ("root", "home", "run")] == [[], [], []]
        assert {one.name for one in (inside / "tmp").iterdir()} <= {"profile", "downloads", ".cache", ".X11-unix"} | {
            one.name for one in (inside / "tmp").iterdir() if "chromium" in one.name.lower()
        }


class TestWithoutRoot(Contexts, WaysOut, Ends, Walls, OfThisMachine):
    """Chromium in this machine's own network: what leads it to the gateway are its settings and a password."""

    @pytest.fixture(scope="class")
    async def driver(self, folder: Path, whole_net: SmallNet) -> AsyncIterator[BrowserDriver]:
        async with open_driver(local(folder, trusted=whole_net.trusted, jailed=False)) as driver:
            yield driver

    async def test_n22_nobody_else_goes_through_a_contexts_proxy(self, opener: Opener, net: SmallNet) -> None:
        live = await opener.open()
        assert isinstance(live, HostedContext)
        way, answers = live._way, []
        wrong = base64.b64encode(f"{way.user}:guessed".encode()).decode()
        for line in ("", f"Proxy-Authorization: Basic {wrong}\r\n", "Proxy-Authorization: Bearer x\r\n"):
            answers.append(await _ask(way.port, f"GET http://one.test/ HTTP/1.1\r\nHost: one.test\r\n{line}\r\n"))
        assert [one.split()[1] for one in answers] == [b"407"] * 3
        assert net.asked == []

    async def test_the_password_stays_at_the_door(self, opener: Opener, net: SmallNet) -> None:
        await opener.page()
        assert net.heads and not [head for head in net.heads if b"proxy-authorization" in head.lower()]

    async def test_the_missing_walls_are_told(self, driver: BrowserDriver) -> None:
        missing = {wall.name for wall in await driver.walls() if not wall.holds}
        assert missing == {"browser network", "browser limits"}


async def _ask(port: int, request: str) -> bytes:
    with anyio.fail_after(PATIENCE_S):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(request.encode())
            return await stream.receive()


def test_the_tests_can_tell_a_port_of_this_machine() -> None:
    """The canaries would hear it."""
    canaries = Canaries()
    with socket.create_connection((canaries.address, canaries.tcp_port)):
        assert len(canaries.look()) == 1
    canaries.close()
