"""What has a ref, what the ref leads to, and for how long."""

from __future__ import annotations

import pytest
from playwright.async_api import Error, Page

from mcp_spaces.browser.pages.page_script import command, element
from tests.browser.chromium import Site, ask, outline, ref_of, visit


async def test_open_shadow_roots_are_part_of_the_page(page: Page, site: Site) -> None:
    await page.goto(f"{site.origin}/shadow.html")
    text = await outline(page)
    assert text.splitlines() == ['h2 "Slotted"', 'button "Press" e1', "form e2", ' textbox "Inner" e3 [empty]']
    await page.click(element("e1", document=(await ask(page, "snapshot"))["document"]))
    assert 'button "Pressed" e1 focused' in await outline(page)
    (field,) = (await ask(page, "fields"))["fields"]
    assert (field["ref"], field["topmost"], field["action"]) == ("e3", True, f"{site.origin}/inner")


async def test_a_frame_is_a_line_and_has_its_own_outline(page: Page, site: Site) -> None:
    site.made["inner"] = "<button>Inside</button>"
    await visit(page, site, "<p>before</p><iframe title='The frame' src='/inner'></iframe>")
    answer = await ask(page, "snapshot")
    assert answer["outline"].splitlines() == ['"before"', 'iframe "The frame" e1 /inner']
    assert answer["frames"] == [{"ref": "e1", "line": 2}]
    assert (await ask(page, "snapshot", mode="diff"))["frames"] == [{"ref": "e1", "line": 0}]
    handle = await page.query_selector(element("e1", document=answer["document"]))
    assert handle is not None
    frame = await handle.content_frame()
    assert frame is not None
    inner = await ask(frame, "snapshot", prefix="f1")
    assert inner["outline"] == 'button "Inside" f1e1'
    await frame.click(element("f1e1", document=inner["document"]))


async def test_things_that_only_look_clickable_can_be_clicked(page: Page, site: Site) -> None:
    await page.goto(f"{site.origin}/styled.html")
    answer = await ask(page, "snapshot")
    text = answer["outline"]
    assert text.splitlines() == [
        'checkbox "Dark mode" e1',
        'radio "Tiny" e2',
        'clickable "Open the card" e3',
        'button "Only a button" e4',
        "clickable e7",
        ' h3 "Card"',
        ' "Words"',
        ' link "One" e5 /a',
        ' link "Two" e6 /b',
        "list",
        ' clickable "Row" e8',
        'textbox "Note" e9 value="draft"',
    ]
    for line, title in (("Open the card", "Opened"), ("Dark mode", "Toggled")):
        await page.click(element(ref_of(text, line), document=answer["document"]))
        assert await page.title() == title
    await page.click(element(ref_of(text, "Tiny"), document=answer["document"]), timeout=5_000)
    text = await outline(page)
    assert 'checkbox "Dark mode" e1 checked' in text and 'radio "Tiny" e2 checked' in text


async def test_what_can_be_dragged_or_moved_to_by_keys_has_a_ref(page: Page, site: Site) -> None:
    await visit(
        page,
        site,
        "<ul><li draggable=true>Card<li draggable=true><a href=/a>Link</a><li>Fixed</ul>"
        "<span tabindex=0>Products</span><p tabindex=-1>Text</p><pre tabindex=0 style='overflow:auto'>code</pre>",
    )
    assert (await outline(page)).splitlines() == [
        "list",
        ' clickable "Card" e1 draggable',
        " clickable e3 draggable",
        '  link "Link" e2 /a',
        ' "Fixed"',
        'clickable "Products" e4',
        '"Text"',
        '"code"',
    ]


async def test_a_ref_stays_with_its_element_when_the_page_renders_again(page: Page, site: Site) -> None:
    await visit(page, site, "<ul id=list><li><button>One</button><li><button>Two</button></ul>")
    document = (await ask(page, "snapshot"))["document"]
    await page.evaluate(
        "list.prepend(Object.assign(document.createElement('li'), {innerHTML: '<button>Zero</button>'}));"
        "list.lastElementChild.remove()"
    )
    assert (await outline(page)).splitlines() == ["list", ' button "Zero" e3', ' button "One" e1']
    assert await page.locator(element("e1", document=document)).count() == 1
    assert await page.locator(element("e2", document=document)).count() == 0
    assert (await ask(page, "describe", ref="e2")) == {"document": document, "here": False}
    assert (await ask(page, "describe", ref="e1"))["name"] == "One"


async def test_a_ref_of_one_document_names_nothing_in_the_next(page: Page, site: Site) -> None:
    await visit(page, site, "<button>Cancel</button>")
    before = (await ask(page, "snapshot"))["document"]
    await visit(page, site, "<button>Delete everything</button>")
    after = (await ask(page, "snapshot"))["document"]
    assert before != after
    assert await page.locator(element("e1", document=before)).count() == 0
    assert await page.locator(element("e1", document=after)).count() == 1


async def test_an_unknown_command_is_an_error_at_once(page: Page, site: Site) -> None:
    await visit(page, site, "<p>x</p>")
    with pytest.raises(Error, match="unknown command"):
        await page.text_content(command("constructor"), timeout=5_000)


async def test_boxes_are_where_the_controls_are(page: Page, site: Site) -> None:
    await visit(page, site, "<button style='position:absolute;left:30px;top:40px;width:50px;height:20px'>B</button>")
    await outline(page)
    assert (await ask(page, "boxes"))["boxes"] == [{"ref": "e1", "x": 30, "y": 40, "width": 50, "height": 20}]


async def test_refs_are_drawn_for_a_screenshot_and_gone_after_it(page: Page, site: Site) -> None:
    await visit(page, site, "<body><dialog id=d><button>B</button></dialog><script>d.showModal()</script>")
    await outline(page)
    plain = await page.screenshot()
    assert (await ask(page, "overlay", on=True))["drawn"] == 1
    assert await page.screenshot() != plain
    assert await page.evaluate("document.documentElement.lastElementChild.shadowRoot") is None
    assert "e1" not in await page.evaluate("document.documentElement.outerHTML")
    assert (await ask(page, "overlay", on=False))["drawn"] == 0
    assert await page.screenshot() == plain
