"""A session of the DevTools protocol that nobody needs any more."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from mcp_spaces.browser.pages.failures import in_time
from mcp_spaces.errors import SpacesError

if TYPE_CHECKING:
    from playwright.async_api import CDPSession

DETACH_S = 2.0


async def let_go(session: CDPSession) -> None:
    """Detach, and no longer than `DETACH_S`: a browser that answers nothing would keep whoever waits, and their turn.
    No error: what is left of a session goes with its page."""
    with suppress(SpacesError), in_time("let go of the page", DETACH_S):
        await session.detach()
