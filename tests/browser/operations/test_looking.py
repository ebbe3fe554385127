"""Snapshots with the frames in them, pictures, prints, and what a page said."""

from __future__ import annotations

import re

from mcp_spaces.errors import Conflict, NotFound, QuotaExceeded
from mcp_spaces.server.results import success
from tests.browser.operations.tabs import HOST, Tab


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


async def test_a_snapshot_in_diff_mode_says_only_what_changed(tab: Tab) -> None:
    refs = await tab.shop()
    assert (await tab.call("snapshot", mode="diff")).mode == "same"
    await tab.call("fill", fields={refs["Name"]: "Ann"})
    assert (await tab.call("snapshot", mode="diff")).mode == "same", "the action has told it already"
    part = await tab.call("snapshot", ref=refs["Name"])
    assert "Order" not in part.snapshot and "Ann" in part.snapshot
    await tab.refused("snapshot", NotFound, ref="e999")


async def test_what_changed_in_a_frame_is_told_with_the_frame_as_its_place(tab: Tab) -> None:
    tab.site.made["deep"] = "<button onclick='document.body.append(\"Done\")'>Do</button>"
    tab.site.made["middle"] = "<p>Middle</p><iframe src=/deep></iframe>"
    tab.site.made["outer"] = "<h1>Outer</h1><iframe src=/middle></iframe>"
    opened = await tab.call("navigate", url=f"{HOST}/outer")
    (ref,) = re.findall(r'"Do" (f\d+e\d+)', opened.changes)
    await tab.call("click", ref=ref)
    told = (await tab.call("click", ref=ref)).changes.splitlines()
    assert told == [f"@ frame {ref.partition('e')[0]}", f'~ button "Do" {ref} focused "DoneDone"']


async def test_a_page_without_any_element_is_an_empty_one(tab: Tab) -> None:
    tab.site.made["emptied"] = "<p>Gone<script>document.documentElement.remove()</script>"
    assert (await tab.call("navigate", url=f"{HOST}/emptied")).changes == ""
    assert (await tab.call("snapshot")).snapshot == "" == (await tab.call("text")).text


async def test_who_looks_behind_the_last_line_is_told_how_many_there_are(tab: Tab) -> None:
    tab.site.made["short"] = "<p>One</p><p>Two</p>"
    await tab.call("navigate", url=f"{HOST}/short")
    assert (await tab.call("snapshot", from_line=9)).snapshot == "… there are 2 lines"


async def test_a_picture_is_shown_kept_and_in_no_record(tab: Tab) -> None:
    await tab.shop()
    shot = await tab.call("screenshot", to="shot.jpg", show_refs=True)
    text, picture = shot.blocks()
    assert picture["mimeType"] == "image/jpeg" and "picture" not in str(text["text"])
    assert shot.kept.path == "shot.jpg" and shot.kept.content_type == "image/jpeg"
    refused = await tab.refused("screenshot", Conflict, to="shot.jpg")
    assert "overwrite=true" in refused.hint and "if_version" not in refused.hint, "it takes no if_version"
    tab.site.made["tall"] = "<div style='height: 90000px'>tall</div>"
    await tab.call("navigate", url=f"{HOST}/tall")
    await tab.refused("screenshot", QuotaExceeded, full_page=True)


async def test_a_picture_is_shown_through_operation_call_too(tab: Tab) -> None:
    await tab.shop()
    wanted = {"operation": "browser_screenshot", "input": {"space": "work", "runtime": tab.alias}}
    outcome = await tab.app.pipeline.call(tab.app.local_agent(), "operation.call", wanted)
    content = success(outcome, characters_max=16_000).content
    assert [one.type for one in content] == ["text", "image"]


async def test_text_console_network_and_pdf(tab: Tab) -> None:
    await tab.shop()
    assert "As a gift" in (await tab.call("text")).text
    assert (await tab.call("console")).lines == ("warning: careful",)
    (line, *_) = (await tab.call("network")).requests
    assert line.startswith(f"GET {HOST}/shop 200 document")
    assert (await tab.call("pdf", to="page.pdf")).size_bytes > 1_000
