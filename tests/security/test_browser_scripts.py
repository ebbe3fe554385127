"""An agent's own scripts and secrets are never in one browser at a time (L04)."""

from __future__ import annotations

import pytest

from mcp_spaces.errors import WrongState
from tests.browser.signing import APP, Rig

LISTENER = "document.addEventListener('input', event => { window.taken = [...event.target.value].reverse().join('') })"
TAKEN = "window.taken || (window.opener || {}).taken || ''"
HOOKED_WINDOW = """() => { const made = window.open('/spa');
  made.addEventListener('DOMContentLoaded', () => made.document.addEventListener('input', event => {
    window.taken = [...event.target.value].reverse().join('') })); }"""


async def script_by_step(rig: Rig, script: str, page: str = "p1") -> None:
    steps = [{"call": "page.evaluate", "ref": page, "args": [script]}]
    assert (await rig.call("browser.execute", steps=steps)).status == "completed"


@pytest.mark.parametrize("way", ["evaluate", "step", "opener", "lease"])
async def test_l04_no_secret_goes_into_a_browser_that_a_script_of_the_agent_ran_in(rig: Rig, way: str) -> None:
    """What it planted reads the password as it is filled in, and gives it back in a form that nobody searches for."""
    if way == "lease":
        await rig.fresh(options={"isolation": "process"})
    await rig.call("browser.navigate", url=f"{APP}/spa")
    page = None
    if way == "evaluate":
        await rig.call("browser.evaluate", script=LISTENER)
    elif way == "step":
        await script_by_step(rig, LISTENER)
    elif way == "opener":
        await rig.call("browser.evaluate", script=HOOKED_WINDOW)
        page = (await rig.call("browser.pages")).pages[-1].page
    else:
        await rig.call("browser.connect")
        await rig.call("browser.disconnect")
    path = await rig.secret()
    for url in (None, f"{APP}/spa"):
        refused = await rig.refusal("browser.login", secret=path, page=page, url=url)
        assert isinstance(refused, WrongState) and "browser_launch" in refused.hint
    assert not await rig.was_opened(path) and (await rig.call("browser.evaluate", script=TAKEN)).result == ""


async def test_l04_a_document_that_a_secret_was_in_runs_no_script_of_the_agent_s(rig: Rig) -> None:
    """A page of one document keeps what was typed in its own scripts; beside it, another page may reach it."""
    assert (await rig.login("/spa", code=True)).signed_in
    beside = (await rig.call("browser.navigate", url=f"{APP}/plain", new_page=True)).page
    for page in ("p1", beside):
        refused = await rig.refusal("browser.evaluate", script=TAKEN, page=page)
        assert isinstance(refused, WrongState) and "p1" in refused.message and "browser_reload" in refused.hint
        steps = [{"call": "page.evaluate", "ref": page, "args": [TAKEN]}]
        stopped = await rig.call("browser.execute", steps=steps)
        assert stopped.status == "failed" and "p1" in stopped.events[-1].error.message
    await rig.call("browser.reload", page="p1")
    assert (await rig.call("browser.evaluate", script=TAKEN, page=beside)).result == ""


async def test_l04_a_script_in_a_context_of_its_own_keeps_no_secret_from_the_browser_s(rig: Rig) -> None:
    steps = [
        {"call": "browser.newContext"},
        {"call": "browser.newContext", "bind": "apart"},
        {"call": "context.newPage", "ref": "apart", "bind": "q"},
        {"call": "page.evaluate", "ref": "q", "args": ["1 + 1"]},
    ]
    assert (await rig.call("browser.execute", steps=steps)).status == "completed"
    await rig.call("browser.activate", page="p1")
    assert (await rig.login("/plain")).signed_in
    again = [{"call": "page.evaluate", "ref": "q", "args": ["1 + 1"]}]
    assert (await rig.call("browser.execute", steps=again)).events[0].result == 2
