"""A local browser as the daemon holds it: by its pipes, which may close before it ends or never be read to their end."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest

from mcp_spaces.browser.driver.local import UID, LocalDriver
from mcp_spaces.browser.driver.local_host import PIECE_BYTES, LocalHost, Walls, _exit_of
from mcp_spaces.browser.driver.playwright import PlaywrightDriver
from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.network.dialing import Upstream
from tests.browser.rigs import (
    LIMITS,
    PATIENCE_S,
    Opener,
    alive,
    arguments_of,
    below,
    chromium_of,
    eventually,
    held_in,
    host_of,
    open_driver,
    reason_of,
    root_of,
    short_folder,
)
from tests.browser.small_net import small_net
from tests.descriptors import open_here
from tests.turns import some_turns

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
async def driven_by(program: Path, folder: Path, *, walls: Walls = WALLS) -> AsyncIterator[LocalDriver]:
    (folder / "local").mkdir(mode=0o755)
    driver = LocalDriver(
        playwright=PlaywrightDriver(), folder=folder, connect=Upstream, limits=LIMITS, executable=program, walls=walls
    )
    async with open_driver(driver):
        yield driver
    assert left_in(folder) == []


def left_in(folder: Path) -> list[Path]:
    return [*folder.glob("*.sock"), *(folder / "local").iterdir()]


def environment_of(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def modes_in(folder: Path) -> set[int]:
    return {stat.S_IMODE(one.stat().st_mode) for one in (folder, folder / "profile", folder / "downloads")}


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
        # With Playwright's driver up, which takes its time, the second one is soon written to.
        for _ in range(2):
            with pytest.raises(RuntimeUnavailable, match="did not start: the browser closed its DevTools pipe"):
                await Opener(driver, net, []).open()


CHROMIUM = Path(str(shutil.which("chromium-headless-shell")))
COMPLAINS = b"[7:7:1122/120000.123456:ERROR:gpu/thing.cc(12)] of a page\nmcp-spaces: of a page\n"


async def test_l05_what_a_page_prints_is_no_reason_for_the_end_and_not_logged(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = open_here("socket:")
    async with driven_by(CHROMIUM, folder) as driver, small_net(tmp_path) as net:
        live, wanted = await Opener(driver, net, []).open("sp_one"), await Opener(driver, net, []).open("sp_two")
        for one in (live, wanted):
            host_of(one)._said(COMPLAINS)
        (browser,) = chromium_of(live)
        os.kill(browser, signal.SIGKILL)
        reason = f"the browser crashed: it exited with {128 + signal.SIGKILL}"
        assert await reason_of(live) == reason
    (told,) = (one.getMessage() for one in caplog.records if "it said" in one.getMessage())
    assert told.startswith(f"a browser ended ({reason})") and "ERROR:gpu/thing.cc(12" in told
    assert "of a page" not in caplog.text
    # The ways out of the one that died, too.
    assert open_here("socket:") <= before


async def test_l10_chromium_has_little_of_the_daemon_s_environment_and_nobody_its_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "of the daemon")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    async with driven_by(CHROMIUM, folder) as driver, small_net(tmp_path) as net:
        live = await Opener(driver, net, []).open()
        (browser,), host = chromium_of(live), host_of(live)
        assert isinstance(host, LocalHost)
        assert modes_in(host.folder) == {0o700}
        found = environment_of(browser)
    assert b"LC_ALL=C.UTF-8" in found and b"A_TOKEN=of the daemon" not in found


async def test_a_jail_that_stands_still_is_waited_for_only_so_long(folder: Path, tmp_path: Path) -> None:
    async with driven_by(CHROMIUM, folder, walls=Walls(jailed=True, uid=UID)) as driver, small_net(tmp_path) as net:
        live = await Opener(driver, net, []).open()
        processes = below(root_of(live))
        os.kill(root_of(live), signal.SIGSTOP)
        with pytest.raises(RuntimeUnavailable, match="no way out"):
            await Opener(driver, net, []).open()
    await eventually(lambda: not any(alive(pid) for pid in processes))


async def test_a_process_that_has_ended_is_watched_no_more() -> None:
    before = open_here()
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    others = open_here()
    exited = _exit_of(process.pid)
    ((number, _),) = open_here() - others - before
    process.kill()
    with anyio.fail_after(PATIENCE_S):
        await exited
    # Or the next one with its number could not be watched.
    assert not asyncio.get_running_loop().remove_reader(number)
    await process.wait()


async def test_a_context_that_nobody_waits_for_goes_with_its_way_out(folder: Path, tmp_path: Path) -> None:
    async with driven_by(CHROMIUM, folder) as driver, small_net(tmp_path) as net:
        opener = Opener(driver, net, [])
        beside = await opener.open()
        host = host_of(beside)
        assert isinstance(host, LocalHost)
        before = await held_in(beside.browser)
        opening = asyncio.ensure_future(opener.open())
        while len(host._doors) == 1:  # noqa: ASYNC110 - what matters are the very next turns
            await asyncio.sleep(0)
        # Chromium is asked for it in these, and answers in many more.
        await some_turns()
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await opening
        await (await beside.another()).close()
        with anyio.fail_after(PATIENCE_S):
            while (now := await held_in(beside.browser)) != before:
                pass
        assert now == before and len(host._doors) == 1


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
    await some_turns()
    assert all(watcher.done() for watcher in host._watchers)


def written_by(pid: int) -> int:
    lines = (line.split() for line in Path(f"/proc/{pid}/io").read_text("utf-8").splitlines())
    return next(int(value) for name, value in lines if name == "wchar:")
