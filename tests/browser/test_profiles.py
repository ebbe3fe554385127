"""What a browser remembers: kept under a profile's name, by one browser at a time, through stops, restarts and kills."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from mcp_spaces.errors import Conflict, RuntimeUnavailable
from tests.browser.rigs import PATIENCE_S, end_place, eventually, host_of, short_folder
from tests.browser.small_net import SmallNet, small_net
from tests.browser.world import SITE, Browsing, browsing

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.geteuid() != 0, reason="browsers in jails take root")]

LOGS_IN = "<script>document.cookie = 'session=abc; max-age=9999'; localStorage.setItem('token', 'abc')</script>hello"
WHO = "<p id=who></p><script>who.innerText = `${document.cookie} ${localStorage.getItem('token')}`</script>"


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[SmallNet]:
    async with small_net(tmp_path) as net:
        net.pages |= {"/login": LOGS_IN, "/who": WHO}
        yield net


async def who(at: Browsing, space: str, runtime: str) -> str:
    await at.call("navigate", space=space, runtime=runtime, url=SITE + "who")
    shown: str = (await at.call("text", space=space, runtime=runtime)).text
    return shown.strip()


async def test_a_login_outlives_stop_and_restart_in_a_profile_and_nowhere_else(folder: Path, net: SmallNet) -> None:
    async with browsing(folder, net) as at:
        space = await at.space("kept")
        kept = await at.launch(space, alias="kept", profile="work", url=SITE + "login")
        plain = await at.launch(space, alias="plain", url=SITE + "login")
        for runtime, alias in ((kept, "kept"), (plain, "plain")):
            await at.call("stop", space=space, runtime=runtime)
            await at.call("launch", space=space, alias=alias)
        assert await who(at, space, kept) == "session=abc abc"
        assert await who(at, space, plain) == "null"
    async with browsing(folder, net) as at:
        assert at.state(kept) == ("stopped", "the daemon stopped")
        again = await at.launch(space, alias="kept")
        assert (again, await who(at, space, again)) == (kept, "session=abc abc")
        other = await at.launch(space, profile="other")
        assert await who(at, space, other) == "null"


async def test_two_browsers_never_have_one_profile_at_a_time(folder: Path, net: SmallNet) -> None:
    async with browsing(folder, net) as at:
        space, elsewhere = await at.space("one"), await at.space("two")
        calls = [at.call("launch", space=space, alias=f"b{number}", profile="work") for number in range(4)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        winners = [one for one in results if not isinstance(one, BaseException)]
        assert len(winners) == 1
        assert {type(one) for one in results if isinstance(one, BaseException)} == {Conflict}
        await at.launch(elsewhere, profile="work")
        assert "in use" in (await at.refused("forget", space=space, profile="work")).message
        await at.call("stop", space=space, runtime=winners[0].id)
        await at.launch(space, profile="work")


async def test_a_start_that_fails_leaves_its_profile_free(folder: Path, net: SmallNet) -> None:
    nowhere = folder / "nowhere"
    async with browsing(folder, net, browser_executable=nowhere) as at:
        space = await at.space("one")
        for _ in range(2):
            failure = await at.refused("launch", space=space, profile="work")
            assert isinstance(failure, RuntimeUnavailable) and str(nowhere) in failure.message
        assert (await at.call("list", space=space)).browsers == ()
        at.browsers.profiles.check_free(space, "work")


async def test_a_profile_of_a_browser_that_died_is_free_again(folder: Path, net: SmallNet) -> None:
    async with browsing(folder, net) as at:
        space = await at.space("one")
        runtime = await at.launch(space, profile="work", url=SITE + "login")
        end_place(at.live(runtime))
        await eventually(lambda: at.state(runtime)[0] == "failed")
        await at.launch(space, profile="work")


async def test_a_profile_is_kept_while_its_browser_runs(folder: Path, net: SmallNet) -> None:
    async with browsing(folder, net) as at:
        space = await at.space("one")
        runtime = await at.launch(space, profile="work")
        assert at.browsers.store.profiles(space) == []
        await at.call("navigate", space=space, runtime=runtime, url=SITE + "login")
        await eventually(lambda: at.browsers.store.profiles(space) == ["work"])
        host_of(at.live(runtime)).end("a test ended it")
        await eventually(lambda: at.state(runtime)[0] == "failed")
        again = await at.launch(space, profile="work")
        assert await who(at, space, again) == "session=abc abc"


async def test_what_an_operation_changed_before_it_failed_is_kept_too(folder: Path, net: SmallNet) -> None:
    async with browsing(folder, net) as at:
        space = await at.space("one", policy={"preset": "permissive"})
        runtime = await at.launch(space, profile="work", url=SITE)
        taken = at.browsers.profiles._of_runtime[runtime]
        await eventually(lambda: taken.task is not None and taken.task.done())
        script = "document.cookie = 'session=abc; max-age=9999'; throw new Error('no')"
        failure = await at.refused("evaluate", space=space, runtime=runtime, script=f"() => {{ {script} }}")
        assert "no" in failure.message
        await eventually(lambda: [one["name"] for one in taken.cookies or ()] == ["session"])


async def test_a_page_that_hangs_costs_a_profile_no_cookie(folder: Path, net: SmallNet) -> None:
    net.pages["/hang"] = "<script>document.cookie = 'late=1; max-age=99'; setTimeout(() => { for (;;); }, 50)</script>"
    async with browsing(folder, net) as at:
        space = await at.space("one")
        runtime = await at.launch(space, profile="work", url=SITE + "login")
        await at.browsers.keep_profile(runtime)
        await at.call("navigate", space=space, runtime=runtime, url=SITE + "hang")
        await at.call("stop", space=space, runtime=runtime)
        again = await at.launch(space, profile="work")
        shown = await who(at, space, again)
        assert "late=1" in shown and "session=abc" in shown and shown.endswith(" abc")


async def test_a_rotation_takes_profiles_along_and_one_that_no_longer_opens_is_begun_anew(
    folder: Path, net: SmallNet, caplog: pytest.LogCaptureFixture
) -> None:
    async with browsing(folder, net) as at:
        space = await at.space("one")
        runtime = await at.launch(space, profile="work", url=SITE + "login")
        await at.call("stop", space=space, runtime=runtime)
        before = at.world.row("SELECT sealed FROM browser_profiles")
        await at.world.govern("vault.rotate")
        after = at.world.row("SELECT sealed FROM browser_profiles")
        assert before is not None and after is not None and before["sealed"] != after["sealed"]
        again = await at.launch(space, alias="again", profile="work")
        assert await who(at, space, again) == "session=abc abc"
        await at.call("stop", space=space, runtime=again)
        await at.world.database.write(lambda tx: tx.execute("UPDATE browser_profiles SET sealed = zeroblob(100)"))
        anew = await at.launch(space, alias="anew", profile="work")
        assert await who(at, space, anew) == "null"
        assert "begun anew" in caplog.text


DIES = """
import asyncio, os, sys
from pathlib import Path
from tests.browser.small_net import SmallNet
from tests.browser.world import SITE, browsing

