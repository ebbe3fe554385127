"""What an outline says of a page and how short it says it, and the page's text, seen in a real Chromium."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

from mcp_spaces.browser.pages.page_script import element
from tests.browser.chromium import Site, ask, outline, ref_of, visit


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


async def test_the_text_of_a_page_reads_in_order(page: Page, site: Site) -> None:
    await page.goto(f"{site.origin}/shop.html")
    text = (await ask(page, "text"))["text"]
    assert "Orders & returns\nRead the docs before you start." in text
    assert "Name\tPrice\nApple\t1.20\nPear\tBuy" in text
    assert "42\n" not in text.replace("Order 42", "")
    part = await ask(page, "text", max_characters=10, from_character=5)
    assert part["text"] == text[5:15] and part["next_character"] == 15
