"""The operations of a browser, called as agents call them: a real Chromium in its container, behind the real gateway."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from mcp_spaces.app import App, open_app
from mcp_spaces.browser import page, reading
from mcp_spaces.errors import (
    ApprovalNeeded,
    Conflict,
    Denied,
    ExceedsCeiling,
    InvalidInput,
    NotFound,
    QuotaExceeded,
    RuntimeUnavailable,
    SpacesError,
    TimedOut,
    WrongState,
)
from mcp_spaces.server.unix import make_private
from mcp_spaces.settings import Settings
from tests.browser.chromium import Site, serving
from tests.security.app import short_folder

pytestmark = pytest.mark.anyio

PATIENCE_S = 60
HOST = "http://page.test"
SHOP = """<!doctype html><title>Shop</title><h1>Shop</h1>
<form action="/thanks"><label>Name <input name=name></label>
<label>Colour <select name=colour><option>red<option>blue</select></label>
<label><input type=checkbox name=gift> As a gift</label>
<button>Order</button></form>
<button onclick="document.querySelector('#said').textContent = 'Pressed ' + ++window.n">Press</button><p id=said></p>
<button onclick="this.textContent = confirm('Really?') ? 'Yes' : 'No'">Ask</button>
<button onclick="fetch('/late').then(r => r.text()).then(t => document.querySelector('#said').textContent = t)">Fetch</button>
<a href="/thanks" target=_blank>Elsewhere</a> <a href="/file.csv" download="../../x.csv">Report</a>
<label>File <input type=file onchange="document.querySelector('#said').textContent = this.files[0].name + this.files[0].size"></label>
<script>window.n = 0; console.warn('careful')</script>"""


@dataclass
class Tab:
    """One browser of the world's app, for one test."""

    app: App
    site: Site
    alias: str

    async def call(self, operation: str, **arguments: Any) -> Any:
        with anyio.fail_after(PATIENCE_S):
            given = {"space": "work", "runtime": self.alias, **arguments}
            return (await self.app.pipeline.call(self.app.local_agent(), f"browser.{operation}", given)).output

    async def refused(self, operation: str, kind: type[SpacesError], **arguments: Any) -> SpacesError:
        with pytest.raises(kind) as caught:
            await self.call(operation, **arguments)
        assert caught.value.hint
        return caught.value

    async def shop(self) -> dict[str, str]:
        """The shop's page; refs by name."""
        self.site.made["shop"] = SHOP
        opened = await self.call("navigate", url=f"{HOST}/shop")
        return dict(re.findall(r'"([^"]+)" (e\d+)', opened.changes))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[tuple[App, Site]]:
    with short_folder() as folder, serving() as site:
        site.made.update({"thanks": "<title>Thanks</title><h1>Thank you</h1>", "late": "it came"})
        port = site.origin.rpartition(":")[2]
        settings = Settings(
            state_dir=folder / "state",
            vault_key_source="file",
            browser_pool_size=0,
            network_private_hosts=(f"page.test:80=127.0.0.1:{port}",),
        )
        make_private(settings.state_dir)
        async with open_app(settings) as app:
            network = {"mode": "allowlist", "allow": ["page.test"]}
            operator = app.operator()
            agent = (await app.pipeline.call(operator, "principal.list", {})).output.model_dump()["principals"][0]
            grant = {"principal": agent["id"], "scope": {"network": network, "limits": {"runtimes": 8}}}
            await app.pipeline.call(operator, "principal.grant", grant)
            wanted = {"name": "work", "mounts": {"network": network}, "limits": {"runtimes": 8}}
            await app.pipeline.call(app.local_agent(), "space.create", wanted)
            yield app, site


@pytest.fixture
async def tab(world: tuple[App, Site]) -> AsyncIterator[Tab]:
    app, site = world
    tab = Tab(app, site, "tab")
    with anyio.fail_after(PATIENCE_S):
        await app.pipeline.call(app.local_agent(), "browser.launch", {"space": "work", "alias": "tab"})
    yield tab
    with anyio.fail_after(PATIENCE_S):
        await app.pipeline.call(app.local_agent(), "browser.delete", {"space": "work", "runtime": "tab"})


