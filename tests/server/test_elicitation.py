"""What a client says of a page that it was sent to: it opens nothing by itself, and chooses nothing but to wait."""

from __future__ import annotations

from typing import Any

import mcp_types as types
import pytest

from mcp_spaces.server.elicitation import WAIT_S, asking, resumed

REQUEST = "ent_" + "a" * 26


def call(answer: types.ElicitResult | None = None, *, state: str | None = f"entry:{REQUEST}", **arguments: Any) -> Any:
    responses: types.InputResponses = {} if answer is None else {"page": answer}
    return types.CallToolRequestParams(
        name="vault_request_entry", arguments=arguments, request_state=state, input_responses=responses
    )


def accepted(action: Any = "accept") -> types.ElicitResult:
    return types.ElicitResult(action=action)


def test_only_a_person_who_wants_to_open_the_page_is_waited_for() -> None:
    assert resumed(call(accepted())) == {"request": REQUEST, "timeout_s": WAIT_S}
    for answer in (accepted("decline"), accepted("cancel"), None):
        assert resumed(call(answer)) == {"request": REQUEST, "timeout_s": 0}


def test_it_is_waited_for_in_the_space_of_the_call_however_that_was_made() -> None:
    for arguments in ({"space": "work"}, {"operation": "vault.request_entry", "input": {"space": "work"}}):
        assert resumed(call(accepted(), path="prod/api", **arguments)) == {
            "request": REQUEST,
            "timeout_s": WAIT_S,
            "space": "work",
        }
    assert "space" not in (resumed(call(accepted(), space=7)) or {})


@pytest.mark.parametrize(
    "state", [None, "", REQUEST, f"entry:{REQUEST}x", f" entry:{REQUEST}", f"entry:{REQUEST.upper()}", "entry:ap_a"]
)
def test_any_other_call_is_a_call_as_usual(state: str | None) -> None:
    assert resumed(call(accepted(), state=state)) is None


def test_what_a_client_is_sent_away_with_brings_it_back() -> None:
    sent = asking("http://127.0.0.1:1/entries/x", request=REQUEST)
    assert resumed(call(accepted(), state=sent.request_state)) is not None
    assert set(sent.input_requests or {}) == {"page"}