async def main():
    net = SmallNet(Path(sys.argv[1]))
    net._ports = (int(sys.argv[3]), 0)
    async with browsing(Path(sys.argv[1]), net, driver=sys.argv[2]) as at:
        space = await at.space("kept")
        await at.launch(space, alias="kept", profile="work", url=SITE + "login")
        while at.browsers.store.profiles(space) != ["work"]:
            await asyncio.sleep(0.01)
        print(space, flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.mark.parametrize("driver", ["local", "container"])
async def test_l19_a_killed_daemon_leaves_nothing_but_the_profile(folder: Path, net: SmallNet, driver: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DIES, str(folder), driver, str(net.port),
        cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": "."}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    with anyio.fail_after(PATIENCE_S * 2):
        space = (await process.stdout.readline()).decode().strip()
    assert space.startswith("sp_")
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with browsing(folder, net, driver=driver) as at:
        instance = at.world.row("SELECT value FROM settings WHERE name = 'instance_id'")
        assert instance is not None
        assert left_of(folder / "state", str(instance["value"])) == []
        again = await at.launch(space, alias="kept")
        assert await who(at, space, again) == "session=abc abc"


def left_of(state: Path, instance: str) -> list[str]:
    """Processes, folders, sockets and containers of a browser."""
    listed = ["docker", "ps", "--all", "--quiet", "--filter", f"label=mcp-spaces.instance={instance}-browsers"]
    containers = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(state / "browsers").encode() in words:
            processes.append(words.decode()[:100])
    browsers = state / "browsers"
    files = [
        str(one)
        for one in (*browsers.glob("local/*"), *browsers.glob("*.sock"), *browsers.glob("workspaces/browser-*"))
    ]
    return [*containers, *processes, *files]