# ------------------------------------------------------------------------------------------------------- going


async def test_frames_are_in_every_snapshot_and_what_is_left_out_is_said(tab: Tab) -> None:
    tab.site.made["inner"] = "<button>Inside</button>"
    tab.site.made["frames"] = "<iframe src=/inner></iframe>" * 14 + (
        "<button onclick=\"document.querySelectorAll('iframe').forEach((one, at) => at < 4 && one.remove())\">Less</button>"
    )
    await tab.call("navigate", url=f"{HOST}/frames")
    first, shown = [(await tab.call("snapshot")).snapshot for _ in range(2)]
    for outline in (first, shown):
        assert re.findall(r'"Inside" (f\d+)e', outline) == [f"f{number}" for number in range(1, 13)]
        assert "(2 of 14 frames left out" in outline
    await tab.call("click", ref=re.findall(r'"Less" (e\d+)', shown)[0])
    shown = (await tab.call("snapshot")).snapshot
    assert re.findall(r'"Inside" (f\d+)e', shown) == [f"f{number}" for number in range(5, 15)]
    assert "left out" not in shown
    await tab.refused("click", NotFound, ref="f2e1")


async def test_what_is_in_a_frame_is_shown_wherever_its_iframe_stands(tab: Tab) -> None:
    tab.site.made["pay"] = "<button>Pay</button>" + "".join(f"<p>Term {number} of many</p>" for number in range(200))
    tab.site.made["long"] = (
        "".join(f"<p>Paragraph {number} of a long page</p>" for number in range(300))
        + "<main><iframe src=/pay></iframe>"
    )
    opened = await tab.call("navigate", url=f"{HOST}/long")
    assert "iframe" not in opened.changes and "ref=REF" in opened.changes
    below = (await tab.call("snapshot", from_line=290)).snapshot
    main, iframe = re.findall(r"(?:main|iframe) (e\d+)", below)
    assert 'button "Pay" f1e1' in below
    assert 'button "Pay" f1e1' in (await tab.call("snapshot", ref=main)).snapshot
    alone = await tab.call("snapshot", ref=iframe, max_characters=1_000)
    assert (
        alone.snapshot.startswith('button "Pay" f1e1') and f"ref={iframe} from_line={alone.next_line}" in alone.snapshot
    )
    more = await tab.call("snapshot", ref=iframe, from_line=alone.next_line)
    assert more.snapshot.startswith(f'"Term {alone.next_line - 2} of many"')


async def test_long_frames_share_the_room_of_one_snapshot(tab: Tab) -> None:
    tab.site.made["terms"] = "".join(f"<p>Term {number} of many</p>" for number in range(500))
    tab.site.made["six"] = "<iframe src=/terms></iframe>" * 6
    await tab.call("navigate", url=f"{HOST}/six")
    shown = (await tab.call("snapshot", max_characters=6_000)).snapshot
    assert len(shown) < 7_000 and "(5 of 6 frames have no room here" in shown
    (last,) = re.findall(r"iframe (e6)", shown)
    assert "Term 0" in (await tab.call("snapshot", ref=last)).snapshot


async def test_a_page_is_answered_with_its_outline(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "SETTLE_S", 10.0)
    tab.site.made["shop"] = SHOP
    opened = await tab.call("navigate", url=f"{HOST}/shop")
    assert (opened.status, opened.title, opened.settled) == (200, "Shop", True)
    assert 'button "Order" e' in opened.changes and 'textbox "Name" e' in opened.changes


async def test_a_host_outside_of_the_mount_answers_with_the_rule(tab: Tab) -> None:
    opened = await tab.call("navigate", url="http://elsewhere.test/")
    assert opened.status == 403 and "network.allow" in opened.changes
    error = await tab.refused("navigate", RuntimeUnavailable, url="https://elsewhere.test/")
    assert "gateway" in error.message


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "chrome://version", "javascript:alert(1)", "data:text/html,x", "view-source:http://page.test/",
     "blob:http://page.test/1", "ftp://page.test/", "http://ann:secret@page.test/", "http://page.test\\@evil.test/", "page.test"],
)  # fmt: skip
async def test_b10_only_web_addresses_are_gone_to(tab: Tab, url: str) -> None:
    await tab.refused("navigate", InvalidInput, url=url)


