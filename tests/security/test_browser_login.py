"""browser.login against every shape of login, every look-alike address and every page that wants more than it should
get: real Chromium, the real gateway and vault, a site of two origins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from pydantic import ValidationError

from mcp_spaces.core.scope import VaultGrant
from mcp_spaces.errors import Denied, InvalidInput, NotFound, QuotaExceeded, SpacesError, WrongState
from mcp_spaces.vault.model import Bindings
from mcp_spaces.vault.service import Vault
from tests.browser.signing import APP, EVIL, SPACE, Rig, open_rig
from tests.browser.site.near_misses import BOUND, NEAR_MISSES, NearMiss
from tests.browser.site.server import HANDLERS
from tests.browser.site.wire import Answer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path_factory.mktemp("login"), period_s=6) as rig:
        yield rig


@pytest.fixture
async def rig(opened: Rig) -> Rig:
    await opened.fresh()
    return opened


def is_in(rig: Rig, answer: Any) -> bool:
    return bool(answer.signed_in and rig.site.accounts.sessions)


# ------------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("page", ["/plain", "/shadow", "/frame-same", "/remember", "/framed", "/toggle", "/throws"])
async def test_a_login_of_one_screen_signs_in(rig: Rig, page: str) -> None:
    answer = await rig.login(page)
    assert is_in(rig, answer) and answer.screens == 1 and answer.filled == ("username", "password")
    assert "signed in as ada" in answer.changes and answer.url == f"{APP}/home"


@pytest.mark.parametrize(
    ("page", "screens"), [("/two-step", 3), ("/boxes", 2), ("/totp", 2), ("/spa", 2), ("/one-page", 1)]
)
async def test_a_login_with_a_code_signs_in_over_its_screens(rig: Rig, page: str, screens: int) -> None:
    answer = await rig.login(page, code=True)
    assert is_in(rig, answer) and answer.screens == screens and answer.filled == ("username", "password", "code")


async def test_v18_a_refused_code_is_followed_by_one_of_a_later_step(rig: Rig) -> None:
    answer = await rig.login("/totp-retry", code=True)
    assert is_in(rig, answer) and answer.screens == 3
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
    assert is_in(rig, answer)


async def test_a_login_is_kept_in_its_profile_when_the_answer_comes(rig: Rig) -> None:
    await rig.fresh(profile="work")
    assert is_in(rig, await rig.login("/remember"))
    session = next(iter(rig.site.accounts.sessions))
    assert session in str(await rig.browsers.store.profile(rig.row.space_id, "work"))


async def test_logout_forgets_what_sites_stored(rig: Rig) -> None:
    await rig.login("/plain")
    gone = await rig.call("browser.logout")
    assert gone.cookies >= 1
    back = await rig.call("browser.navigate", url=f"{APP}/home")
    assert back.url == f"{APP}/plain"


async def test_logout_of_one_origin_leaves_the_others(rig: Rig) -> None:
    await rig.login("/plain")
    await rig.call("browser.logout", origin=EVIL)
    assert (await rig.call("browser.navigate", url=f"{APP}/home")).url == f"{APP}/home"
    await rig.call("browser.logout", origin=APP)
    assert (await rig.call("browser.navigate", url=f"{APP}/home")).url == f"{APP}/plain"


FORGOTTEN = r'"cookies:\nlocal:\nsession:"'
"""What /storage says where nothing was kept."""


async def test_logout_forgets_databases_tabs_and_further_contexts(rig: Rig) -> None:
    """An application that keeps its session anywhere but in a cookie is signed out too."""
    await rig.fresh(profile="forgets")
    await rig.call("browser.navigate", url="https://third.test/links100")
    page = rig.live.pages["p1"].page
    await page.evaluate("new Promise(done => { indexedDB.open('session', 1).onsuccess = done })")
    await rig.call("browser.navigate", url=f"{APP}/storage")
    await page.get_by_text("kept").last.wait_for()
    further = await rig.live.open_context()
    await further.pages[0].goto(f"{APP}/storage")
    assert {one["origin"] for one in (await rig.live.live.context.storage_state(indexed_db=True))["origins"]} == {
        APP,
        "https://third.test",
    }
    await rig.call("browser.logout")
    assert rig.live.further == [] and [one.page for one in (await rig.call("browser.pages")).pages] == ["p1"]
    assert (await rig.call("browser.pages")).pages[0].url == "about:blank"
    kept = str(await rig.browsers.store.profile(rig.row.space_id, "forgets"))
    assert "third.test" not in kept and "kept" not in kept
    back = await rig.call("browser.navigate", url=f"{APP}/storage")
    assert FORGOTTEN in back.changes


async def test_logout_of_one_origin_takes_its_parents_cookies_and_its_tabs_and_no_more(rig: Rig) -> None:
    context, further = rig.live.live.context, await rig.live.open_context()
    cookie = {"value": "x", "path": "/"}
    for one in (context, further):
        for name, domain in (("parent", ".app.test"), ("own", "www.app.test"), ("other", "app.test")):
            await one.add_cookies([{"name": name, "domain": domain, **cookie}])  # type: ignore[typeddict-item]
    await rig.call("browser.navigate", url="https://www.app.test/storage", page="p1")
    await rig.call("browser.navigate", url="https://third.test/storage", page="p1")
    beside = (await rig.call("browser.navigate", url=f"{EVIL}/storage", new_page=True)).page
    await rig.call("browser.logout", origin="https://www.app.test")
    for one in (context, further):
        names = {kept["name"] for kept in await one.cookies()}
        assert "other" in names and not names & {"parent", "own"}
    # The tab was there before it went elsewhere, and so had its session storage.
    urls = {one.page: one.url for one in (await rig.call("browser.pages")).pages}
    assert urls["p1"] == "about:blank" and urls[beside] == f"{EVIL}/storage"
    again = await rig.call("browser.navigate", url="https://www.app.test/storage", page="p1")
    assert FORGOTTEN in again.changes
    third = await rig.call("browser.navigate", url="https://third.test/storage", page="p1")
    assert "local: kept" in third.changes


# ------------------------------------------------------------------------------------------------- who and where


@pytest.mark.parametrize("near", NEAR_MISSES, ids=lambda near: near.url[:60])
async def test_b01_b03_b09_b10_an_address_that_only_looks_like_the_bound_one_opens_nothing(
    opened: Rig, near: NearMiss
) -> None:
    rig = opened
    path = await rig.secret()
    try:
        await rig.call("browser.navigate", url=near.url)
    except SpacesError:
        # Refused before any page is there, or nobody answers: a page of before is no page of this address.
        await rig.fresh()
    if near.fills and rig.live.pages[rig.live.active].page.url.startswith("https"):
        assert (await rig.call("browser.login", secret=path)).signed_in
        assert near.origin == BOUND
        await rig.call("browser.logout")
        return
    refused = await rig.refusal("browser.login", secret=path)
    assert isinstance(refused, Denied) and refused.rule == "vault.origins"
    assert not await rig.was_opened(path)
    assert rig.leaks() == []


async def test_b02_a_form_in_another_origins_frame_gets_nothing(rig: Rig) -> None:
    for page, words in (("/frame-cross", "frame of another origin"), ("/frame-sandbox", "another origin")):
        path = await rig.secret()
        refused = await rig.refusal("browser.login", secret=path, url=APP + page)
        assert isinstance(refused, WrongState) and words in refused.message
        assert rig.leaks() == [] and rig.site.holding(rig.site.person.password) == []


async def test_b04_a_page_that_leaves_before_the_fill_gets_nothing(rig: Rig) -> None:
    path = await rig.secret()
    refused = await rig.refusal("browser.login", secret=path, url=f"{APP}/redirect302")
    assert isinstance(refused, Denied) and not await rig.was_opened(path)
    for delay_ms in (0, 20, 50, 100, 150):
        await rig.fresh()
        with suppress(Denied, WrongState):
            await rig.login(f"/late-redirect?ms={delay_ms}")
        assert rig.leaks() == []


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


@pytest.mark.parametrize("page", ["/action-evil", "/formaction-evil"])
async def test_b05_b08_a_form_that_goes_elsewhere_gets_nothing(rig: Rig, page: str) -> None:
    path = await rig.secret()
    refused = await rig.refusal("browser.login", secret=path, url=APP + page)
    assert isinstance(refused, WrongState) and "https://evil.test" in refused.message
    assert not await rig.was_opened(path)


# ------------------------------------------------------------------------------------------------- hostile pages


@pytest.mark.parametrize("decoy", ["hidden", "zero", "overlay", "transparent", "offscreen", "clipped"])
async def test_b12_a_field_that_people_do_not_see_gets_nothing(rig: Rig, decoy: str) -> None:
    path = await rig.secret()
    answer = await rig.call("browser.login", secret=path, url=f"{APP}/decoy-{decoy}")
    assert not answer.signed_in and answer.filled == ("username",)
    assert rig.site.holding(rig.site.person.password) == []
    # The one beside it that people see is filled in, and the decoy is not.
    beside = await rig.login(f"/decoy-{decoy}?real=1")
    assert is_in(rig, beside)
    (sent,) = [hit for hit in rig.site.hits("app.test") if rig.site.person.password.encode() in hit.body]
    assert sent.body.count(rig.site.person.password.encode()) == 1 and b"decoy=&" in sent.body + b"&"


async def test_b12_of_several_password_fields_none_is_taken(rig: Rig) -> None:
    path = await rig.secret()
    refused = await rig.refusal("browser.login", secret=path, url=f"{APP}/two-passwords")
    assert isinstance(refused, WrongState) and "several password fields" in refused.message
    assert not await rig.was_opened(path)


@pytest.mark.parametrize("page", ["/type-switch", "/moves-field", "/hidden", "/detached"])
async def test_b13_l08_a_field_that_changes_at_the_last_moment_gets_nothing(rig: Rig, page: str) -> None:
    refused = await rig.refusal("browser.login", secret=await rig.secret(), url=APP + page)
    assert isinstance(refused, WrongState) and refused.__cause__ is None and refused.__suppress_context__
    assert rig.site.person.password not in refused.message + refused.hint
    assert rig.site.holding(rig.site.person.password) == []
    assert await rig.state() == "active" and (await rig.call("browser.snapshot")).snapshot


async def test_b13_k06_a_page_that_moves_what_was_filled_in_loses_its_browser(rig: Rig) -> None:
    path = await rig.secret()
    refused = await rig.refusal("browser.login", secret=path, url=f"{APP}/moves-form")
    assert isinstance(refused, WrongState) and "closed with what it held" in refused.message
    assert await rig.state() == "failed" and await rig.was_opened(path)
    assert rig.leaks() == [] and rig.site.holding(rig.site.person.password) == []
    assert isinstance(await rig.refusal("browser.snapshot"), WrongState)


async def test_b16_a_code_goes_only_to_a_bound_origin(rig: Rig) -> None:
    path, vault = await rig.secret(code=True), rig.app.services.use(Vault)
    with pytest.raises(Denied):
        await vault.code(path, scope=VaultGrant(allow=("prod",)), run_id="run_test", origin=EVIL)
    refused = await rig.refusal("browser.login", secret=path, url=f"{EVIL}/two-step")
    assert isinstance(refused, Denied) and not await rig.was_opened(path)


def test_a_sandbox_of_the_space_may_be_an_origin_without_tls_and_no_other_host() -> None:
    allowed = Bindings(
        origins=("http://web.sandbox.internal", "http://web-2.sandbox.internal:8080", "http://localhost:3000")
    )
    assert allowed.permits("http://web.sandbox.internal") and not allowed.permits("http://other.sandbox.internal")
    for origin in (
        "http://sandbox.internal",
        "http://a.b.sandbox.internal",
        "http://web.sandbox.internal.evil.test",
        "http://websandbox.internal",
        "http://app.test",
        "http://web.sandbox.internal:80",
    ):
        with pytest.raises(ValidationError):
            Bindings(origins=(origin,))


async def test_b18_the_fourth_try_of_an_hour_is_refused_until_one_succeeds(rig: Rig) -> None:
    path = await rig.secret(password="wrong-password-77")
    for _ in range(3):
        assert not (await rig.login("/plain", secret=path)).signed_in
    refused = await rig.refusal("browser.login", secret=path, url=f"{APP}/plain")
    assert isinstance(refused, QuotaExceeded) and rig.site.accounts.failures[rig.site.person.name] == 3
    rig.site.accounts.failures.clear()
    good = await rig.secret()
    for _ in range(4):
        assert (await rig.login("/plain", secret=good)).signed_in
        await rig.call("browser.logout")


async def test_b18_another_space_brings_no_more_tries(rig: Rig) -> None:
    path = await rig.secret(password="wrong-password-77")
    for _ in range(3):
        assert not (await rig.login("/plain", secret=path)).signed_in
    await rig.space("another")
    await rig.govern("browser.launch", space="another", alias="other")
    with pytest.raises(QuotaExceeded):
        await rig.govern("browser.login", space="another", secret=path, url=f"{APP}/plain")
    await rig.govern("space.delete", space="another", force=True)


async def test_b19_a_secret_that_was_used_here_is_never_typed(rig: Rig) -> None:
    await rig.login("/plain")
    shown = await rig.call("browser.navigate", url=f"{APP}/comment")
    ref = "e" + next(line for line in shown.changes.splitlines() if '"Comment"' in line).split(" e")[1].split()[0]
    password = rig.site.person.password
    for operation, arguments in (
        ("browser.fill", {"fields": {ref: f"my password is {password}"}}),
        ("browser.press", {"keys": password, "ref": ref}),
        ("browser.evaluate", {"script": f"document.querySelector('textarea').value = '{password}'"}),
    ):
        refused = await rig.refusal(operation, **arguments)
        assert isinstance(refused, Denied) and refused.rule == "browser.secret"
    for step in (
        {"call": "page.fill", "args": ["textarea", f"my password is {password}"]},
        {"call": "page.fill", "args": {"selector": "textarea", "value": password}},
        {"call": "page.type", "args": ["textarea", password]},
        {"call": "page.evaluate", "args": ["x => x", {"a": [password]}]},
    ):
        (event,) = (await rig.call("browser.execute", steps=[step])).events
        assert event.error.rule == "browser.secret"
    # Nor in another browser of the space.
    rig.runtime, signed = f"b{next(rig.aliases)}", rig.runtime
    try:
        await rig.launch()
        await rig.call("browser.navigate", url=f"{APP}/comment")
        refused = await rig.refusal("browser.press", keys=password)
        assert isinstance(refused, Denied) and refused.rule == "browser.secret"
    finally:
        await rig.call("browser.delete")
        rig.runtime = signed
    assert rig.site.comments == []


# ---------------------------------------------------------------------------------------------------- permission


async def test_v08_a_secret_outside_the_mount_is_as_absent_as_one_that_is_not_there(rig: Rig) -> None:
    await rig.govern("vault.set", path="other/crm", kind="login", username="a", password="b" * 12, origins=[APP])
    errors = [
        await rig.refusal("browser.login", secret=path, url=f"{APP}/plain") for path in ("other/crm", "prod/none")
    ]
    assert [(type(one), one.message, one.hint) for one in errors].count(
        (NotFound, errors[0].message, errors[0].hint)
    ) == 2


async def test_only_a_login_is_filled_in(rig: Rig) -> None:
    await rig.govern("vault.set", path="prod/token", kind="api_key", token="t" * 20, origins=[APP])
    assert isinstance(await rig.refusal("browser.login", secret="prod/token", url=f"{APP}/plain"), InvalidInput)


async def test_a_policy_decides_over_the_secret_and_over_the_browser(rig: Rig) -> None:
    path = await rig.secret()
    for part, answer, rule in (
        ("secrets", {"use": "deny"}, "secrets.use"),
        ("browser", {"level": "read"}, "browser.level"),
        ("effects", {"interacts": "deny"}, "effects.interacts"),
    ):
        try:
            await rig.govern("space.update", space=SPACE, patch={"policy": {"overrides": {part: answer}}})
            refused = await rig.refusal("browser.login", secret=path, url=f"{APP}/plain")
        finally:
            await rig.govern("space.update", space=SPACE, patch={"policy": {"overrides": {part: None}}})
        assert isinstance(refused, Denied) and refused.rule == rule
    assert not await rig.was_opened(path)


async def test_l07_a_browser_that_records_gets_no_secret(rig: Rig) -> None:
    await rig.fresh(options={"record": True})
    path = await rig.secret()
    refused = await rig.refusal("browser.login", secret=path, url=f"{APP}/plain")
    assert isinstance(refused, WrongState) and not await rig.was_opened(path)
