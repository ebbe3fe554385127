"""What is done by refs, what changes by it, and what stands in its way."""

from __future__ import annotations

import re
from typing import Any

from mcp_spaces.errors import InvalidInput, NotFound, WrongState
from tests.browser.operations.tabs import HOST, Tab


async def test_a_form_is_filled_and_sent(tab: Tab) -> None:
    refs = await tab.shop()
    filled = await tab.call("fill", fields={refs["Name"]: "Ann", refs["Colour"]: "blue", refs["As a gift"]: True})
    assert 'value="Ann"' in filled.changes and "checked" in filled.changes and 'value="blue"' in filled.changes
    sent = await tab.call("click", ref=refs["Order"])
    assert sent.url == f"{HOST}/thanks?name=Ann&colour=blue&gift=on" and 'h1 "Thank you"' in sent.changes


async def test_a_click_answers_with_what_changed_and_nothing_else(tab: Tab) -> None:
    refs = await tab.shop()
    await tab.call("click", ref=refs["Press"])
    again = await tab.call("click", ref=refs["Press"])
    assert "Pressed 2" in again.changes and "Order" not in again.changes and again.url is None


async def test_a_ref_of_a_page_before_names_nothing(tab: Tab) -> None:
    refs = await tab.shop()
    await tab.call("navigate", url=f"{HOST}/thanks")
    error = await tab.refused("click", NotFound, ref=refs["Press"])
    assert "snapshot" in error.hint
    await tab.refused("click", InvalidInput, ref="button")


async def test_what_covers_an_element_is_named(tab: Tab) -> None:
    tab.site.made["covered"] = (
        "<button>Below</button><div id=cover style='position:fixed;inset:0;background:#fff8'>Cookies?</div>"
    )
    opened = await tab.call("navigate", url=f"{HOST}/covered")
    (ref,) = re.findall(r'"Below" (e\d+)', opened.changes)
    error = await tab.refused("click", WrongState, ref=ref, timeout_s=2)
    assert "cover" in error.message and "in the way" in error.message


async def test_a_dialog_is_told_and_answered(tab: Tab) -> None:
    refs = await tab.shop()
    asked = await tab.call("click", ref=refs["Ask"])
    assert (asked.dialog.kind, asked.dialog.message) == ("confirm", "Really?")
    await tab.refused("snapshot", WrongState)
    assert 'button "Yes"' in (await tab.call("dialog", accept=True)).changes
    await tab.refused("dialog", WrongState, accept=True)


async def test_a_prompt_that_is_accepted_without_text_gives_what_it_proposes(tab: Tab) -> None:
    tab.site.made["prompt"] = "<button onclick=\"this.textContent = 'For ' + prompt('Name?', 'Bob')\">Name</button>"
    (ref,) = re.findall(r" (e\d+)", (await tab.call("navigate", url=f"{HOST}/prompt")).changes)
    await tab.call("click", ref=ref)
    assert "For Bob" in (await tab.call("dialog", accept=True)).changes
    await tab.call("click", ref=ref)
    await tab.call("dialog", accept=True, text="")
    assert 'button "For"' in (await tab.call("snapshot")).snapshot


async def test_keys_hover_scroll_and_select(tab: Tab) -> None:
    refs = await tab.shop()
    await tab.call("press", ref=refs["Name"], keys="Bob")
    assert 'value="Bob"' in (await tab.call("snapshot")).snapshot
    assert "blue" in (await tab.call("select", ref=refs["Colour"], options=["blue"])).changes
    await tab.call("hover", ref=refs["Press"])
    await tab.call("scroll", by=200)
    await tab.call("drag", ref=refs["Press"], to=refs["Name"])


async def test_a_fill_that_a_dialog_breaks_off_names_what_is_left_and_goes_on_in_nobodys_turn(tab: Tab) -> None:
    tab.site.made["asks"] = "<input aria-label=one oninput=\"alert('Sure?')\">" + "".join(
        f"<input aria-label={name}>" for name in ("two", "three")
    )
    opened = await tab.call("navigate", url=f"{HOST}/asks")
    one, two, three = re.findall(r" (e\d+)", opened.changes)
    filled = await tab.call("fill", fields={one: "1", two: "2", three: "3"}, submit=True)
    assert filled.dialog.message == "Sure?" and filled.left == (two, three)
    await tab.call("dialog", accept=True)
    shown = (await tab.call("snapshot")).snapshot
    assert 'value="1"' in shown and 'value="2"' not in shown and 'value="3"' not in shown
    assert (await tab.call("fill", fields={two: "2", three: "3"})).left is None


async def test_a_ref_that_is_gone_is_told_at_once_by_every_operation(tab: Tab) -> None:
    tab.site.made["shrinks"] = "<button onclick='this.remove()'>Go</button><input aria-label=Stay>"
    opened = await tab.call("navigate", url=f"{HOST}/shrinks")
    go, stay = re.findall(r" (e\d+)", opened.changes)
    await tab.call("click", ref=go)
    given: dict[str, dict[str, Any]] = {
        "click": {},
        "fill": {"ref": None, "fields": {go: True}},
        "press": {"keys": "Enter"},
        "select": {"options": ["x"]},
        "hover": {},
        "drag": {"to": stay},
        "scroll": {},
        "screenshot": {},
    }
    for operation, more in given.items():
        arguments = {name: value for name, value in ({"ref": go} | more).items() if value is not None}
        await tab.refused(operation, NotFound, **arguments)
    await tab.refused("drag", NotFound, ref=stay, to=go)


async def test_a_page_that_scrolls_in_an_element_of_its_own_is_scrolled(tab: Tab) -> None:
    tab.site.made["inner-scroll"] = (
        "<body style='margin:0;overflow:hidden;display:flex;height:100vh'><aside style='width:200px'>Side</aside>"
        "<main style='flex:1;overflow:auto' onscroll=\"document.querySelector('h1').textContent = 'Scrolled'\">"
        "<h1>Top</h1><div style='height:5000px'></div></main>"
    )
    await tab.call("navigate", url=f"{HOST}/inner-scroll")
    await tab.call("scroll", by=600)
    await tab.call("wait_for", text="Scrolled")


async def test_what_a_ref_is_in_is_scrolled_wherever_it_is_on_the_page(tab: Tab) -> None:
    tab.site.made["aside-scroll"] = (
        "<h1>Top</h1><div style='height:90px;width:200px;overflow:auto' "
        "onscroll=\"document.querySelector('h1').textContent = 'Scrolled ' + this.scrollTop\">"
        "<button>First</button><div style='height:5000px'></div></div>"
    )
    opened = await tab.call("navigate", url=f"{HOST}/aside-scroll")
    (ref,) = re.findall(r'"First" (e\d+)', opened.changes)
    await tab.call("scroll", ref=ref)
    assert 'h1 "Top"' in (await tab.call("snapshot")).snapshot
    await tab.call("scroll", ref=ref, by=300)
    await tab.call("wait_for", text="Scrolled 300")