async def test_history_and_pages(tab: Tab) -> None:
    await tab.shop()
    await tab.call("navigate", url=f"{HOST}/thanks")
    assert (await tab.call("back")).url == f"{HOST}/shop"
    assert (await tab.call("forward")).url == f"{HOST}/thanks"
    assert (await tab.call("reload")).status == 200
    opened = await tab.call("open", url=f"{HOST}/shop")
    assert [one.page for one in (await tab.call("pages")).pages] == ["p1", opened.page]
    await tab.call("activate", page="p1")
    assert (await tab.call("snapshot")).title == "Thanks"
    assert (await tab.call("close", page="p1")).active == opened.page
    await tab.refused("snapshot", NotFound, page="p1")


# ------------------------------------------------------------------------------------------------------ acting


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


async def test_what_an_action_fetches_is_waited_for(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "SETTLE_S", 10.0)
    refs = await tab.shop()
    done = await tab.call("click", ref=refs["Fetch"])
    assert done.settled and "it came" in done.changes


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
    error = await tab.refused("click", WrongState, ref=ref, timeout_s=0.5)
    assert "cover" in error.message and "in the way" in error.message


async def test_an_element_that_comes_to_rest_is_waited_for(tab: Tab) -> None:
    tab.site.made["moving"] = (
        "<style>@keyframes m { from { margin-left: 0 } to { margin-left: 400px } } button { animation: m .3s }</style>"
        "<button onclick=\"this.textContent = 'hit'\">Moving</button>"
    )
    opened = await tab.call("navigate", url=f"{HOST}/moving")
    (ref,) = re.findall(r'"Moving" (e\d+)', opened.changes)
    assert '"hit"' in (await tab.call("click", ref=ref)).changes


async def test_a_dialog_is_told_and_answered(tab: Tab) -> None:
    refs = await tab.shop()
    asked = await tab.call("click", ref=refs["Ask"])
    assert (asked.dialog.kind, asked.dialog.message) == ("confirm", "Really?")
    await tab.refused("snapshot", WrongState)
    assert 'button "Yes"' in (await tab.call("dialog", accept=True)).changes
    await tab.refused("dialog", WrongState, accept=True)


async def test_a_window_that_opens_is_named(tab: Tab) -> None:
    refs = await tab.shop()
    assert (await tab.call("click", ref=refs["Elsewhere"])).opened == ["p2"]


async def test_keys_hover_scroll_and_select(tab: Tab) -> None:
    refs = await tab.shop()
    await tab.call("press", ref=refs["Name"], keys="Bob")
    assert 'value="Bob"' in (await tab.call("snapshot")).snapshot
    assert "blue" in (await tab.call("select", ref=refs["Colour"], options=["blue"])).changes
    await tab.call("hover", ref=refs["Press"])
    await tab.call("scroll", by=200)
    await tab.call("drag", ref=refs["Press"], to=refs["Name"])


async def test_waiting_for_a_text_ends_with_it_or_says_that_it_did_not_come(tab: Tab) -> None:
    tab.site.made["slow"] = (
        "<p>Wait</p><script>setTimeout(() => document.body.innerHTML = '<p>Ready</p>', 3000)</script>"
    )
    await tab.call("navigate", url=f"{HOST}/slow")
    assert "Ready" in (await tab.call("wait_for", text="Ready", timeout_s=20)).changes
    await tab.call("wait_for", gone="Wait")
    await tab.refused("wait_for", TimedOut, text="Never", timeout_s=0.2)
    await tab.refused("wait_for", InvalidInput, text="a", url="b")


# ----------------------------------------------------------------------------------------------------- looking


async def test_a_snapshot_in_diff_mode_says_only_what_changed(tab: Tab) -> None:
    refs = await tab.shop()
    assert (await tab.call("snapshot", mode="diff")).mode == "same"
    await tab.call("fill", fields={refs["Name"]: "Ann"})
    assert (await tab.call("snapshot", mode="diff")).mode == "same", "the action has told it already"
    part = await tab.call("snapshot", ref=refs["Name"])
    assert "Order" not in part.snapshot and "Ann" in part.snapshot
    await tab.refused("snapshot", NotFound, ref="e999")


