"""Who may have which secret filled in, how often, and that nobody types one."""

from __future__ import annotations

import pytest

from mcp_spaces.errors import Denied, InvalidInput, NotFound, QuotaExceeded, WrongState
from tests.browser.signing import APP, SPACE, Rig


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
