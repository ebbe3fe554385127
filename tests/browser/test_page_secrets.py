"""Fields that hide something, and values of the vault in fields: outlines, texts and changes show neither."""

from __future__ import annotations

from playwright.async_api import Page

from mcp_spaces.browser.pages.page_script import element
from tests.browser.chromium import Site, ask, outline, ref_of, visit


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