async def test_a_picture_is_shown_kept_and_in_no_record(tab: Tab) -> None:
    await tab.shop()
    shot = await tab.call("screenshot", to="shot.jpg", show_refs=True)
    text, picture = shot.blocks()
    assert picture["mimeType"] == "image/jpeg" and "picture" not in str(text["text"])
    assert shot.kept.path == "shot.jpg" and shot.kept.content_type == "image/jpeg"
    await tab.refused("screenshot", Conflict, to="shot.jpg")
    tab.site.made["tall"] = "<div style='height: 90000px'>tall</div>"
    await tab.call("navigate", url=f"{HOST}/tall")
    await tab.refused("screenshot", QuotaExceeded, full_page=True)


async def test_text_console_network_and_pdf(tab: Tab) -> None:
    await tab.shop()
    assert "As a gift" in (await tab.call("text")).text
    assert (await tab.call("console")).lines == ("warning: careful",)
    (line, *_) = (await tab.call("network")).requests
    assert line.startswith(f"GET {HOST}/shop 200 document")
    assert (await tab.call("pdf", to="page.pdf")).size_bytes > 1_000


# ------------------------------------------------------------------------------------------------------- files


async def test_a_file_goes_from_storage_to_a_page(tab: Tab) -> None:
    refs = await tab.shop()
    given = {"space": "work", "path": "in/data.csv", "content": "a,b\n", "overwrite": True}
    await tab.app.pipeline.call(tab.app.local_agent(), "storage.upload", given)
    assert "data.csv4" in (await tab.call("upload", ref=refs["File"], paths=["in/data.csv"])).changes
    await tab.refused("upload", NotFound, ref=refs["File"], paths=["in/none.csv"])


async def test_b15_a_download_is_kept_under_a_name_of_the_callers_whatever_the_page_calls_it(tab: Tab) -> None:
    refs = await tab.shop()
    tab.site.made["file.csv"] = "one,two\n"
    begun = await tab.call("click", ref=refs["Report"])
    if begun.downloads is None:
        with anyio.fail_after(20):
            while not (begun := await tab.call("downloads")).downloads:  # noqa: ASYNC110 - the browser is another process
                await anyio.sleep(0.05)
        begun_id = begun.downloads[0].id
    else:
        begun_id = begun.downloads[0].partition(" ")[0]
    kept = await tab.call("download", id=begun_id, to="out/report.csv", overwrite=True)
    assert (kept.path, kept.size_bytes) == ("out/report.csv", 8)
    await tab.refused("download", NotFound, id=begun_id, to="out/again.csv")


# ------------------------------------------------------------------------------------------------------ launch


async def test_a_launch_blocks_hosts_and_takes_no_proxy_that_the_space_does_not_mount(tab: Tab) -> None:
    options: dict[str, Any] = {"block_hosts": ["page.test"], "locale": "de-DE", "timezone": "Europe/Berlin"}
    given = {"space": "work", "alias": "blocked", "options": options}
    agent, pipeline = tab.app.local_agent(), tab.app.pipeline
    await pipeline.call(agent, "browser.launch", given)
    blocked = Tab(tab.app, tab.site, "blocked")
    opened = await blocked.call("navigate", url=f"{HOST}/thanks")
    assert opened.status == 403 and "browser.block_hosts" in opened.changes
    await blocked.call("delete")
    with pytest.raises(ExceedsCeiling) as refused:
        await pipeline.call(agent, "browser.launch", {"space": "work", "options": {"proxy": "us"}})
    assert "mount" in refused.value.hint


async def test_resources_that_a_launch_blocks_are_not_loaded(tab: Tab) -> None:
    tab.site.made["pictured"] = "<p>Pictured</p><img src=/picture.png>"
    given = {"space": "work", "alias": "plain", "options": {"block_resources": ["image"]}}
    await tab.app.pipeline.call(tab.app.local_agent(), "browser.launch", given)
    plain = Tab(tab.app, tab.site, "plain")
    await plain.call("navigate", url=f"{HOST}/pictured")
    (picture,) = [one for one in (await plain.call("network")).requests if "picture.png" in one]
    assert "ERR_FAILED" in picture
    await plain.call("delete")


