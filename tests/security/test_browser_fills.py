"""While a secret is in a browser nobody looks at it, whatever asks and whatever the page does; nor has it windows without end."""

from __future__ import annotations

import anyio
import pytest

from mcp_spaces.browser.model import PAGES_MAX
from mcp_spaces.browser.operations import OPERATIONS
from mcp_spaces.errors import WrongState
from tests.browser.signing import APP, SPACE, Rig, holds

INSIDE = sorted(
    one.id
    for one in OPERATIONS
    if one.in_runtime and one.id not in ("browser.stop", "browser.delete", "browser.disconnect")
)


@pytest.mark.parametrize("operation", INSIDE)
async def test_l01_l02_l03_l04_l05_b11_nothing_is_done_with_a_browser_while_a_secret_is_inside(
    opened: Rig, operation: str
) -> None:
    rig = opened
    if not rig.runtime:
        await rig.fresh()
    (declared,) = [one for one in OPERATIONS if one.id == operation]
    example = {name: value for name, value in declared.example.items() if name not in ("space", "runtime")}
    if operation == "browser.upload":
        await rig.app.pipeline.call(
            rig.caller, "storage.upload", {"space": SPACE, "path": "report.csv", "content": "a,b", "overwrite": True}
        )
    live = rig.live
    live.begin_secret()
    try:
        if operation == "browser.get":
            # It says that the browser is there, and no more.
            assert (await rig.call(operation)).pages == ()
            return
        refused = await rig.refusal(operation, **example)
    finally:
        await live.end_secret()
    assert isinstance(refused, WrongState) and "secret" in refused.message


async def test_l06_an_address_that_holds_the_secret_is_shown_by_nobody_during_a_fill_or_later(rig: Rig) -> None:
    """A login form that is sent by GET, and whoever asks for the browser meanwhile."""
    password, live = rig.site.person.password, rig.live
    assert (await rig.login("/plain")).signed_in
    live.begin_secret()
    await live.pages["p1"].page.goto(f"{APP}/plain?password={password}")
    assert (await rig.call("browser.get")).pages == ()
    await live.end_secret()
    shown = await rig.call("browser.get")
    assert len(shown.pages) == 1 and not holds(shown.model_dump_json().encode(), password)
    assert not holds(rig.recorded().encode(), password)


async def test_l05_l06_b11_what_a_page_prints_and_opens_during_a_fill_is_not_kept(rig: Rig) -> None:
    page = rig.live.pages["p1"]
    await rig.call("browser.navigate", url=f"{APP}/plain")
    printed = len(page.console)
    rig.live.begin_secret()
    await page.page.evaluate(
        "console.log('canary-in-a-line'); fetch('/canary-in-a-path?x=canary'); window.open('/plain')"
    )
    await page.settle(navigations=page.navigations)
    with anyio.fail_after(10):
        while len(rig.live.live.context.pages) > 1:  # noqa: ASYNC110 - the browser closes it
            await anyio.sleep(0.01)
    await rig.live.end_secret()
    assert len(page.console) == printed and list(rig.live.pages) == ["p1"]
    assert "canary" not in (await rig.call("browser.network")).model_dump_json()


async def test_d14_windows_without_end_are_closed(rig: Rig) -> None:
    await rig.call("browser.navigate", url=f"{APP}/plain")
    page = rig.live.pages["p1"].page
    await page.evaluate(f"for (let at = 0; at < {PAGES_MAX + 9}; at++) window.open('about:blank')")
    assert len((await rig.call("browser.pages")).pages) <= PAGES_MAX
