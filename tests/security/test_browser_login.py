"""browser.login against every shape of login: real Chromium, the real gateway and vault, a site of two origins."""

from __future__ import annotations

import pytest

from mcp_spaces.errors import QuotaExceeded, WrongState
from tests.browser.signing import APP, Rig
from tests.browser.site.server import HANDLERS
from tests.browser.site.wire import Answer


@pytest.mark.parametrize("page", ["/plain", "/shadow", "/frame-same", "/remember", "/framed", "/toggle", "/throws"])
async def test_a_login_of_one_screen_signs_in(rig: Rig, page: str) -> None:
    answer = await rig.login(page)
    assert rig.is_in(answer) and answer.screens == 1 and answer.filled == ("username", "password")
    assert "signed in as ada" in answer.changes and answer.url == f"{APP}/home"


@pytest.mark.parametrize(
    ("page", "screens"), [("/two-step", 3), ("/boxes", 2), ("/totp", 2), ("/spa", 2), ("/one-page", 1)]
)
async def test_a_login_with_a_code_signs_in_over_its_screens(rig: Rig, page: str, screens: int) -> None:
    answer = await rig.login(page, code=True)
    assert rig.is_in(answer) and answer.screens == screens and answer.filled == ("username", "password", "code")


async def test_v18_a_refused_code_is_followed_by_one_of_a_later_step(rig: Rig) -> None:
    answer = await rig.login("/totp-retry", code=True)
    assert rig.is_in(answer) and answer.screens == 3
    codes = [
        hit.form("code") if hasattr(hit, "form") else hit.body
        for hit in rig.site.hits("app.test")
        if b"code=" in hit.body
    ]
    assert len(codes) == len(set(codes)) == 2


async def test_a_site_that_refuses_every_code_is_told_as_such(rig: Rig) -> None:
    answer = await rig.login("/totp-never", code=True)
    assert not answer.signed_in and "refused 2 codes" in answer.note and not rig.site.accounts.sessions


async def test_a_wrong_password_is_told_as_such_and_is_in_no_field(rig: Rig) -> None:
    for page in ("/plain", "/spa"):
        await rig.fresh()
        answer = await rig.login(page, secret=await rig.secret(password="wrong-password-77"))
        assert not answer.signed_in and "again" in answer.note
        assert "wrong-password-77" not in answer.model_dump_json()
        shown = (await rig.call("browser.snapshot")).snapshot
        assert "filled" not in shown and "wrong-password-77" not in shown


COVER = '<div style="position: fixed; inset: 0; background: white">Wrong user name or password. <button>Close</button></div>'
FORM = "<form method=post><input name=user autocomplete=username {0}><input name=password type=password {0}><button>Sign in</button></form>"
NOT_IN = {
    "covered": Answer(f"<!doctype html><title>Sign in</title>{FORM.format('')}{COVER}".encode()),
    "disabled": Answer(f"<!doctype html><title>Sign in</title>{FORM.format('disabled')}Wait a minute.".encode()),
    "read-only": Answer(f"<!doctype html><title>Sign in</title>{FORM.format('readonly')}Wait a minute.".encode()),
    "no form": Answer(b"<!doctype html><title>401</title>Wrong user name or password.", 401),
}
"""What sites answer to a wrong password, without a field that could be filled in."""


@pytest.mark.parametrize("answer", NOT_IN)
async def test_b18_a_refusal_without_a_field_to_fill_in_is_no_success(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """Neither in the answer, nor for the count of tries."""
    monkeypatch.setitem(HANDLERS, ("POST", "/plain"), lambda *_: NOT_IN[answer])
    path = await rig.secret(password="wrong-password-77")
    told = await rig.login("/plain", secret=path)
    assert not told.signed_in and ("HTTP 401" in told.note if answer == "no form" else "password" in told.note)
    tries = rig.browsers.fills
    for _ in range(2):
        tries.count(path)
    with pytest.raises(QuotaExceeded):
        tries.count(path)


async def test_a_page_that_is_not_there_is_told_apart_from_one_without_a_login(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status, told in ((200, "on this page.$"), (502, "HTTP 502")):
        monkeypatch.setitem(HANDLERS, ("GET", "/plain"), lambda *_, status=status: Answer(b"Nothing here.", status))
        with pytest.raises(WrongState, match=told):
            await rig.login("/plain")


async def test_a_form_that_is_disabled_while_it_is_sent_off_is_waited_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many pages do so; half a second later they show something else."""
    slow = f"""<!doctype html><title>Sign in</title>{FORM.format("")}<script>document.forms[0].onsubmit = event => {{
      event.preventDefault(); for (const one of document.forms[0]) one.disabled = true;
      setTimeout(() => document.body.textContent = 'Welcome', 500); }}</script>"""
    monkeypatch.setitem(HANDLERS, ("GET", "/plain"), lambda *_: Answer(slow.encode()))
    assert (await rig.login("/plain")).signed_in


async def test_a_code_that_is_asked_for_without_a_seed_is_told(rig: Rig) -> None:
    answer = await rig.login("/totp")
    assert not answer.signed_in and "no one-time seed" in answer.note


async def test_fields_may_be_named_by_their_refs(rig: Rig) -> None:
    shown = await rig.call("browser.navigate", url=f"{APP}/two-passwords")
    refs = {
        name: next(line for line in shown.changes.splitlines() if label in line).split(" e")[1].split()[0]
        for name, label in (("username", "User name"), ("password", "Password"), ("submit", "Save"))
    }
    answer = await rig.call(
        "browser.login", secret=await rig.secret(), refs={name: f"e{ref}" for name, ref in refs.items()}
    )
    assert rig.is_in(answer)