# ------------------------------------------------------------------------------------------------------ policy


async def test_a_policy_that_only_reads_lets_nothing_be_clicked(tab: Tab) -> None:
    refs = await tab.shop()
    operator = tab.app.operator()
    patch = {"space": "work", "patch": {"policy": {"preset": "restrictive"}}}
    await tab.app.pipeline.call(operator, "space.update", patch)
    try:
        assert "Press" in (await tab.call("snapshot")).snapshot
        error = await tab.refused("click", Denied, ref=refs["Press"])
        assert isinstance(error, Denied) and error.rule in ("browser.level", "effects.interacts")
    finally:
        patch["patch"] = {"policy": {"preset": "standard"}}
        await tab.app.pipeline.call(operator, "space.update", patch)


async def test_a_script_of_the_callers_own_asks_first(tab: Tab) -> None:
    await tab.shop()
    error = await tab.refused("evaluate", ApprovalNeeded, script="document.title")
    await tab.app.pipeline.call(tab.app.operator(), "approval.grant", {"approval": error.details()["approval_id"]})
    assert (await tab.call("evaluate", script="document.title")).result == "Shop"


@pytest.mark.parametrize("operation", ["fill", "press", "evaluate"])
async def test_b19_a_reference_to_a_secret_is_never_typed(tab: Tab, operation: str) -> None:
    refs = await tab.shop()
    text = "{{vault:prod/crm}}"
    given: dict[str, dict[str, Any]] = {
        "fill": {"fields": {refs["Name"]: text}},
        "press": {"keys": text},
        "evaluate": {"script": f"'{text}'"},
    }
    error = await tab.refused(operation, InvalidInput, **given[operation])
    assert "browser_login" in error.message


# ------------------------------------------------------------------------------------------- what stands in the way


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


@pytest.mark.parametrize("way", ["click", "fill", "execute"])
async def test_what_leads_to_a_slow_page_is_done_and_the_page_is_waited_for_by_name(
    tab: Tab, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "READ_S", 1.0)
    tab.site.made["form"] = "<form action=/slow-thanks><input aria-label=Name><button>Order</button></form>"
    tab.site.made["slow-thanks"] = "<h1>Ordered</h1>"
    came = tab.site.held["slow-thanks"] = threading.Event()
    refs = re.findall(r'"(\w+)" (e\d+)', (await tab.call("navigate", url=f"{HOST}/form")).changes)
    acts = {"click": {"ref": dict(refs)["Order"]}, "fill": {"fields": {dict(refs)["Name"]: "Ann"}, "submit": True}}
    steps = [{"call": "page.click", "args": ["text=Order"], "ref": "p1", "options": {"timeoutMs": 500}}]
    try:
        if way == "execute":
            assert (await tab.call("execute", steps=steps)).events[0].ok
        else:
            done = await tab.call(way, timeout_s=0.5, **acts[way])
            assert not done.settled and f"still loading {HOST}/slow-thanks" in done.changes
        for operation in ("snapshot", "click", "wait_for"):
            more = {"ref": "e1"} if operation == "click" else {"text": "Never", "timeout_s": 0.5}
            error = await tab.refused(operation, TimedOut, **({} if operation == "snapshot" else more))
            assert f"still loading {HOST}/slow-thanks" in error.message and "do not repeat" in error.hint
    finally:
        came.set()
    assert "Ordered" in (await tab.call("wait_for", text="Ordered", timeout_s=20)).changes


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


