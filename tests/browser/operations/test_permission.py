"""What a launch, a policy and a reference to a secret keep a browser from, and by which names it is called."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_spaces.errors import ApprovalNeeded, Denied, ExceedsCeiling, InvalidInput
from tests.browser.operations.tabs import HOST, Tab


async def test_a_launch_blocks_hosts_and_takes_no_proxy_that_the_space_does_not_mount(tab: Tab) -> None:
    options: dict[str, Any] = {"block_hosts": ["page.test"], "locale": "de-DE", "timezone": "Europe/Berlin"}
    given = {"space": "work", "alias": "blocked", "options": options}
    agent, pipeline = tab.app.local_agent(), tab.app.pipeline
    await pipeline.call(agent, "browser.launch", given)
    blocked = Tab(tab.app, tab.site, "blocked")
    opened = await blocked.call("navigate", url=f"{HOST}/thanks")
    assert opened.status == 403 and "browser.block_hosts" in opened.changes
    await blocked.call("delete")
    with pytest.raises(ExceedsCeiling) as refused:
        await pipeline.call(agent, "browser.launch", {"space": "work", "options": {"proxy": "us"}})
    assert "mount" in refused.value.hint


async def test_resources_that_a_launch_blocks_are_not_loaded(tab: Tab) -> None:
    tab.site.made["pictured"] = "<p>Pictured</p><img src=/picture.png>"
    given = {"space": "work", "alias": "plain", "options": {"block_resources": ["image"]}}
    await tab.app.pipeline.call(tab.app.local_agent(), "browser.launch", given)
    plain = Tab(tab.app, tab.site, "plain")
    await plain.call("navigate", url=f"{HOST}/pictured")
    (picture,) = [one for one in (await plain.call("network")).requests if "picture.png" in one]
    assert "ERR_FAILED" in picture
    await plain.call("delete")


async def test_a_policy_that_only_reads_lets_nothing_be_clicked(tab: Tab) -> None:
    refs = await tab.shop()
    operator = tab.app.operator()
    patch = {"space": "work", "patch": {"policy": {"preset": "restrictive"}}}
    await tab.app.pipeline.call(operator, "space.update", patch)
    try:
        assert "Press" in (await tab.call("snapshot")).snapshot
        error = await tab.refused("click", Denied, ref=refs["Press"])
        assert isinstance(error, Denied) and error.rule in ("browser.level", "effects.interacts")
    finally:
        patch["patch"] = {"policy": {"preset": "standard"}}
        await tab.app.pipeline.call(operator, "space.update", patch)


async def test_a_script_of_the_callers_own_asks_first(tab: Tab) -> None:
    await tab.shop()
    error = await tab.refused("evaluate", ApprovalNeeded, script="document.title")
    await tab.app.pipeline.call(tab.app.operator(), "approval.grant", {"approval": error.details()["approval_id"]})
    assert (await tab.call("evaluate", script="document.title")).result == "Shop"


@pytest.mark.parametrize("operation", ["fill", "press", "evaluate"])
async def test_b19_a_reference_to_a_secret_is_never_typed(tab: Tab, operation: str) -> None:
    refs = await tab.shop()
    text = "{{vault:prod/crm}}"
    given: dict[str, dict[str, Any]] = {
        "fill": {"fields": {refs["Name"]: text}},
        "press": {"keys": text},
        "evaluate": {"script": f"'{text}'"},
    }
    error = await tab.refused(operation, InvalidInput, **given[operation])
    assert "browser_login" in error.message


async def test_operations_are_called_by_the_names_that_hints_give_them(tab: Tab) -> None:
    wanted = {"operation": "browser_pages", "input": {"space": "work", "runtime": tab.alias}}
    answer = await tab.app.pipeline.call(tab.app.local_agent(), "operation.call", wanted)
    assert answer.output.model_dump()["pages"]
    with pytest.raises(InvalidInput):
        await tab.app.pipeline.call(tab.app.local_agent(), "operation.call", {"operation": "operation_call"})
