"""What is refused in a browser for the sake of secrets: only browser_login types them, and alone with the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.core.context import Context
from mcp_spaces.core.redaction import MINIMUM_LENGTH
from mcp_spaces.errors import Denied, WrongState


def no_reference(text: str) -> str:
    """A reference is for browser_login: here it would be typed as it stands, or worse, be resolved (threat B19)."""
    if "{{vault:" in text:
        raise ValueError("a secret is filled in by browser_login, never typed")
    return text


def refuse_secrets(context: Context, *given: object) -> None:
    """What browser_login filled in in a browser of this space is never typed: a page may have asked for it (threat
    B19). Raises Denied."""
    used = [one for one in context.use(BrowserService).filled_in(context.space.id) if len(one) >= MINIMUM_LENGTH]
    if any(one in text for one in used for text in _texts(given)):
        raise Denied(
            "That text holds a secret that was filled in here.",
            hint="Secrets are filled in by browser_login alone, where they are bound to.",
            rule="browser.secret",
        )


def _texts(given: object) -> Iterator[str]:
    if isinstance(given, str):
        yield given
    elif isinstance(given, Mapping):
        yield from _texts(list(given.values()))
    elif isinstance(given, list | tuple):
        for one in given:
            yield from _texts(one)


def refuse_inside(live: LiveBrowser) -> None:
    """Raises WrongState while a secret is in a page (threats L01 to L05)."""
    if live.secret_inside:
        raise WrongState("A secret is in the page.", hint="Wait until browser_login has ended.")
