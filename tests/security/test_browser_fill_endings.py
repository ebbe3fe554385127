"""Browsers that die, calls that are taken back and errors in the middle of a fill: the secret goes with them (K06, L08)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import anyio
import pytest

from mcp_spaces.browser.pages.downloads import Download
from mcp_spaces.errors import WrongState
from mcp_spaces.sandbox.port import Command
from tests.browser.signing import APP, Rig, holds
from tests.browser.site.server import HANDLERS
from tests.browser.site.wire import Answer, Request


async def kill_browser(rig: Rig) -> None:
    await rig.live.live.host.sandbox.stop()  # type: ignore[attr-defined]


async def kill_renderers(rig: Rig) -> None:
    # The brackets keep the shell from finding, and killing, itself.
    script = "for p in /proc/[0-9]*; do grep -qs '[t]ype=renderer' $p/cmdline && kill -9 ${p#/proc/}; done; true"
    sandbox = rig.live.live.host.sandbox  # type: ignore[attr-defined]
    process = await sandbox.start(Command(("/bin/sh", "-c", script)), output=lambda _stream, _chunk: None)
    await process.wait()


async def close_context(rig: Rig) -> None:
    await rig.live.live.context.close()


@pytest.fixture
def slow_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The site takes its time with what is posted."""

    def late(backend: object, request: Request) -> Answer:
        return Answer(b"<!doctype html><title>Late</title>", delay_s=6)

    monkeypatch.setitem(HANDLERS, ("POST", "/plain"), late)


@pytest.mark.parametrize("ending", [kill_browser, kill_renderers, close_context])
async def test_k06_a_browser_that_dies_during_a_fill_takes_the_secret_with_it(
    rig: Rig,
    slow_answer: None,
    monkeypatch: pytest.MonkeyPatch,
    ending: Callable[[Rig], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    assert (await rig.login("/console")).signed_in
    await rig.call("browser.logout")
    rig.site.forget()
    path = await rig.secret()
    signing = asyncio.ensure_future(rig.refusal("browser.login", secret=path, url=f"{APP}/plain"))
    live = rig.live
    with anyio.fail_after(20):
        while not live.secret_inside or not rig.site.holding(rig.site.person.password):  # noqa: ASYNC110 - in a browser
            await anyio.sleep(0.002)
    await ending(rig)
    refused = await signing
    assert rig.site.person.password not in refused.message + refused.hint
    assert await rig.state() == "failed" and await rig.was_opened(path)
    assert not holds((rig.recorded() + caplog.text).encode(), rig.site.person.password)
    assert len(rig.site.holding(rig.site.person.password)) == 1
    # Nothing was tried again by itself, and what pages printed is not among Chromium's last words.
    monkeypatch.undo()
    await rig.launch()
    assert (await rig.login("/plain")).signed_in


async def test_k06_a_call_that_is_taken_back_in_the_middle_closes_the_browser(rig: Rig, slow_answer: None) -> None:
    signing = asyncio.ensure_future(rig.login("/plain"))
    live = rig.live
    with anyio.fail_after(20):
        while not live.secret_inside or not rig.site.holding(rig.site.person.password):  # noqa: ASYNC110 - in a browser
            await anyio.sleep(0.002)
    signing.cancel()
    with pytest.raises(BaseException):  # noqa: B017, PT011 - a cancellation, in whichever form it comes
        await signing
    assert await rig.state() == "failed"


async def test_k06_a_call_that_is_taken_back_at_the_end_leaves_a_browser_that_can_be_used(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No field holds the secret any more; what was downloaded meanwhile is being removed."""
    live, reached = rig.live, asyncio.Event()

    async def hangs(_download: Download) -> None:
        reached.set()
        await asyncio.Event().wait()

    live.begin_secret()
    live.downloads._by_guid["g"] = Download("d1", "g", f"{APP}/", "secret.txt", number=live.downloads.count + 1)
    refused = await rig.refusal("browser.snapshot")
    monkeypatch.setattr(live.downloads, "drop", hangs)
    ending = asyncio.ensure_future(live.end_secret())
    with anyio.fail_after(10):
        await reached.wait()
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    monkeypatch.undo()
    assert (await rig.call("browser.snapshot")).page == "p1" and live.downloads.all() == []
    # And where one is stuck all the same, the hint is one that can be followed.
    assert "browser_stop" in refused.hint
    live.begin_secret()
    await rig.call("browser.stop")
    await rig.launch()
    assert (await rig.call("browser.snapshot")).page == "p1"


async def test_l08_an_error_of_playwright_with_the_secret_in_it_is_told_without(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    password = rig.site.person.password

    async def fails(*_: object, **__: object) -> None:
        raise RuntimeError(f"cannot set {password}")

    monkeypatch.setattr("mcp_spaces.browser.pages.worlds.Worlds.call", fails)
    refused = await rig.refusal("browser.login", secret=await rig.secret(), url=f"{APP}/plain")
    assert isinstance(refused, WrongState) and refused.__suppress_context__
    assert password not in refused.message + refused.hint + caplog.text + rig.recorded()
