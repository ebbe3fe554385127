"""What stays behind of a secret that was filled in by browser.login when a caller types it (threat B19)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from mcp_spaces.errors import ApprovalNeeded, Denied, SpacesError
from tests.browser.signing import SPACE, Rig, forms, open_rig

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path_factory.mktemp("typed")) as rig:
        await rig.login("/plain")
        yield rig


def is_kept(rig: Rig, secret: str) -> bool:
    """In the files of the database, its log among them, where deleted rows would show too."""
    files = [one.read_bytes() for one in (rig.folder / "state").glob("state.db*")]
    assert files
    return any(form in file for form in forms(secret) for file in files)


async def refused(rig: Rig, operation: str, arguments: Mapping[str, Any]) -> SpacesError:
    try:
        await rig.app.pipeline.call(rig.caller, operation, arguments)
    except SpacesError as error:
        return error
    pytest.fail(f"{operation} was not refused")


async def test_b19_a_secret_that_somebody_types_is_in_no_record_of_its_refusal(rig: Rig) -> None:
    password = rig.site.person.password
    where = {"space": SPACE, "runtime": rig.runtime}
    for operation, given in (
        ("browser.fill", {"fields": {"e1": "somebody", "e2": f"it is {password}"}}),
        ("browser.press", {"keys": password}),
        ("browser.evaluate", {"script": f"document.title = '{password}'"}),
    ):
        for called, arguments in (
            (operation, {**where, **given}),
            ("operation.call", {"operation": operation, "input": {**where, **given}}),
        ):
            error = await refused(rig, called, arguments)
            assert isinstance(error, Denied) and error.rule == "browser.secret"
    await rig.call("browser.execute", steps=[{"call": "page.fill", "args": ["input", password]}])
    await refused(rig, "browser.fill", {**where, "fields": {"e1": password}, "unknown": True})
    nested = {
        "operation": "operation.call",
        "input": {"operation": "browser.press", "input": {**where, "keys": password}},
    }
    await refused(rig, "operation.call", nested)
    assert "[redacted:prod/" in rig.recorded() and '"e1":"somebody"' in rig.recorded().replace("\\", "")
    assert not is_kept(rig, password)


async def test_b19_a_person_who_is_asked_about_a_typed_secret_is_not_shown_it(rig: Rig) -> None:
    password = rig.site.person.password
    answer = {"effects": {"interacts": "ask"}}
    try:
        await rig.govern("space.update", space=SPACE, patch={"policy": {"overrides": answer}})
        asked = await rig.refusal("browser.press", keys=password)
    finally:
        await rig.govern("space.update", space=SPACE, patch={"policy": {"overrides": {"effects": {"interacts": None}}}})
    assert isinstance(asked, ApprovalNeeded)
    (shown,) = (await rig.govern("approval.list")).approvals
    assert "[redacted:prod/" in shown.model_dump_json()
    assert not is_kept(rig, password)


async def test_b19_what_was_filled_in_in_one_space_is_looked_for_in_no_other(rig: Rig) -> None:
    """Else a caller there would learn from its own records what the secret is, and its name."""
    # Of its own: it stays in the record, where the other tests look for theirs.
    told = "canary-told-elsewhere"
    await rig.login("/plain", secret=await rig.secret(password=told))
    assert isinstance(await rig.refusal("browser.press", keys=told), Denied)
    await rig.space("another")
    try:
        await refused(rig, "browser.press", {"space": "another", "keys": told})
        (run,) = (await rig.govern("run.list", space="another", limit=1)).runs
        record = await rig.govern("run.get", run=run.id)
        assert told in record.model_dump_json()
    finally:
        await rig.govern("space.delete", space="another", force=True)
