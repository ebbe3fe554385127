"""Where the forms of a login lead, judged before a secret is opened for them (threats B05, B08)."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mcp_spaces.browser.secrets.filling import check_actions
from mcp_spaces.browser.secrets.login_screen import Document, Field
from mcp_spaces.errors import WrongState
from mcp_spaces.vault.model import Bindings

APP, EVIL = "https://app.test", "https://evil.test"
BOUND = Bindings(origins=(APP,))


def field(action: str | None, *submits: dict[str, Any]) -> Field:
    """The password of the form f1."""
    document = Document(cast(Any, None), "D", None, submits)
    return Field("password", document, ("e1",), "password", "f1", action, None, is_seen=True)


@pytest.mark.parametrize(
    "action", [None, f"{APP}/login", "https://app.test:443/", "javascript:void(0)", "JavaScript:x"]
)
def test_b05_a_form_may_lead_to_where_the_secret_is_bound_or_to_the_page_s_own_scripts(action: str | None) -> None:
    check_actions([field(action)], None, BOUND)


@pytest.mark.parametrize("action", [f"{EVIL}/collect", "http://app.test/", "https://app.test:8443/", "mailto:a@b", ""])
def test_b05_b08_a_form_that_leads_elsewhere_gets_nothing(action: str) -> None:
    with pytest.raises(WrongState):
        check_actions([field(f"{APP}/login"), field(action)], None, BOUND)


@pytest.mark.parametrize(
    ("button", "chosen", "refused"),
    [
        ({"native": True, "form": "f1"}, None, True),
        ({"native": True, "form": "f1"}, "e9", True),
        ({"native": True, "form": "f2"}, None, False),
        ({"native": False, "form": "f1"}, None, False),
        ({"native": True, "form": "f2"}, "e9", True),
        ({"native": False, "form": "f1"}, "e9", True),
    ],
)
def test_b05_a_button_counts_that_sends_the_form_by_itself_or_that_the_caller_chose(
    button: dict[str, Any], chosen: str | None, refused: bool
) -> None:
    told = {"ref": "e9", "action": f"{EVIL}/collect", **button}
    if not refused:
        check_actions([field(f"{APP}/login", told)], chosen, BOUND)
        return
    with pytest.raises(WrongState, match="evil"):
        check_actions([field(f"{APP}/login", told)], chosen, BOUND)
