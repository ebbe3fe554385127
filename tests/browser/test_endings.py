"""Whatever dies under an operation: a clear error, a true state, no hang, and the next launch works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.browser.driver import own_sandbox
from mcp_spaces.browser.driver.chromium import install_command
from mcp_spaces.browser.driver.local import UID
from mcp_spaces.browser.pages.worlds import OutOfReachError, worlds
from mcp_spaces.browser.port import LiveContext
from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.errors import RuntimeUnavailable, SpacesError, TimedOut, WrongState
from mcp_spaces.spaces.lifecycle import Lifecycle
from tests.browser.rigs import (
    await_end,
    below,
    chromium_of,
    end_place,
    eventually,
    host_of,
    is_playwrights,
    short_folder,
    unheard,
)
from tests.browser.small_net import SmallNet, small_net
from tests.browser.world import SITE, Browsing, browsing

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.geteuid() != 0, reason="looking into jails takes root")]

PATIENCE_S = 40.0
"""A print or picture of a page may take 20 s, and all of these are asked for at once."""
LOOKS = ("snapshot", "text", "screenshot", "pages", "console", "reload", "back", "downloads")


@pytest.fixture(scope="module", params=["local", "container"])
async def at(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browsing]:
    with short_folder() as folder, unheard("Connection closed while reading from the driver"):
        async with (
            small_net(tmp_path_factory.mktemp("net")) as net,
            browsing(folder, net, driver=request.param) as at,
        ):
            await at.space("ends")
            yield at


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[SmallNet]:
    async with small_net(tmp_path) as net:
        yield net


def browser_is_killed(live: LiveContext) -> None:
    (browser,) = chromium_of(live)
    os.kill(browser, signal.SIGKILL)
    await_end(browser)


def its_place_is_killed(live: LiveContext) -> None:
    (browser,) = chromium_of(live)
    end_place(live)
    await_end(browser)


def playwright_is_killed(_live: LiveContext) -> None:
    for pid in below(os.getpid()):
        if is_playwrights(pid):
            os.kill(pid, signal.SIGKILL)
            await_end(pid)


@pytest.mark.parametrize("death", [browser_is_killed, its_place_is_killed, playwright_is_killed])
async def test_a_browser_that_dies_says_so_in_every_answer_and_starts_again(
    at: Browsing, death: Callable[[LiveContext], None]
) -> None:
    runtime = await at.launch("ends", alias=death.__name__.replace("_", "-")[:20], url=SITE)
    alias = death.__name__.replace("_", "-")[:20]
    death(at.live(runtime))
    for verb in LOOKS:
        failure = await at.refused(verb, space="ends", runtime=runtime)
        assert isinstance(failure, RuntimeUnavailable | WrongState) and failure.hint
    await eventually(lambda: at.state(runtime)[0] == "failed")
    assert at.state(runtime)[1]
    assert await at.launch("ends", alias=alias, url=SITE) == runtime
    await at.call("snapshot", space="ends", runtime=runtime)
    await at.call("delete", space="ends", runtime=runtime)


async def test_a_page_that_crashes_says_so_until_it_is_loaded_anew(at: Browsing) -> None:
    runtime = await at.launch("ends", alias="crashes", url=SITE)
    live = at.browsers.started(runtime)
    for pid in chromium_of(live.live, "renderer"):
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: live.pages["p1"].crashed)
    for verb in ("snapshot", "text", "screenshot"):
        failure = await at.refused(verb, space="ends", runtime=runtime)
        assert "crashed" in failure.message
    await at.call("pages", space="ends", runtime=runtime)
    assert (await at.call("navigate", space="ends", runtime=runtime, url=SITE)).page == "p1"
    await at.call("snapshot", space="ends", runtime=runtime)
    await at.call("delete", space="ends", runtime=runtime)


async def test_a_page_that_never_answers_holds_nobody(at: Browsing) -> None:
    at.net.pages["/busy"] = "<script>setTimeout(() => { for (;;); }, 100)</script>busy"
    runtime = await at.launch("ends", alias="busy", url=SITE + "busy")
    (opened,) = at.browsers.started(runtime).pages.values()
    with anyio.fail_after(20):
        while not await opened.hangs():
            pass
    assert isinstance(await at.refused("snapshot", space="ends", runtime=runtime), SpacesError)
    assert (await at.call("navigate", space="ends", runtime=runtime, url=SITE)).page == "p1"
    assert "nothing here" in (await at.call("snapshot", space="ends", runtime=runtime)).snapshot
    await at.call("delete", space="ends", runtime=runtime)


async def test_a_browser_that_stands_still_is_let_go_of_in_time(at: Browsing) -> None:
    """Chromium answers nothing any more, detaching included: nobody waits for it, and it goes on where it was."""
    if at.browsers.driver.name != "local":
        pytest.skip("what stands still is Chromium, whatever is around it")
    runtime = await at.launch("ends", alias="still", url=SITE)
    await at.call("record_start", space="ends", runtime=runtime)
    live = at.browsers.started(runtime)
    (chromium,) = chromium_of(live.live)
    async with AsyncExitStack() as looking:
        found = await looking.enter_async_context(worlds(live.live.context, live.pages["p1"].page))
        os.kill(chromium, signal.SIGSTOP)
        try:
            with anyio.fail_after(PATIENCE_S):
                with pytest.raises(OutOfReachError):
                    await found.forget_history()
                with pytest.raises(TimedOut):
                    await looking.enter_async_context(worlds(live.live.context, live.pages["p1"].page))
                await looking.aclose()
                assert await live.recording.discard_before_secret()
        finally:
            os.kill(chromium, signal.SIGCONT)
    assert "nothing here" in (await at.call("snapshot", space="ends", runtime=runtime)).snapshot
    await at.call("delete", space="ends", runtime=runtime)


FORM = "<button>go</button><input aria-label=name><select aria-label=kind><option>a</select><input type=file aria-label=file>"
STOPS = (
    "() => void setTimeout(() => { const ask = new XMLHttpRequest(); ask.open('GET', '/never', false); ask.send() })"
)
"""The page does nothing any more, and costs no processor time: the answer never comes."""
ON_A_PAGE: dict[str, dict[str, Any]] = {
    "back": {}, "forward": {}, "reload": {}, "pages": {}, "open": {}, "snapshot": {}, "text": {}, "console": {},
    "network": {}, "downloads": {}, "logout": {}, "record_start": {}, "record_stop": {}, "connect": {},
    "navigate": {"url": SITE}, "activate": {"page": "p1"}, "close": {"page": "p1"},
    "screenshot": {"full_page": True}, "pdf": {"to": "page.pdf"}, "click": {"ref": "e1"},
    "fill": {"fields": {"e2": "a", "e3": "a"}}, "press": {"keys": "a", "ref": "e2"}, "select": {"ref": "e3", "options": ["a"]},
    "hover": {"ref": "e1"}, "drag": {"ref": "e1", "to": "e2"}, "scroll": {"by": 100}, "dialog": {"accept": True},
    "wait_for": {"gone": "go", "timeout_s": 1}, "evaluate": {"script": "1", "timeout_s": 1},
    "upload": {"ref": "e4", "paths": ["page.txt"]}, "download": {"id": "d1", "to": "page.bin"},
    "login": {"secret": "prod/crm"},
    "execute": {"steps": [{"call": "page.evaluate", "args": ["1"], "options": {"timeoutMs": 1000}}]},
}  # fmt: skip
OF_A_RUNTIME = {"launch", "list", "get", "stop", "delete", "forget", "methods", "disconnect"}
OF_EXECUTE = {"look_step", "act_step", "script_step"}


async def test_no_operation_waits_for_a_page_that_never_answers(at: Browsing) -> None:
    if at.browsers.driver.name != "local":
        pytest.skip("what hangs is the page, whatever is around it")
    known = {one.id.partition(".")[2] for one in CATALOGUE if one.id.startswith("browser.")}
    assert known == {*ON_A_PAGE, *OF_A_RUNTIME, *OF_EXECUTE}
    space = await at.space("hangs", policy={"preset": "permissive"}, limits={"runtimes": len(ON_A_PAGE)})
    at.net.pages["/form"] = FORM
    little = {"limits": {"cpu_cores": 0.05, "memory_bytes": 64 << 20, "disk_bytes": 8 << 20, "pids": 8}}
    took: dict[str, float] = {}

    async def hanging(verb: str) -> None:
        runtime = await at.launch(space, alias=verb.replace("_", "-"), url=f"{SITE}form", scope=little)
        live = at.browsers.started(runtime)
        await at.call("snapshot", space=space, runtime=runtime)
        if verb == "record_stop":
            await at.call("record_start", space=space, runtime=runtime)
        await live.pages["p1"].page.evaluate(STOPS)
        began = time.monotonic()
        with suppress(SpacesError):
            await at.call(verb, space=space, runtime=runtime, **ON_A_PAGE[verb])
        took[verb] = time.monotonic() - began
        async with live.turn(Redactor(), run_id=""):
            pass

    async with anyio.create_task_group() as together:
        for verb in ON_A_PAGE:
            together.start_soon(hanging, verb)
    assert {verb: seconds for verb, seconds in took.items() if seconds > PATIENCE_S} == {}
    await at.world.govern("space.delete", space=space, force=True)


async def test_a_script_that_asks_is_answered(at: Browsing) -> None:
    if at.browsers.driver.name != "local":
        pytest.skip("what asks is the page, whatever is around it")
    space = await at.space("asks", policy={"preset": "permissive"})
    runtime = await at.launch(space, url=SITE)
    with anyio.fail_after(20):
        asked = await at.call("evaluate", space=space, runtime=runtime, script="confirm('Sure?')")
        assert asked.dialog.message == "Sure?" and asked.result is None
        answer = await at.call("dialog", space=space, runtime=runtime, accept=True)
    assert answer.dialog is None
    await at.call("delete", space=space, runtime=runtime)


# The daemon around them


async def test_spaces_take_their_browsers_along(at: Browsing) -> None:
    world = at.world
    space = await at.space("goes")
    runtime = await at.launch(space, url=SITE, profile="work")
    await world.govern("space.down", space=space)
    assert at.state(runtime)[0] == "stopped"
    assert isinstance(await at.refused("snapshot", space=space, runtime=runtime), SpacesError)
    await world.govern("space.up", space=space)
    assert await at.launch(space, alias="browser", url=SITE) == runtime
    host = host_of(at.live(runtime))
    await world.govern("space.delete", space=space, force=True)
    assert at.browsers.runtimes.get(runtime) is None
    assert not host.contexts
    assert world.count("SELECT count(*) FROM browser_profiles WHERE space_id = ?", space) == 0
    assert world.count("SELECT count(*) FROM browsers WHERE runtime_id = ?", runtime) == 0


async def test_a_space_that_idles_stops_its_browsers(folder: Path, net: SmallNet) -> None:
    ahead = [0.0]
    clock = Clock(now=lambda: time.time() + ahead[0])
    async with browsing(folder, net, clock=clock) as at:
        space = await at.space("idles", idle_timeout_s=600)
        runtime = await at.launch(space, url=SITE)
        ahead[0] = 700
        at.world.use(Lifecycle)._wake.set()
        await eventually(lambda: at.state(runtime)[0] == "stopped")
        assert at.state(runtime)[1] == "nobody used the space"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"driver": "container", "docker_host": "unix:///nowhere/docker.sock"}, ("engine", "doctor")),
        ({"driver": "container", "browser_image": "no-such-image:1"}, ("no-such-image:1", "make image")),
        ({"driver": "local", "browser_executable": "/nowhere/chromium"}, ("/nowhere/chromium", "browser_executable")),
    ],
)
async def test_what_is_missing_is_named_with_what_mends_it(
    folder: Path, net: SmallNet, settings: dict[str, str], words: tuple[str, ...]
) -> None:
    async with browsing(folder, net, **settings) as at:  # type: ignore[arg-type]
        failure = await at.refused("launch", space=await at.space("lacks"))
        said = f"{failure.message} {failure.hint}"
        assert isinstance(failure, RuntimeUnavailable) and [word for word in words if word not in said] == []


async def test_without_an_engine_browsers_are_this_machines_own(folder: Path, net: SmallNet) -> None:
    async with browsing(folder, net, driver="auto", docker_host="unix:///nowhere/docker.sock") as at:
        space = await at.space("falls")
        assert (await at.call("launch", space=space)).driver == "local"
        runtime = await at.launch(space, url=SITE)
        assert type(host_of(at.live(runtime))).__name__ == "LocalHost"


async def test_with_an_engine_browsers_are_in_containers(folder: Path, net: SmallNet) -> None:
    async with browsing(folder, net, driver="auto") as at:
        runtime = await at.launch(await at.space("rises"), url=SITE)
        assert type(host_of(at.live(runtime))).__name__ == "ContainedHost"


NO_SANDBOX = (
    "[7:7:1121/120000.123456:FATAL:content/browser/zygote_host/zygote_host_impl_linux.cc:132] No usable sandbox!"
)


def program_of(folder: Path, content: str) -> Path:
    """One that Chromium's user can run."""
    folder.chmod(0o755)
    program = folder / "chromium"
    program.write_text(content)
    program.chmod(0o755)
    return program


