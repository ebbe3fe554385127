"""A local browser as the daemon holds it: by its pipes, which may close before it ends or never be read to their end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mcp_spaces.browser.driver.local import UID, LocalDriver
from mcp_spaces.browser.driver.local_host import PIECE_BYTES, LocalHost, Walls
from mcp_spaces.browser.driver.playwright import PlaywrightDriver
from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.network.dialing import Upstream
from tests.browser.rigs import (
    LIMITS,
    Opener,
    arguments_of,
    below,
    eventually,
    open_driver,
    reason_of,
    root_of,
    short_folder,
)
from tests.browser.small_net import small_net
from tests.descriptors import open_here

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.geteuid() != 0, reason="another user's processes take root")]

UNHEARD_BYTES = 2 * PIECE_BYTES + 1
"""At which a stream that nobody reads takes no more."""
WALLS = Walls(jailed=False, uid=UID)
BEHIND_A_CAT = """#!/bin/bash
'{chromium}' "$@" 4> >(exec cat >&4) &
exec 4>&-
wait
exec sleep 1000
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        folder.chmod(0o755)
        yield folder


def program_of(folder: Path, script: str) -> Path:
    program = folder / "program"
    program.write_text(script)
    program.chmod(0o755)
    return program


@asynccontextmanager
async def driven_by(program: Path, folder: Path) -> AsyncIterator[LocalDriver]:
    (folder / "local").mkdir(mode=0o755)
    driver = LocalDriver(
        playwright=PlaywrightDriver(), folder=folder, connect=Upstream, limits=LIMITS, executable=program, walls=WALLS
    )
    async with open_driver(driver):
        yield driver


async def test_a_chromium_that_closes_its_pipe_and_lives_on_is_gone(folder: Path, tmp_path: Path) -> None:
    program = program_of(folder, BEHIND_A_CAT.format(chromium=shutil.which("chromium-headless-shell")))
    async with driven_by(program, folder) as driver, small_net(tmp_path) as net:
        live = await Opener(driver, net, []).open()
        (cat,) = (pid for pid in below(root_of(live)) if arguments_of(pid) == ["cat"])
        os.kill(cat, signal.SIGKILL)
        assert await reason_of(live) == "the browser closed its DevTools pipe"


async def test_one_that_never_opens_it_says_so_instead_of_no_answer(folder: Path, tmp_path: Path) -> None:
    program = program_of(folder, "#!/bin/sh\nexec 3<&- 4>&-\nexec sleep 1000\n")
    async with driven_by(program, folder) as driver, small_net(tmp_path) as net:
        with pytest.raises(RuntimeUnavailable, match="did not start: the browser closed its DevTools pipe"):
            await Opener(driver, net, []).open()


@pytest.mark.parametrize("number", [2, 4])
async def test_a_browser_that_talks_to_its_very_end_leaves_no_pipe_open(folder: Path, number: int) -> None:
    program = program_of(folder, f"#!/bin/sh\nexec yes >&{number}\n")
    before = open_here()
    host = LocalHost(folder / "one", program=program, arguments=[], walls=WALLS, limits=LIMITS, connect=Upstream)
    await host._begin()
    assert host._process is not None
    jail = host._process.pid
    await eventually(lambda: any(arguments_of(pid) == ["yes"] for pid in below(jail)))
    (talks,) = (pid for pid in below(jail) if arguments_of(pid) == ["yes"])
    # Its end comes once it has said more than is taken of somebody to whom nobody listens.
    os.kill(jail, signal.SIGSTOP)
    said = written_by(talks)
    stopping = asyncio.ensure_future(host.stop())
    await eventually(lambda: written_by(talks) - said > UNHEARD_BYTES)
    os.kill(jail, signal.SIGCONT)
    await stopping
    assert open_here() <= before


def written_by(pid: int) -> int:
    lines = (line.split() for line in Path(f"/proc/{pid}/io").read_text("utf-8").splitlines())
    return next(int(value) for name, value in lines if name == "wchar:")
