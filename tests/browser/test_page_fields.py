"""What is told of fields before a secret may go into one: guesses, facts that betray decoys, and what changed since."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page

from tests.browser.chromium import Site, ask


async def fields_of(page: Page, site: Site, *, file: str = "made", html: str = "") -> list[dict[str, Any]]:
    site.made["made"] = "<!doctype html>" + html
    await page.goto(f"{site.origin}/{file}")
    fields = (await ask(page, "fields"))["fields"]
    assert isinstance(fields, list)
    return fields


def kinds(fields: list[dict[str, Any]]) -> list[str]:
    return [field["kind"] for field in fields]


async def test_a_plain_login_has_a_user_name_a_password_and_a_button(page: Page, site: Site) -> None:
    user, password = await fields_of(page, site, file="login.html")
    assert (user["kind"], user["label"], password["kind"], password["type"]) == (
        "username",
        "E-mail",
        "password",
        "password",
    )
    for field in (user, password):
        assert field["visible"] and field["topmost"] and field["in_viewport"] and field["editable"]
        assert (field["opacity"], field["action"], field["method"]) == (1, f"{site.origin}/session", "post")
    (submit,) = (await ask(page, "fields"))["submits"]
    assert (submit["name"], submit["form"], submit["native"]) == ("Sign in", password["form"], True)
    assert submit["action"] == f"{site.origin}/session"


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<input autocomplete=username>", ["username"]),
        ("<input type=email>", ["username"]),
        ("<input name=userName>", ["username"]),
        ("<input id=login_id>", ["username"]),
        ("<input name=x><input type=password>", ["username", "password"]),
        ("<input type=password autocomplete=current-password>", ["password"]),
        ("<input type=password><input type=password name=confirm>", ["password", "new_password"]),
        ("<input type=password autocomplete=new-password>", ["new_password"]),
        ("<input autocomplete=one-time-code>", ["totp"]),
        ("<input name=otp maxlength=6>", ["totp"]),
        ("<label>Verification code <input inputmode=numeric></label>", ["totp"]),
        ("<input type=password name=otp_code inputmode=numeric>", ["totp"]),
        ("<input type=tel name=code>", ["totp"]),
        ("<input name=zip_code><input name=promo-code>", ["other", "other"]),
        ("<input name=city>", ["other"]),
        ("<textarea name=password></textarea><select name=password></select><input type=search>", []),
        ("<input type=hidden name=password><input type=checkbox name=password>", []),
    ],
)
async def test_what_a_field_is_for(page: Page, site: Site, html: str, expected: list[str]) -> None:
    assert kinds(await fields_of(page, site, html=f"<form>{html}</form>")) == expected


async def test_a_row_of_boxes_for_one_character_is_one_code(page: Page, site: Site) -> None:
    (code,) = await fields_of(page, site, file="code.html")
    assert (code["kind"], code["focused"]) == ("totp", True)
    assert len(set(code["boxes"])) == 6
    for ref in code["boxes"]:
        assert (await ask(page, "check_field", ref=ref))["topmost"]


async def test_a_second_step_shows_its_own_field(page: Page, site: Site) -> None:
    step = "<form onsubmit=\"event.preventDefault(); this.innerHTML = '<input type=password>'\"><input name=user><button>Next</button></form>"
    assert kinds(await fields_of(page, site, html=step)) == ["username"]
    (submit,) = (await ask(page, "fields"))["submits"]
    await page.click(f"spaces={submit['ref']}")
    assert kinds((await ask(page, "fields"))["fields"]) == ["password"]


async def test_a_form_without_a_form_element_has_the_buttons_that_say_so(page: Page, site: Site) -> None:
    html = "<div><input name=user><input type=password><button>Log in</button><button>Help</button><div role=button>Continue</div></div>"
    fields = await fields_of(page, site, html=html)
    assert [(field["form"], field["action"]) for field in fields] == [(None, None)] * 2
    assert [submit["name"] for submit in (await ask(page, "fields"))["submits"]] == ["Log in", "Continue"]


async def test_b12_facts_tell_decoys_from_a_field_that_people_see(page: Page, site: Site) -> None:
    fields = {field["label"]: field for field in await fields_of(page, site, file="decoys.html")}
    assert set(fields) == {"honest", "small", "aside", "clear", "below", "fixed", "far"}

    def good(field: dict[str, Any]) -> dict[str, bool]:
        return {
            "large": min(field["width"], field["height"]) >= 4,
            "in_viewport": field["in_viewport"],
            "opaque": field["opacity"] > 0,
            "topmost": field["topmost"],
            "editable": field["editable"],
        }

    failing = {label: {fact for fact, holds in good(field).items() if not holds} for label, field in fields.items()}
    assert failing["honest"] == failing["far"] == set()
    assert "large" in failing["small"]
    assert {"in_viewport", "topmost"} <= failing["aside"]
    assert failing["clear"] == {"opaque"}
    assert failing["below"] == {"topmost"}
    assert failing["fixed"] == {"editable"}
    assert await page.evaluate("scrollY") == 0


async def test_b12_more_fields_than_can_be_told_are_not_taken_for_all(page: Page, site: Site) -> None:
    await fields_of(page, site, html="<input type=password>" * 61)
    answer = await ask(page, "fields")
    assert (len(answer["fields"]), answer["complete"]) == (60, False)


async def test_b12_a_password_is_told_of_before_fields_that_are_of_no_login(page: Page, site: Site) -> None:
    cells = "<input name=cell>" * 200
    fields = await fields_of(page, site, html=f"<form>{cells}<input name=who><input type=password></form>{cells}")
    answer = await ask(page, "fields")
    assert [field["kind"] for field in fields if field["kind"] != "other"] == ["username", "password"]
    assert (len(answer["fields"]), answer["complete"]) == (60, True)


@pytest.mark.parametrize("attribute", ["", "disabled"])
async def test_b12_past_so_many_fields_nobody_can_tell_whether_there_is_another(
    page: Page, site: Site, attribute: str
) -> None:
    await fields_of(page, site, html=f"<input type=password><form>{f'<input name=cell {attribute}>' * 2001}</form>")
    assert (await ask(page, "fields"))["complete"] is False


async def test_b12_a_transparent_ancestor_counts(page: Page, site: Site) -> None:
    (field,) = await fields_of(
        page, site, html="<div style='opacity:.1'><div style='opacity:.1'><input type=password></div></div>"
    )
    assert field["opacity"] == 0.01


async def test_b08_a_form_and_a_button_that_lead_elsewhere_are_told(page: Page, site: Site) -> None:
    fields = await fields_of(page, site, file="decoys.html")
    assert {field["action"] for field in fields} == {"https://evil.test/take"}
    assert [submit["action"] for submit in (await ask(page, "fields"))["submits"]] == ["https://worse.test/take"]


async def test_b08_a_textarea_is_known_as_one_when_it_is_checked(page: Page, site: Site) -> None:
    await page.goto(f"{site.origin}/login.html")
    text = (await ask(page, "snapshot"))["outline"]
    ref = text.splitlines()[-1].split()[-1]
    facts = await ask(page, "check_field", ref=ref, expected={"tag": "input"})
    assert (facts["tag"], facts["changed"]) == ("textarea", ["tag"])


async def test_a_form_whose_inputs_have_the_names_of_its_properties_can_be_checked(page: Page, site: Site) -> None:
    names = ("form", "type", "labels", "tagName", "ownerDocument", "getBoundingClientRect", "matches")
    html = "<form aria-label=F>" + "".join(f"<input name={name}>" for name in names) + "</form>"
    (form, *_) = {field["form"] for field in await fields_of(page, site, html=html)}
    facts = await ask(page, "check_field", ref=form)
    assert (facts["tag"], facts["type"], facts["form"], facts["editable"]) == ("form", None, None, False)
    assert (await ask(page, "describe", ref=form))["name"] == "F"


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ("", []),
        ("f.type = 'text'", ["type"]),
        ("document.forms[0].action = 'https://evil.test/'", ["action"]),
        ("document.forms[0].method = 'get'", ["method"]),
        ("document.forms[1].append(f)", ["form", "action", "method"]),
        ("f.readOnly = true", ["editable"]),
        ("f.disabled = true", ["editable"]),
        ("f.style.visibility = 'hidden'", ["visible", "topmost"]),
        ("f.style.opacity = 0", ["opacity"]),
        ("f.style.position = 'fixed'; f.style.left = '-500px'", ["in_viewport", "topmost"]),
        (
            "document.body.append(Object.assign(document.createElement('div'), {style: 'position:fixed;inset:0'}))",
            ["topmost"],
        ),
        ("f.remove()", ["connected"]),
    ],
)
async def test_b13_what_changed_since_the_fields_were_read_is_named(
    page: Page, site: Site, change: str, changed: list[str]
) -> None:
    password = (await fields_of(page, site, file="login.html"))[1]
    facts = ("type", "form", "action", "method", "visible", "opacity", "in_viewport", "topmost", "editable")
    expected = {fact: password[fact] for fact in facts}
    await page.evaluate(f"{{ const f = document.querySelector('[name=password]'); {change} }}")
    assert (await ask(page, "check_field", ref=password["ref"], expected=expected))["changed"] == changed
