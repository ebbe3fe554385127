"""Sessions of the DevTools protocol: let go of whatever happens to whoever asked for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio

from mcp_spaces.browser.pages.failures import in_time
from mcp_spaces.errors import SpacesError

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, CDPSession, Page

ATTACH_S = 5.0
DETACH_S = 2.0


@asynccontextmanager
async def session_of(context: BrowserContext, page: Page) -> AsyncIterator[CDPSession]:
    """With a page of that context. Raises what `in_time` does."""
    # Whoever goes away while it is being made could not let go of it.
    with anyio.CancelScope(shield=True), in_time("look into the page", ATTACH_S):
        session = await context.new_cdp_session(page)
    try:
        yield session
    finally:
        await let_go(session)


async def let_go(session: CDPSession) -> None:
    """Detach, and no longer than `DETACH_S`: a browser that answers nothing would keep whoever waits, and their turn.
    No error: what is left of a session goes with its page."""
    with suppress(SpacesError), anyio.CancelScope(shield=True), in_time("let go of the page", DETACH_S):
        await session.detach()