@pytest.mark.parametrize(
    ("kind", "bad", "good"),
    [
        ("date", "31.03.2026", "2026-03-31"),
        ("date", "2026-02-31", "2026-02-28"),
        ("time", "1 pm", "13:00"),
        ("week", "14", "2026-W14"),
        ("color", "red", "#ff0000"),
        ("range", "loud", "7"),
        ("number", "abc", "7"),
    ],
)
async def test_what_a_field_cannot_hold_is_refused_with_an_example_and_empties_nothing(
    tab: Tab, kind: str, bad: str, good: str
) -> None:
    tab.site.made["formed"] = f"<input type={kind} aria-label=Field>"
    (ref,) = re.findall(r" (e\d+)", (await tab.call("navigate", url=f"{HOST}/formed")).changes)
    await tab.call("fill", fields={ref: good})
    error = await tab.refused("fill", InvalidInput, fields={ref: bad})
    assert error.hint.startswith("Write it as ")
    assert f'value="{good}"' in (await tab.call("snapshot")).snapshot
    await tab.call("fill", fields={ref: error.hint.removeprefix("Write it as ").removesuffix(".")})


async def test_an_option_that_is_not_there_is_told_as_that(tab: Tab) -> None:
    refs = await tab.shop()
    for operation, given in (
        ("fill", {"fields": {refs["Colour"]: "green"}}),
        ("select", {"ref": refs["Colour"], "options": ["green"]}),
    ):
        error = await tab.refused(operation, WrongState, timeout_s=0.5, **given)
        assert "no such option" in error.message
    assert "true or false" in (await tab.refused("fill", WrongState, fields={refs["As a gift"]: "yes"})).hint
    assert "browser_upload" in (await tab.refused("fill", WrongState, fields={refs["File"]: "a.txt"})).hint


