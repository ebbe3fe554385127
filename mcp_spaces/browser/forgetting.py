"""What a browser remembers of sites, and how it forgets it: cookies, every kind of storage, and pages with what is in
their memory and in their tab's session storage."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.pages.sessions import session_of

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page


async def forget(live: LiveBrowser, origin: str | None) -> int:
    """Of one origin, in further contexts as well; None: everything, and further contexts are closed. How many cookies
    went. Cookies go by host, so those of its other ports go too. Raises SpacesError, Playwright's Error."""
    if origin is None:
        for context in list(live.further):
            await context.close()
    gone = 0
    for context in (live.live.context, *live.further):
        # First the pages: one that goes may store something on its way.
        await _renew_pages(live, context, origin)
        gone += await _clear_cookies(context, origin)
        await _clear_storage(live, context, origin)
    return gone


async def _renew_pages(live: LiveBrowser, context: BrowserContext, origin: str | None) -> None:
    """A tab's session storage stays as long as the tab does."""
    from playwright.async_api import Error

    active = live.active
    for opened in [one for one in live.pages.values() if one.page.context is context]:
        if origin is None or opened.crashed or origin in await _visited(opened.page):
            await live.anew(opened)
            with suppress(Error):
                await opened.page.close()
    live.active = active


async def _visited(page: Page) -> set[str]:
    """The origins that its tab was at, and that its frames are at."""
    async with session_of(page.context, page) as session:
        history = await session.send("Page.getNavigationHistory")
    return {_origin(url) for url in (*(one["url"] for one in history["entries"]), *(one.url for one in page.frames))}


async def _clear_cookies(context: BrowserContext, origin: str | None) -> int:
    """Those that the origin is sent, a parent domain's among them."""
    cookies = await context.cookies()
    if origin is None:
        await context.clear_cookies()
        return len(cookies)
    host = urlsplit(origin).hostname or ""
    sent = [one for one in cookies if _is_sent(one["domain"], host)]
    for one in sent:
        await context.clear_cookies(name=one["name"], domain=one["domain"], path=one["path"])
    return len(sent)


async def _clear_storage(live: LiveBrowser, context: BrowserContext, origin: str | None) -> None:
    origins = {origin}
    if origin is None:
        state = await context.storage_state(indexed_db=True)
        origins = {str(one["origin"]) for one in state.get("origins", ())}
    page = next((one.page for one in live.pages.values() if one.page.context is context), None)
    async with session_of(context, page or (await live.open_page(context)).page) as session:
        for one in origins:
            await session.send("Storage.clearDataForOrigin", {"origin": one, "storageTypes": "all"})


def _is_sent(domain: str, host: str) -> bool:
    """A cookie whose domain begins with a dot goes to every host below it."""
    return f".{host}".endswith(domain) if domain.startswith(".") else domain.strip("[]") == host


def _origin(url: str) -> str:
    return "/".join(url.split("/")[:3])
