"""Why a page could not be reached, in the gateway's words: Chromium says no more than that there was no tunnel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.pages.failures import NO_TUNNEL, NoTunnel, net_words
from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.errors import Denied, RuntimeUnavailable
from mcp_spaces.network.model import FAILURES, HTTPS_PORT, Refused


@contextmanager
def in_the_gateways_words(live: LiveBrowser, opened: OpenPage | None, what: str) -> Iterator[None]:
    """Around what leads the page elsewhere, redirected or not. Raises Denied with the rule, or RuntimeUnavailable where
    no rule refused it."""
    try:
        yield
    except NoTunnel:
        refused = None if opened is None else _refusal(live, opened)
        if refused is None:
            raise
        if refused.reason in FAILURES:
            raise RuntimeUnavailable(f"{what}: {refused.words}.", hint="Check the URL, or try again.") from None
        raise Denied(
            f"{what}: the gateway refused it: {refused.words}.",
            hint="context_get shows what can be reached; a person can widen the space's network mount.",
            rule=refused.rule or "network",
        ) from None


def why(live: LiveBrowser, opened: OpenPage) -> str:
    """Why the newest request for the page itself failed, in words; empty where no reason was told."""
    refused = _refusal(live, opened) if opened.failure == net_words(NO_TUNNEL) else None
    if refused is None:
        return opened.failure
    return refused.words if refused.reason in FAILURES else f"the gateway refused it: {refused.words}"


def _refusal(live: LiveBrowser, opened: OpenPage) -> Refused | None:
    try:
        asked = urlsplit(opened.heading_for)
        port = asked.port or HTTPS_PORT
    except ValueError:
        return None
    # Plain HTTP needs no tunnel: its refusal is the page that is shown.
    return live.refusal(asked.hostname or "", port) if asked.scheme == "https" else None
