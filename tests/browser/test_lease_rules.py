"""What the rules of a lease pass on, answer themselves and keep back, message by message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_spaces.browser.lease_rules import Answered, Passed, is_foreign, own_targets, screened

OWN = "own"


def judged(method: str, params: Any = None, **more: Any) -> Passed | Answered:
    order = {"id": 5, "method": method, **({} if params is None else {"params": params}), **more}
    return screened(json.dumps(order), context_id=OWN)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("DOM.getFileInfo", {"objectId": "x"}),
        ("Network.loadNetworkResource", {"url": "file:///etc/passwd"}),
        ("Page.addCompilationCache", {"url": "x", "data": "x"}),
        ("Page.crash", {}),
        ("Page.handleFileChooser", {"action": "accept", "files": ["/etc/passwd"]}),
        ("Page.navigate", {"url": " FILE:///etc/passwd"}),
        ("Page.navigate", {"url": ["file:///etc/passwd"]}),
        ("Page.navigate", {"url": "javascript:alert(1)"}),
        ("Page.navigate", ["https://shop.example"]),
    ],
)
def test_what_reaches_files_or_outlives_the_lease_is_refused_and_says_so_to_whoever_sent_it(
    method: str, params: Any
) -> None:
    verdict = judged(method, params, sessionId="S1")
    assert isinstance(verdict, Answered)
    assert (verdict.answer["id"], verdict.answer["sessionId"]) == (5, "S1") and "error" in verdict.answer


@pytest.mark.parametrize(
    "method", ["Browser.setDownloadBehavior", "Page.setDownloadBehavior", "Page.setInterceptFileChooserDialog"]
)
def test_what_clients_settle_when_they_connect_is_told_to_be_done_and_is_not(method: str) -> None:
    assert judged(method, {"behavior": "allow", "downloadPath": "/"}) == Answered({"id": 5, "result": {}})


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("Page.navigate", {"url": "https://shop.example"}),
        ("Page.navigate", {"url": ""}),
        ("Runtime.evaluate", {"expression": "1"}),
        ("Target.getTargets", {}),
        ("Input.dispatchDragEvent", {"type": "drop", "data": {"items": [], "files": []}}),
        ("Input.dispatchDragEvent", {"type": "dragOver"}),
    ],
)
def test_what_stays_in_the_context_goes_on_as_it_is(method: str, params: dict[str, Any]) -> None:
    order = {"id": 5, "method": method, "params": params, "sessionId": "S1"}
    assert judged(method, params, sessionId="S1") == Passed(order)


def test_an_order_without_parameters_has_none() -> None:
    assert judged("Page.enable") == Passed({"id": 5, "method": "Page.enable", "params": {}})


@pytest.mark.parametrize("asked", [{}, {"browserContextId": "another"}])
def test_a_new_page_is_one_of_the_context_whatever_the_client_asks_for(asked: dict[str, Any]) -> None:
    verdict = judged("Target.createTarget", {"url": "about:blank", **asked})
    assert isinstance(verdict, Passed) and verdict.order["params"] == {"url": "about:blank", "browserContextId": OWN}


def target(context_id: str | None) -> dict[str, Any]:
    return {"targetId": "T", **({} if context_id is None else {"browserContextId": context_id})}


@pytest.mark.parametrize(
    ("told", "foreign"),
    [
        ({"method": "Target.targetCreated", "params": {"targetInfo": target("another")}}, True),
        ({"method": "Target.attachedToTarget", "params": {"targetInfo": target("another")}}, True),
        ({"method": "Target.targetCreated", "params": {"targetInfo": target(OWN)}}, False),
        ({"method": "Target.targetCreated", "params": {"targetInfo": target(None)}}, False),
        ({"method": "Target.targetDestroyed", "params": {"targetId": "T"}}, False),
        ({"method": "Page.loaded", "params": {"targetInfo": target("another")}}, False),
        ({"id": 5, "result": {}}, False),
    ],
)
def test_what_happens_to_pages_of_another_context_is_not_told(told: dict[str, Any], foreign: bool) -> None:
    assert is_foreign(told, context_id=OWN) is foreign


def test_pages_of_another_context_are_in_no_list() -> None:
    told = {"id": 5, "result": {"targetInfos": [target(OWN), target("another"), target(None)], "more": 1}}
    assert own_targets(told, context_id=OWN) == {
        "id": 5,
        "result": {"targetInfos": [target(OWN), target(None)], "more": 1},
    }
    assert own_targets({"id": 5, "result": {}}, context_id=OWN) == {"id": 5, "result": {}}