async def test_a_download_is_named_by_the_click_that_led_to_it_and_a_late_one_by_the_next_answer(
    tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = await tab.shop()
    tab.site.made["file.csv"] = "a,b"
    came = tab.site.held["file.csv"] = threading.Event()
    try:
        assert (await tab.call("click", ref=refs["Report"])).downloads is None
    finally:
        came.set()
        del tab.site.held["file.csv"]
    with anyio.fail_after(PATIENCE_S):
        while not (await tab.call("downloads")).downloads:
            await anyio.lowlevel.checkpoint()
    assert [one.split()[0] for one in (await tab.call("click", ref=refs["Press"])).downloads] == ["d1"]
    assert (await tab.call("click", ref=refs["Press"])).downloads is None
    tab.site.held["file.csv"] = begins = threading.Event()
    monkeypatch.setattr(page, "SETTLE_S", 10.0)
    threading.Timer(0.7, begins.set).start()
    assert [one.split()[0] for one in (await tab.call("click", ref=refs["Report"])).downloads] == ["d2"]
    del tab.site.held["file.csv"]


async def test_a_click_that_leads_nowhere_says_where_and_why(tab: Tab) -> None:
    tab.site.made["nowhere"] = "<a href=https://page.test/>Out</a>"
    (ref,) = re.findall(r" (e\d+)", (await tab.call("navigate", url=f"{HOST}/nowhere")).changes)
    gone = await tab.call("click", ref=ref)
    assert gone.url == "https://page.test/" and "did not load: the gateway refused" in gone.changes


async def test_a_button_that_opens_the_choice_of_files_is_given_them(tab: Tab, world: tuple[App, Site]) -> None:
    app, _ = world
    await app.pipeline.call(
        app.local_agent(), "storage.upload", {"space": "work", "path": "a.txt", "content": "hello", "overwrite": True}
    )
    tab.site.made["chooses"] = (
        "<button onclick='field.click()'>Choose</button><input type=file id=field style='display:none'"
        " onchange='said.textContent = this.files[0].name'>"
        "<button onclick=\"const made = document.createElement('input'); made.type = 'file';"
        " made.onchange = () => said.textContent = 'made ' + made.files[0].name; made.click()\">Make</button>"
        "<button>Nothing</button><p id=said>"
    )
    refs = dict(re.findall(r'"(\w+)" (e\d+)', (await tab.call("navigate", url=f"{HOST}/chooses")).changes))
    assert '"a.txt"' in (await tab.call("upload", ref=refs["Choose"], paths=["a.txt"])).changes
    assert '"made a.txt"' in (await tab.call("upload", ref=refs["Make"], paths=["a.txt"])).changes
    error = await tab.refused("upload", WrongState, ref=refs["Nothing"], paths=["a.txt"], timeout_s=0.5)
    assert "opens no choice of files" in error.message


async def test_a_page_that_scrolls_in_an_element_of_its_own_is_scrolled(tab: Tab) -> None:
    tab.site.made["inner-scroll"] = (
        "<body style='margin:0;overflow:hidden;display:flex;height:100vh'><aside style='width:200px'>Side</aside>"
        "<main style='flex:1;overflow:auto' onscroll=\"document.querySelector('h1').textContent = 'Scrolled'\">"
        "<h1>Top</h1><div style='height:5000px'></div></main>"
    )
    await tab.call("navigate", url=f"{HOST}/inner-scroll")
    await tab.call("scroll", by=600)
    await tab.call("wait_for", text="Scrolled")


async def test_operations_are_called_by_the_names_that_hints_give_them(tab: Tab) -> None:
    wanted = {"operation": "browser_pages", "input": {"space": "work", "runtime": tab.alias}}
    answer = await tab.app.pipeline.call(tab.app.local_agent(), "operation.call", wanted)
    assert answer.output.model_dump()["pages"]
    with pytest.raises(InvalidInput):
        await tab.app.pipeline.call(tab.app.local_agent(), "operation.call", {"operation": "operation_call"})


async def test_keys_are_understood_as_people_write_them(tab: Tab) -> None:
    tab.site.made["keys"] = (
        "<input aria-label=text><ol id=seen></ol><script>addEventListener('keydown', event => {"
        "const held = ['ctrl', 'alt', 'shift', 'meta'].filter(one => event[one + 'Key']);"
        "seen.innerHTML += '<li>' + [...held, event.key].join('-')})</script>"
    )
    (ref,) = re.findall(r" (e\d+)", (await tab.call("navigate", url=f"{HOST}/keys")).changes)
    for keys, last in (
        ("Ctrl+k", "ctrl-k"),
        ("ctrl+shift+enter", "ctrl-shift-Enter"),
        ("Cmd+ArrowLeft", "meta-ArrowLeft"),
    ):
        assert f'"{last}"' in (await tab.call("press", ref=ref, keys=keys)).changes
    for keys, last in (("Esc", "Escape"), ("Return", "Enter")):
        assert f'"{last}"' in (await tab.call("press", keys=keys)).changes
    assert "value=" not in (await tab.call("snapshot")).snapshot
    await tab.call("press", ref=ref, keys="a+b+c")
    assert 'value="a+b+c"' in (await tab.call("snapshot")).snapshot


async def test_text_with_a_plus_is_typed_and_keys_that_are_held_are_pressed(tab: Tab) -> None:
    tab.site.made["types"] = "<input aria-label=sum>"
    ref = re.findall(r" (e\d+)", (await tab.call("navigate", url=f"{HOST}/types")).changes)[0]
    await tab.call("press", ref=ref, keys="2+2")
    assert 'value="2+2"' in (await tab.call("snapshot")).snapshot
    await tab.call("press", ref=ref, keys="Control+A")
    await tab.call("press", keys="Shift++")
    assert 'value="+"' in (await tab.call("snapshot")).snapshot


async def test_a_text_is_gone_only_when_none_of_it_is_shown(tab: Tab) -> None:
    tab.site.made["twice"] = "<p hidden>Loading</p><p>Loading</p>"
    await tab.call("navigate", url=f"{HOST}/twice")
    await tab.refused("wait_for", TimedOut, gone="Loading", timeout_s=0.5)
    await tab.call("wait_for", text="Loading", timeout_s=5)


async def test_a_text_in_a_frame_is_waited_for_and_one_in_a_hidden_frame_is_not_shown(tab: Tab) -> None:
    tab.site.made["told"] = "<p>Paid</p><script>setTimeout(() => document.body.innerHTML = 'Sent', 1000)</script>"
    tab.site.made["tells"] = "<h1>Order</h1><iframe src=/told></iframe>"
    tab.site.made["hides"] = "<h1>Order</h1><iframe src=/told style='display:none'></iframe>"
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
    await tab.call("navigate", url=f"{HOST}/hides")
    await tab.refused("wait_for", TimedOut, text="Paid", timeout_s=0.5)
