"""What the page's side of a browser runtime tells, seen in a real Chromium: outlines, refs, changes, secrets, boxes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Error, Page

from mcp_spaces.browser.page_script import command, element
from tests.browser.chromium import Site, ask, browser, outline, ref_of, site

__all__ = ["browser", "site"]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    context = await browser.new_context()
    yield await context.new_page()
    await context.close()


async def visit(page: Page, site: Site, html: str) -> Page:
    site.made["made"] = "<!doctype html>" + html
    await page.goto(f"{site.origin}/made")
    return page


# ------------------------------------------------------------------------------------------------------ outlines


async def test_an_outline_has_what_is_shown_and_how_to_act_on_it(page: Page, site: Site) -> None:
    await page.goto(f"{site.origin}/shop.html")
    assert (await outline(page)).splitlines() == [
        "banner e1",
        ' nav "Main" e2',
        '  link "Home" e3 /',
        '  link "Orders" e4 current /orders',
        "main e5",
        ' h1 "Orders & returns"',
        ' "Read the" link "docs" e6 /docs "before you start."',
        " search e7",
        '  textbox "Order number" e8 required value="42"',
        '  checkbox "Only open" e9 checked',
        '  combobox "Country" e10 value="FR" of "DE" "FR"',
        '  button "Go" e11 disabled',
        " list",
        '  link "Order 42" e12 /orders/42',
        '  link "Elsewhere" e13 https://shop.test/x?y=1',
        " list",
        '  link "A" e14 #a',
        '   "what A is"',
        '  "B"',
        ' table "Prices" e15',
        '  head "Name" | "Price"',
        '  "Apple" | "1.20"',
        '  "Pear" | button "Buy" e16',
        ' summary "More" e17 collapsed',
        ' img "A cat"',
        ' "a\\n  b"',
        ' alert "Saved"',
        'footer e18 "© 2026"',
    ]


async def test_a_hundred_links_cost_less_than_a_third_of_playwrights_outline(page: Page, site: Site) -> None:
    items = "".join(f'<li><a href="/items/{number}">Item {number}</a></li>' for number in range(1, 101))
    await visit(page, site, f"<title>Links</title><h1>Links</h1><ul>{items}</ul>")
    ours, theirs = await outline(page), await page.aria_snapshot(mode="ai")
    assert [f"/items/{number}" in ours for number in range(1, 101)] == [True] * 100
    assert len(ours.encode()) <= 3_072
    assert len(ours.encode()) < len(theirs.encode()) / 3


@pytest.mark.parametrize(
    ("html", "line"),
    [
        ('<button aria-label="Close">x</button>', 'button "Close" e1'),
        ('<p id=a>Save</p><button aria-labelledby="a b">x</button><i id=b hidden>all</i>', 'button "Save all" e1'),
        ("<button><img alt=Print src=data:,></button>", 'button "Print" e1'),
        ("<button><svg><title>Menu</title></svg></button>", 'button "Menu" e1'),
        ("<button title=Help>?</button>", 'button "?" e1'),
        ("<button title=Help></button>", 'button "Help" e1'),
        ("<a href=/x><h3>Head</h3><p>line</p></a>", 'link "Head line" e1 /x'),
        ("<label>Name <input></label>", 'textbox "Name" e1'),
        ("<input placeholder=City>", 'textbox "City" e1'),
        ("<input type=submit>", 'button "Submit" e1'),
        ("<input type=number aria-label=Age value=7 max=9>", 'number "Age" e1 value="7"'),
        ("<textarea aria-label=Note>one\ntwo</textarea>", 'textbox "Note" e1 value="one\\ntwo"'),
        ("<div role=switch tabindex=0 aria-checked=true>Wifi</div>", 'switch "Wifi" e1 checked'),
        ("<div role=tab aria-selected=true>One</div>", 'tab "One" e1 selected'),
        ("<button aria-expanded=false>Menu</button>", 'button "Menu" e1 collapsed'),
        ("<fieldset disabled><button>Go</button></fieldset>", 'button "Go" e1 disabled'),
        ("<input aria-label=Z aria-invalid=true readonly>", 'textbox "Z" e1 readonly invalid'),
        ("<input aria-label=Z autofocus>", 'textbox "Z" e1 focused'),
        ("<progress value=0.5 aria-label=Done></progress>", 'progressbar "Done" value="0.5"'),
        ("<h2 aria-level=5>Deep</h2>", 'h5 "Deep"'),
        ("<div role=heading aria-level=3><a href=/x>T</a></div>", 'h3: link "T" e1 /x'),
        ("<dialog open aria-label=Sure>?</dialog>", 'dialog "Sure" e1'),
        ("<svg width=9 height=9><a href=/s><text>S</text></a></svg><p>x", '"x"'),
    ],
)
async def test_a_name_and_its_states(page: Page, site: Site, html: str, line: str) -> None:
    await visit(page, site, html)
    assert line in [each.strip() for each in (await outline(page)).splitlines()]


async def test_what_nobody_sees_is_left_out(page: Page, site: Site) -> None:
    await visit(
        page,
        site,
        "<p>seen</p><p hidden>1</p><p style='display:none'>2</p><p style='visibility:hidden'>3 <b style='visibility:visible'>kept</b></p>"
        "<p aria-hidden=true>4</p><div inert><button>5</button></div><details><summary>S</summary>6</details>"
        "<script>7</script><template>8</template><dialog>9</dialog><input type=hidden value=10>"
        "<div style='content-visibility:hidden'>11</div><div style='display:contents'>through</div>",
    )
    assert (await outline(page)).splitlines() == ['"seen"', '"kept"', 'summary "S" e1 collapsed', '"through"']


async def test_a_table_keeps_its_columns(page: Page, site: Site) -> None:
    html = (
        "<table><tr><th>A<th>B<th>C</tr><tr><td><td>2<td></tr><tr aria-selected=true style='cursor:pointer'><td>x<td>y<td>z</tr>"
        "<tr><td><table><tr><td>in<td>side</tr></table></tr></table>"
    )
    await visit(page, site, html)
    assert (await outline(page)).splitlines() == [
        "table e1",
        ' head "A" | "B" | "C"',
        ' "" | "2" | ""',
        ' row e2 clickable selected: "x" | "y" | "z"',
        " row",
        "  table e3",
        '   "in" | "side"',
    ]


async def test_a_calendar_keeps_its_days_and_each_can_be_clicked(page: Page, site: Site) -> None:
    days = "<td onclick='document.title = this.textContent'>1<td style='cursor:pointer'>2<td>3<td onclick=1><button>4</button>"
    await visit(page, site, f"<table><tr><th onclick=1>Mo<th>Tu<tr>{days}</table>")
    answer = await ask(page, "snapshot")
    assert answer["outline"].splitlines() == [
        "table e1",
        ' head clickable "Mo" e2 | "Tu"',
        ' clickable "1" e3 | clickable "2" e4 | "3" | button "4" e5',
    ]
    assert (await ask(page, "text"))["text"].splitlines() == ["Mo\tTu", "1\t2\t3\t4"]
    await page.click(element("e3", document=answer["document"]))
    assert await page.title() == "1"
    assert (await outline(page, interactive_only=True)).splitlines() == [
        'clickable "Mo" e2',
        'clickable "1" e3',
        'clickable "2" e4',
        'button "4" e5',
    ]


async def test_a_row_without_cells_loses_nothing(page: Page, site: Site) -> None:
    rows = "<div role=row><span>Ann</span> <button>Delete</button></div><div role=row>Bob<div role=cell>42</div></div>"
    await visit(page, site, f"<div role=table>{rows}</div>")
    assert (await outline(page)).splitlines() == ["table e1", ' "Ann" button "Delete" e2', ' "Bob" | "42"']
    assert (await ask(page, "text"))["text"].splitlines() == ["Ann Delete", "Bob\t42"]


async def test_a_list_in_an_item_stands_below_it(page: Page, site: Site) -> None:
    await visit(page, site, "<ul><li><a href=/a>A</a><ol><li><a href=/b>B</a><ul><li>C</ul><li>D</ol><li>E</ul>")
    assert (await outline(page)).splitlines() == [
        "list",
        ' link "A" e1 /a',
        '  link "B" e2 /b',
        '   "C"',
        '  "D"',
        ' "E"',
    ]


async def test_only_controls_are_told_when_only_they_are_asked_for(page: Page, site: Site) -> None:
    await page.goto(f"{site.origin}/shop.html")
    lines = (await outline(page, interactive_only=True)).splitlines()
    assert len(lines) == 12
    assert {line.split(" ")[0] for line in lines} == {"link", "textbox", "checkbox", "combobox", "button", "summary"}


async def test_text_of_a_page_cannot_pass_for_a_line(page: Page, site: Site) -> None:
    await page.goto(f"{site.origin}/hostile.html")
    text = await outline(page)
    assert not [line for line in text.splitlines() if re.match(r'\W*button "(Pay|Forged)', line)]
    assert not re.search(r"\be9\b button", re.sub(r'"(?:[^"\\]|\\.)*"', '""', text))


async def test_characters_that_nobody_sees_are_told(page: Page, site: Site) -> None:
    await visit(page, site, "<input aria-label=A value='a&#x2028;b&#x81;c'><p>x&#x202e;y&#xe0041;</p>")
    assert (await outline(page)).splitlines() == [
        r'textbox "A" e1 value="a\u{2028}b\u{81}c"',
        r'"x\u{202e}y\u{e0041}"',
    ]


async def test_a_page_that_lies_in_its_own_world_is_read_as_it_is(page: Page, site: Site) -> None:
    await page.goto(f"{site.origin}/hostile.html")
    lines = (await outline(page)).splitlines()
    names = ["One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine"]
    assert lines[0] == 'form "Real" e1'
    assert [re.findall(r'"(\w+)"', line)[0] for line in lines[1:10]] == names
    password = next(field for field in (await ask(page, "fields"))["fields"] if field["kind"] == "password")
    assert (password["action"], password["method"]) == (f"{site.origin}/real", "post")


async def test_a_page_with_a_strict_policy_is_read_too(page: Page, site: Site) -> None:
    site.headers["content-security-policy"] = "default-src 'none'; require-trusted-types-for 'script'; sandbox"
    try:
        await visit(page, site, "<button>Here</button>")
        assert await outline(page) == 'button "Here" e1'
        assert (await ask(page, "overlay", on=True))["drawn"] == 1
    finally:
        site.headers.clear()


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
    assert (
        text.splitlines()
        == [
            'checkbox "Dark mode" e1',
            'clickable "Open the card" e2',
            'button "Only a button" e3',
            "clickable e4",
            ' h3 "Card"',
            ' "Words"',
            ' link "One" e5 /a',
            ' link "Two" e6 /b',
            "list",
            ' clickable "Row" e7',
            'textbox "Note" e8 value="draft"',
        ]
        or text
    )
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


# ---------------------------------------------------------------------------------------------------------- refs


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


# ------------------------------------------------------------------------------------------------------- changes


async def test_changes_are_told_with_their_place(page: Page, site: Site) -> None:
    await visit(
        page, site, "<main><p id=p>Nothing yet</p><input type=checkbox aria-label=Paid><ul id=u><li>a<li>b</ul></main>"
    )
    await outline(page)
    assert (await ask(page, "snapshot", mode="diff"))["mode"] == "same"
    await page.evaluate("p.remove(); document.querySelector('input').click(); u.innerHTML += '<li><a href=/c>c</a>'")
    answer = await ask(page, "snapshot", mode="diff")
    assert answer["mode"] == "diff"
    assert answer["outline"].splitlines() == [
        "@ main e1",
        '- "Nothing yet"',
        '~ checkbox "Paid" e2 checked',
        "@ main e1 > list",
        '+ link "c" e3 /c',
    ]


async def test_what_only_lost_the_focus_is_not_told(page: Page, site: Site) -> None:
    await visit(
        page,
        site,
        "<input aria-label=One id=one autofocus><input aria-label=' focused' id=two><button id=go>Go</button>",
    )
    await outline(page)
    await page.evaluate("two.focus()")
    answer = await ask(page, "snapshot", mode="diff")
    assert answer["outline"].splitlines() == ["@ page", '~ textbox "focused" e2 focused']
    await page.evaluate("two.value = 'x'; go.focus()")
    answer = await ask(page, "snapshot", mode="diff")
    assert answer["outline"].splitlines() == ["@ page", '~ textbox "focused" e2 value="x"', '~ button "Go" e3 focused']
    await page.evaluate("go.blur()")
    assert (await ask(page, "snapshot", mode="diff"))["mode"] == "same"


async def test_what_went_with_something_is_not_told_apart(page: Page, site: Site) -> None:
    fields = "".join(f"<label>Field {number} <input></label>" for number in range(20))
    await visit(
        page, site, f"<h1>Head</h1><div role=dialog aria-label=Ask id=ask>{fields}<ul><li>a</ul></div><p id=p>End"
    )
    await outline(page)
    await page.evaluate("ask.remove(); p.remove()")
    answer = await ask(page, "snapshot", mode="diff")
    assert answer["outline"].splitlines() == ["@ page", '- dialog "Ask" e1', '- "End"']


async def test_changes_are_told_from_the_last_whole_outline_whatever_was_looked_at_since(
    page: Page, site: Site
) -> None:
    await visit(page, site, "<main><p>" + "words " * 50 + "<p><button>Go</button><p id=p></main>")
    await outline(page)
    await outline(page, interactive_only=True)
    await outline(page, root="e1")
    await page.evaluate("p.textContent = 'Done'")
    answer = await ask(page, "snapshot", mode="diff")
    assert answer["outline"].splitlines() == ["@ main e1", '+ "Done"']


async def test_after_a_navigation_the_outline_is_whole_again(page: Page, site: Site) -> None:
    await visit(page, site, "<p>one</p>")
    await outline(page)
    await visit(page, site, "<p>two</p>")
    answer = await ask(page, "snapshot", mode="diff")
    assert (answer["mode"], answer["outline"]) == ("full", '"two"')


async def test_one_change_in_a_long_page_costs_a_few_bytes(page: Page, site: Site) -> None:
    await visit(page, site, "<ul>" + "".join(f"<li><a href=/{n}>Item {n}</a>" for n in range(1_000)) + "</ul>")
    await outline(page)
    await page.evaluate("document.querySelectorAll('a')[500].textContent = 'Changed'")
    answer = await ask(page, "snapshot", mode="diff")
    assert answer["outline"].splitlines() == ["@ list", '~ link "Changed" e501 /500']


# -------------------------------------------------------------------------------------------------------- limits


async def test_a_long_outline_is_cut_and_can_be_gone_on_with(page: Page, site: Site) -> None:
    await visit(page, site, "<nav>" + "".join(f"<a href=/{n}>Item {n}</a> " for n in range(300)) + "</nav><h1>End</h1>")
    whole = (await outline(page)).splitlines()
    assert len(whole) == 302
    collected: list[str] = []
    following: int | None = 1
    while following is not None:
        answer = await ask(page, "snapshot", max_characters=2_000, from_line=following)
        *shown, last = answer["outline"].splitlines()
        following = answer["next_line"]
        assert len(answer["outline"]) < 2_200
        assert (f"from_line={following}" in last) is (following is not None)
        collected += shown if following else [*shown, last]
    assert collected == whole
    assert (await outline(page, root=ref_of(whole[0], "nav"))).splitlines() == whole[:-1]


async def test_all_options_of_a_long_list_are_found_below_its_ref(page: Page, site: Site) -> None:
    options = "".join(f"<option>Country {n}" for n in range(200))
    await visit(page, site, f"<select aria-label=C>{options}</select>")
    text = await outline(page)
    assert text.endswith("+190 more") and len(text) < 300
    assert 'option "Country 199"' in await outline(page, root="e1")


async def test_twenty_thousand_nodes_answer_within_the_limit(page: Page, site: Site) -> None:
    rows = "".join(f"<div><span>Text {n}</span> <b>x</b><p>para {n}</p></div>" for n in range(5_000))
    await visit(page, site, rows)
    answer = await ask(page, "snapshot")
    assert answer["lines"] == 10_000 and answer["cuts"] == []
    assert len(answer["outline"].encode()) < 20_500
    assert len((await ask(page, "text"))["text"]) <= 20_000


async def test_a_page_without_end_is_read_to_a_limit_and_says_so(page: Page, site: Site) -> None:
    await visit(page, site, "<b>x</b><p>y</p>" * 50_000)
    answer = await ask(page, "snapshot")
    assert answer["cuts"] == ["only the first 60000 elements were read"]
    assert answer["outline"].endswith("… only the first 60000 elements were read")


async def test_names_without_end_cost_no_more_than_others(page: Page, site: Site) -> None:
    """Each of 300 nested controls has all the elements below it as its content."""
    await visit(page, site, "<p>" + "<div onclick=1>" * 300 + "<i></i>" * 20_000 + "<b>end</b>")
    assert (await ask(page, "snapshot"))["lines"] > 0


async def test_odd_markup_is_read_without_an_error(page: Page, site: Site) -> None:
    """Tags out of their namespace or place have neither the methods nor the parents of the real ones."""
    odd = "<svg><slot>a</slot><label>b</label><select>c</select><input></svg><div role=iframe>d</div><div role=summary>e</div>"
    await visit(page, site, f"{odd}<x-y><template shadowrootmode=open><summary>f</summary></template></x-y>")
    assert (await outline(page)).splitlines()[-3:] == ['"d"', '"e"', '"f"']


async def test_deep_nesting_is_read_to_a_limit_and_says_so(page: Page, site: Site) -> None:
    await visit(page, site, "<body></body>")
    await page.evaluate(
        "{ let at = document.body; for (let i = 0; i < 1500; i++) { const below = document.createElement('div');"
        " below.textContent = `level ${i}`; at.append(below); at = below } }"
    )
    answer = await ask(page, "snapshot")
    assert answer["cuts"] == ["what is nested deeper than 400 elements was left out"]
    assert answer["outline"].splitlines()[0] == '"level 0"'


async def test_a_text_of_a_megabyte_is_cut(page: Page, site: Site) -> None:
    await visit(page, site, f"<p>{'word ' * 200_000}</p><button>{'name ' * 200_000}</button>")
    text = await outline(page)
    assert len(text) < 1_400
    assert "characters" in text.splitlines()[0]


# ------------------------------------------------------------------------------------------------------- secrets


async def test_a_password_is_never_shown(page: Page, site: Site) -> None:
    await page.goto(f"{site.origin}/login.html")
    assert 'textbox "Password" e3 [empty]' in await outline(page)
    await page.fill("[name=password]", "hunter2")
    assert 'textbox "Password" e3 focused [filled]' in await outline(page)
    # "Show password", and a page that makes a button of it, whose value is its name.
    for switched in ("text", "submit", "search"):
        await page.evaluate(f"document.querySelector('[name=password]').type = '{switched}'")
        for name in ("snapshot", "text", "fields", "holds"):
            assert "hunter2" not in str(await ask(page, name))
        assert "hunter2" not in str(await ask(page, "describe", ref="e3"))


async def test_a_field_with_a_vault_value_shows_the_name_of_the_secret(page: Page, site: Site) -> None:
    await visit(
        page,
        site,
        "<label>User <input id=u></label><div contenteditable title=Draft id=d></div><button aria-labelledby=d>B</button>",
    )
    text = await outline(page)
    for ref in (ref_of(text, "User"), ref_of(text, "Draft")):
        assert (await ask(page, "mark_secret", ref=ref, name="crm/user"))["marked"]
    assert 'textbox "User" e1 [empty]' in await outline(page)
    await page.fill("#u", "ann@corp.test")
    await page.evaluate("u.setAttribute('value', u.value); d.textContent = u.value")
    text = await outline(page)
    assert 'textbox "User" e1 focused [vault:crm/user]' in text and 'textbox "Draft" e2 [vault:crm/user]' in text
    await page.evaluate("d.removeAttribute('contenteditable'); u.type = 'submit'")
    for name in ("snapshot", "text", "fields", "holds"):
        assert "ann@" not in str(await ask(page, name))
    assert [held["name"] for held in (await ask(page, "holds"))["holding"]] == ["crm/user", "crm/user"]


async def test_a_page_holds_no_secret_once_every_field_is_empty(page: Page, site: Site) -> None:
    await page.goto(f"{site.origin}/shadow.html")
    empty = await ask(page, "holds")
    assert (empty["holding"], empty["complete"]) == ([], True)
    ref = ref_of(await outline(page), "Inner")
    field = page.locator(element(ref, document=(await ask(page, "snapshot"))["document"]))
    await field.fill("hunter2")
    assert (await ask(page, "holds"))["holding"] == [{"ref": ref, "name": None}]
    # Hidden is not gone.
    await field.evaluate("field => field.style.display = 'none'")
    assert (await ask(page, "holds"))["holding"] == [{"ref": ref, "name": None}]
    await field.evaluate("field => field.value = ''")
    assert (await ask(page, "holds"))["holding"] == []


# ------------------------------------------------------------------------------------------------- text and boxes


async def test_the_text_of_a_page_reads_in_order(page: Page, site: Site) -> None:
    await page.goto(f"{site.origin}/shop.html")
    text = (await ask(page, "text"))["text"]
    assert "Orders & returns\nRead the docs before you start." in text
    assert "Name\tPrice\nApple\t1.20\nPear\tBuy" in text
    assert "42\n" not in text.replace("Order 42", "")
    part = await ask(page, "text", max_characters=10, from_character=5)
    assert part["text"] == text[5:15] and part["next_character"] == 15


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
