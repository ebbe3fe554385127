"""Pages that lie, hide something or have no end: read as they are, up to a limit that is said."""

from __future__ import annotations

import re

from playwright.async_api import Page

from tests.browser.chromium import Site, ask, outline, visit


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
