"""Loading a page: from asking for it until it is there, or its site has broken off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.errors import RuntimeUnavailable

if TYPE_CHECKING:
    from playwright.async_api import Response

ERROR_PAGE_S = 2.0
FAILED, ABORTED = "net::ERR_", "net::ERR_ABORTED"


@asynccontextmanager
async def landing(opened: OpenPage) -> AsyncIterator[None]:
    """Around what leads the page itself elsewhere. Where that fails, Chromium's own page about it comes a moment after
    Playwright's Error, and would interrupt whatever goes on from there: it is waited for."""
    from playwright.async_api import Error

    navigations = opened.navigations
    try:
        yield
    except Error as error:
        if FAILED in error.message and ABORTED not in error.message:
            await _until_elsewhere(opened, navigations)
        raise


async def _until_elsewhere(opened: OpenPage, navigations: int) -> None:
    try:
        async with asyncio.timeout(ERROR_PAGE_S):
            while opened.navigations == navigations:
                opened.stirred.clear()
                await opened.stirred.wait()
    except TimeoutError:
        return


async def loaded(opened: OpenPage, going: Awaitable[Response | None]) -> int | None:
    """The HTTP status. Raises RuntimeUnavailable as soon as a page comes in part only, and Playwright's Error."""
    opened.cut_off, navigations = "", opened.navigations
    loading = asyncio.ensure_future(going)
    try:
        async with landing(opened):
            while not loading.done():
                opened.stirred.clear()
                if opened.cut_off:
                    words, opened.cut_off = opened.cut_off, ""
                    await _until_elsewhere(opened, navigations)
                    raise RuntimeUnavailable(
                        f"The page broke off in the middle: {words}.",
                        hint="browser_snapshot shows what came of it; try again.",
                    )
                stirred = asyncio.ensure_future(opened.stirred.wait())
                await asyncio.wait({loading, stirred}, return_when=asyncio.FIRST_COMPLETED)
                stirred.cancel()
            response = loading.result()
    finally:
        loading.cancel()
    return None if response is None else response.status
