"""A browser that runs, as those see it that work for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mcp_spaces.browser.model import BrowserOptions
from mcp_spaces.browser.pages.page import OpenPage

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext

    from mcp_spaces.browser.port import LiveContext


class OpenBrowser(Protocol):
    """What handles and recordings know of their LiveBrowser, which owns them."""

    live: LiveContext
    options: BrowserOptions
    pages: dict[str, OpenPage]
    active: str
    further: list[BrowserContext]
    tainted: bool
    secret_inside: bool
