"""What changed in a page since it was last told, in a few bytes."""

from __future__ import annotations

from playwright.async_api import Page

from tests.browser.chromium import Site, ask, outline, visit


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