async def test_a_chromium_that_may_build_no_sandbox_is_said_with_the_command(folder: Path, net: SmallNet) -> None:
    program = program_of(folder, f"#!/bin/sh\necho '{NO_SANDBOX}' >&2\nexit 133\n")
    async with browsing(folder, net, browser_executable=str(program)) as at:
        failure = await at.refused("launch", space=await at.space("boxes"))
        assert isinstance(failure, RuntimeUnavailable) and "sandbox" in failure.message
        assert "namespaces" in failure.hint
        # What the process around Chromium has to say is said as well.
        program_of(folder, "")
        assert "Exec format error" in (await at.refused("launch", space="boxes")).message


def test_the_switch_that_restricts_namespaces_is_found(tmp_path: Path) -> None:
    for folder in ("kernel", "user"):
        (tmp_path / folder).mkdir()
    (tmp_path / "kernel/apparmor_restrict_unprivileged_userns").write_text("1\n")
    words = own_sandbox.mend("/opt/chrome", switches=tmp_path)
    assert "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0" in words and "/opt/chrome" in words
    (tmp_path / "kernel/apparmor_restrict_unprivileged_userns").write_text("0\n")
    (tmp_path / "user/max_user_namespaces").write_text("0\n")
    assert "sysctl -w user.max_user_namespaces" in own_sandbox.mend("/opt/chrome", switches=tmp_path)


def test_namespaces_are_tried_and_not_assumed() -> None:
    assert own_sandbox.can_be_built(UID)
    # Where none may be made: in a namespace whose own limit is none.
    inside = "echo 0 > /proc/sys/user/max_user_namespaces && exec {} -c '{}'"
    ask = "from mcp_spaces.browser.driver import own_sandbox; raise SystemExit(own_sandbox.can_be_built(0))"
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", inside.format(sys.executable, ask)]
    assert subprocess.run(words, capture_output=True, timeout=20, check=False).returncode == 0


def test_the_command_for_a_chromium_works_where_it_is_printed(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text("NAME=Ubuntu\nID=ubuntu\nID_LIKE=debian\n")
    assert install_command(os_release=release) == f"{sys.executable} -m playwright install chromium"
    release.write_text("ID=debian\n")
    assert "apt-get install chromium-headless-shell" in install_command(os_release=release)
