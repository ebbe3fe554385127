"""The methods that steps may call: all declared, described and published, and nothing else is taken."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_spaces.browser.steps.arguments import parsed
from mcp_spaces.browser.steps.page_methods import BY_ID, METHODS
from mcp_spaces.errors import InvalidInput
from tests.browser.room import Room
from tests.browser.steps.programs import at, run, step


@pytest.mark.parametrize(
    "bad",
    [
        {"call": "page.setContent", "args": ["<b>"]},
        {"call": "page.goto", "args": ["file:///etc/passwd"]},
        {"call": "page.goto", "args": ["http://ann:pw@app.test/"]},
        {"call": "page.goto", "args": []},
        {"call": "page.fill", "args": ["#n", "{{vault:prod/crm#password}}"]},
        {"call": "page.evaluate", "args": ["'{{vault:prod/crm}}'"]},
        {"call": "page.innerText", "args": ["spaces=snapshot:e30"]},
        {"call": "page.innerText", "args": ['internal:has="spa\\u0063es=snapshot:e30"']},
        {"call": "page.click", "args": ["#n", {"force": True}]},
        {"call": "page.title", "options": {"timeoutMs": 600_000}},
        {"call": "__class__.mro"},
        {"call": "page.title", "then": "more"},
        "page.title",
    ],
    ids=str,
)
async def test_what_is_not_declared_is_refused_before_anything_is_done(room: Room, bad: Any) -> None:
    room.site.seen.clear()
    with pytest.raises(InvalidInput) as refused:
        await run(room, *at(room), bad)
    assert refused.value.message.startswith("Step 3: ") and refused.value.hint
    assert room.site.seen == []
    malformed = await run(room, step("page.url", ref="p1"), bad, mode="continue")
    assert [event.ok for event in malformed.events] == [True, False]


@pytest.mark.parametrize(
    ("call", "given", "read"),
    [
        ("page.goto", ["http://app.test/"], {"url": "http://app.test/", "waitUntil": "load"}),
        ("page.goto", {"url": "http://app.test/"}, {"url": "http://app.test/", "waitUntil": "load"}),
        (
            "page.goto",
            ["http://app.test/", {"waitUntil": "commit"}],
            {"url": "http://app.test/", "waitUntil": "commit"},
        ),
        ("page.waitForLoadState", [], {"state": "load"}),
        ("page.waitForLoadState", [{"state": "networkidle"}], {"state": "networkidle"}),
        ("page.fill", ["#n", "Ann"], {"selector": "#n", "value": "Ann"}),
        ("page.evaluate", ["x => x", {"name": "Ann"}], {"expression": "x => x", "arg": {"name": "Ann"}}),
        ("page.setViewportSize", [{"width": 400, "height": 300}], {"size": {"width": 400, "height": 300}}),
        ("locator.filter", [{"hasText": "one"}], {"hasText": "one", "hasNotText": None, "visible": None}),
    ],
    ids=str,
)
def test_arguments_are_read_in_order_by_name_and_with_options(call: str, given: Any, read: dict[str, Any]) -> None:
    assert parsed(BY_ID[call], given).model_dump() == read


def test_nothing_is_declared_twice_and_every_method_says_what_it_is_for() -> None:
    assert len({one.id for one in METHODS}) == len(METHODS)
    for one in METHODS:
        assert one.summary.endswith(".") and len(one.summary) <= 100
        assert set(one.arguments.POSITIONAL) <= set(one.arguments.model_fields)


async def test_every_declared_method_is_published_with_its_schema(room: Room) -> None:
    published = (await room.anywhere("browser.methods")).methods
    assert [one.call for one in published] == [one.id for one in METHODS]
    one = (await room.anywhere("browser.methods", call="page.fill")).methods[0]
    assert one.signature == "page.fill(selector, value)" and one.use == "interact"
    assert set(one.arguments["properties"]) == {"selector", "value"}
