"""Only the bound origin gets a secret, whatever an address, a frame, a redirect or a form looks like."""

from __future__ import annotations

from contextlib import suppress

import pytest
from pydantic import ValidationError

from mcp_spaces.core.scope import VaultGrant
from mcp_spaces.errors import Denied, SpacesError, WrongState
from mcp_spaces.vault.model import Bindings
from mcp_spaces.vault.service import Vault
from tests.browser.signing import APP, EVIL, Rig
from tests.browser.site.near_misses import BOUND, NEAR_MISSES, NearMiss


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


@pytest.mark.parametrize("page", ["/action-evil", "/formaction-evil"])
async def test_b05_b08_a_form_that_goes_elsewhere_gets_nothing(rig: Rig, page: str) -> None:
    path = await rig.secret()
    refused = await rig.refusal("browser.login", secret=path, url=APP + page)
    assert isinstance(refused, WrongState) and "https://evil.test" in refused.message
    assert not await rig.was_opened(path)


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
