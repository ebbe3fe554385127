"""What is waited for: by an action by itself, and by whoever asks for a text."""

from __future__ import annotations

import re
import threading

import pytest

from mcp_spaces.browser import looking
from mcp_spaces.browser.pages import reading
from mcp_spaces.errors import InvalidInput, TimedOut
from tests.browser.operations.tabs import HOST, Tab


async def test_what_an_action_fetches_is_waited_for(tab: Tab) -> None:
    refs = await tab.shop()
    done = await tab.call("click", ref=refs["Fetch"])
    assert done.settled and "it came" in done.changes


async def test_an_element_that_comes_to_rest_is_waited_for(tab: Tab) -> None:
    tab.site.made["moving"] = (
        "<style>@keyframes m { from { margin-left: 0 } to { margin-left: 400px } } button { animation: m .3s }</style>"
        "<button onclick=\"this.textContent = 'hit'\">Moving</button>"
    )
    opened = await tab.call("navigate", url=f"{HOST}/moving")
    (ref,) = re.findall(r'"Moving" (e\d+)', opened.changes)
    assert '"hit"' in (await tab.call("click", ref=ref)).changes


async def test_waiting_for_a_text_ends_with_it_or_says_that_it_did_not_come(tab: Tab) -> None:
    tab.site.made["slow"] = (
        "<p>Wait</p><script>setTimeout(() => document.body.innerHTML = '<p>Ready</p>', 3000)</script>"
    )
    await tab.call("navigate", url=f"{HOST}/slow")
    assert "Ready" in (await tab.call("wait_for", text="Ready", timeout_s=20)).changes
    await tab.call("wait_for", gone="Wait")
    await tab.refused("wait_for", TimedOut, text="Never", timeout_s=0.2)
    await tab.refused("wait_for", InvalidInput, text="a", url="b")


@pytest.mark.usefixtures("usual_settling")
@pytest.mark.parametrize("way", ["click", "fill", "execute"])
async def test_what_leads_to_a_slow_page_is_done_and_the_page_is_waited_for_by_name(
    tab: Tab, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tab.site.made["form"] = "<form action=/slow-thanks><input aria-label=Name><button>Order</button></form>"
    tab.site.made["slow-thanks"] = "<h1>Ordered</h1>"
    came = tab.site.held["slow-thanks"] = threading.Event()
    refs = re.findall(r'"(\w+)" (e\d+)', (await tab.call("navigate", url=f"{HOST}/form")).changes)
    acts = {"click": {"ref": dict(refs)["Order"]}, "fill": {"fields": {dict(refs)["Name"]: "Ann"}, "submit": True}}
    steps = [{"call": "page.click", "args": ["text=Order"], "ref": "p1", "options": {"timeoutMs": 2_000}}]
    # Only here: pages that can be read have the usual time, however busy this machine is.
    monkeypatch.setattr(reading, "READ_S", 1.0)
    monkeypatch.setattr(looking, "CAPTURE_S", 1.0)
    try:
        if way == "execute":
            assert (await tab.call("execute", steps=steps)).events[0].ok
        else:
            done = await tab.call(way, timeout_s=2, **acts[way])
            assert not done.settled and f"still loading {HOST}/slow-thanks" in done.changes
        looks: dict[str, dict[str, object]] = {"snapshot": {}, "text": {}, "screenshot": {}}
        others: dict[str, dict[str, object]] = {"click": {"ref": "e1"}, "wait_for": {"text": "Never", "timeout_s": 0.5}}
        for operation, more in (looks | others).items():
            error = await tab.refused(operation, TimedOut, **more)
            assert f"still loading {HOST}/slow-thanks" in error.message and "do not repeat" in error.hint
    finally:
        came.set()
    monkeypatch.undo()
    assert "Ordered" in (await tab.call("wait_for", text="Ordered", timeout_s=20)).changes


async def test_a_text_is_gone_only_when_none_of_it_is_shown(tab: Tab) -> None:
    tab.site.made["twice"] = "<p hidden>Loading</p><p>Loading</p>"
    await tab.call("navigate", url=f"{HOST}/twice")
    await tab.refused("wait_for", TimedOut, gone="Loading", timeout_s=0.5)
    await tab.call("wait_for", text="Loading", timeout_s=5)


async def test_a_text_in_a_frame_is_waited_for_and_one_in_a_hidden_frame_is_not_shown(tab: Tab) -> None:
    tab.site.made["told"] = "<p>Paid</p><script>setTimeout(() => document.body.innerHTML = 'Sent', 1000)</script>"
    tab.site.made["tells"] = "<h1>Order</h1><iframe src=/told></iframe>"
    tab.site.made["hides"] = "<h1>Order</h1>" + "".join(
        f"<iframe src=/stays style='{how}'></iframe>" for how in ("display:none", "visibility:hidden")
    )
    await tab.call("navigate", url=f"{HOST}/tells")
    await tab.call("wait_for", text="Sent", timeout_s=20)
    await tab.call("wait_for", gone="Paid", timeout_s=20)
    await tab.refused("wait_for", TimedOut, gone="Sent", timeout_s=0.5)
    tab.site.made["stays"] = "<p>Stays</p>"
    tab.site.made["leaves"] = (
        "<iframe src=/stays></iframe><script>setTimeout(() => document.querySelector('iframe').remove(), 1500)</script>"
    )
    await tab.call("navigate", url=f"{HOST}/leaves")
    await tab.call("wait_for", gone="Stays", timeout_s=20)
    # A frame that goes gives up, and the others do not.
    tab.site.made["leaves"] += "<script>setTimeout(() => document.body.append('Came'), 2000)</script>"
    await tab.call("navigate", url=f"{HOST}/leaves")
    await tab.call("wait_for", text="Came", timeout_s=20)
    await tab.call("navigate", url=f"{HOST}/hides")
    await tab.refused("wait_for", TimedOut, text="Stays", timeout_s=0.5)


async def test_who_looks_at_a_page_that_hangs_is_told_the_way_out(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    tab.site.made["hangs"] = "<button onclick='for (;;);'>Hang</button>"
    (ref,) = re.findall(r'"Hang" (e\d+)', (await tab.call("navigate", url=f"{HOST}/hangs")).changes)
    monkeypatch.setattr(reading, "READ_S", 0.5)
    await tab.refused("click", TimedOut, ref=ref, timeout_s=2)
    assert "browser_navigate" in (await tab.refused("snapshot", TimedOut)).hint
    monkeypatch.undo()
    tab.site.made["next"] = "<p>Next</p>"
    assert (await tab.call("navigate", url=f"{HOST}/next")).status == 200
