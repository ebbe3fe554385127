"""What Playwright says, told so that an agent can act on it, and without what was typed (threat L08)."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from playwright.async_api import Error
from playwright.async_api import TimeoutError as PlaywrightTimeout

from mcp_spaces.browser.driver.playwright import PlaywrightDriver
from mcp_spaces.browser.pages.failures import HANGS, NoTunnel, in_time, net_words, translate, translated
from mcp_spaces.errors import DiskFull, InvalidInput, RuntimeUnavailable, SpacesError, TimedOut, WrongState
from tests.processes import ends_with

LOG = "\nCall log:\n  - waiting for element\n"
LATE = "Locator.click: Timeout 5000ms exceeded."


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("Page.goto: Target page, context or browser has been closed", RuntimeUnavailable, "was closed"),
        ("Connection closed while reading from the driver", RuntimeUnavailable, "was closed"),
        ("Page.goto: Page crashed", RuntimeUnavailable, "the page crashed"),
        ("Locator.click: Target crashed", RuntimeUnavailable, "the page crashed"),
        ("Page.goto: net::ERR_TUNNEL_CONNECTION_FAILED at https://a.test/", NoTunnel, "the gateway refused"),
        ("Page.goto: net::ERR_SOMETHING_NEW at https://a.test/", RuntimeUnavailable, "ERR_SOMETHING_NEW"),
        (f"{LATE}{LOG}  - <div id=cover> intercepts pointer events", WrongState, "<div id=cover> is in the way"),
        (f"{LATE}{LOG}  - did not find some options", WrongState, "the list has no such option"),
        ("Locator.fill: Error: Element is not an <input>", WrongState, "it is no text field"),
        (f"{LATE}{LOG}  - element is not enabled", WrongState, "the element is not enabled"),
        (LATE + LOG, TimedOut, "it did not happen in time"),
        ("Locator.click: 'a[' is not a valid selector", InvalidInput, "the selector cannot be read"),
        ("Locator.click: Unexpected token \"\" while parsing", InvalidInput, "the selector cannot be read"),
        ("Locator.check: Error: Element is not a checkbox", WrongState, "Element is not a checkbox."),
        ("Tracing.stop: ENOSPC: no space left on device, write", DiskFull, "the disk is full"),
        ("Page.evaluate: ENOSPC: no space left on device", WrongState, "no space left on device"),
        ("Locator.fill: Error: Something else\nwith what was typed", WrongState, "Something else."),
    ],
)  # fmt: skip
def test_each_failure_has_its_own_words(said: str, kind: type[SpacesError], words: str) -> None:
    told = translate(said, what="click e1")
    assert type(told) is kind and told.message.startswith("click e1: ") and words in told.message
    assert told.hint and "what was typed" not in told.message + told.hint


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("ERR_TUNNEL_CONNECTION_FAILED", "the gateway's decision"),
        ("ERR_EMPTY_RESPONSE", "the gateway's decision"),
        ("ERR_CERT_AUTHORITY_INVALID", "MCP_SPACES_BROWSER_TRUSTED_KEYS"),
        ("ERR_NAME_NOT_RESOLVED", "Check the URL"),
    ],
)
def test_what_to_do_about_a_site_depends_on_why_it_was_not_reached(code: str, hint: str) -> None:
    assert hint in translate(f"Page.goto: net::{code} at https://a.test/", what="go").hint


def test_a_reason_that_nobody_has_words_for_is_bounded() -> None:
    assert net_words("net::ERR_EMPTY_RESPONSE") == "the site sent nothing"
    assert net_words("net::" + "X" * 1_000) == "X" * 100
    assert len(translate("Page.click: " + "x" * 1_000, what="click").message) < 250


def test_l08_the_cause_is_dropped_since_it_holds_what_was_passed() -> None:
    with pytest.raises(TimedOut) as caught, translated("fill e1"):
        raise PlaywrightTimeout('Locator.fill: Timeout 5000ms exceeded.\n  - fill("hunter2")')
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    with pytest.raises(ZeroDivisionError), translated("fill e1"):
        raise ZeroDivisionError


@pytest.mark.anyio
async def test_what_has_no_end_of_its_own_gets_one() -> None:
    with pytest.raises(TimedOut) as late, in_time("read", 0.01):
        await anyio.sleep_forever()
    assert late.value.hint == HANGS and "0.01 s" in late.value.message
    with pytest.raises(WrongState), in_time("read", 5):
        raise Error("Something else")
    with in_time("read", 5):
        await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
async def test_a_driver_that_ends_at_once_is_told_and_leads_to_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYWRIGHT_NODEJS_PATH", str(ends_with("no such library", tmp_path / "node")))
    with pytest.raises(RuntimeUnavailable, match="driver does not start") as told:
        await PlaywrightDriver().playwright()
    assert told.value.hint == "Run: mcp-spaces doctor"
    # Playwright does not wait for the process whose end it noticed; a loop that closes before it is told of it complains.
    for waiting in [one for one in threading.enumerate() if one.name.startswith("asyncio-waitpid-")]:
        await anyio.to_thread.run_sync(waiting.join)
    await anyio.wait_all_tasks_blocked()
