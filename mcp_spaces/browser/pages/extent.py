"""How large a page is, in CSS pixels: what is seen of it, and all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_spaces.browser.model import Viewport

if TYPE_CHECKING:
    from playwright.async_api import Page, ViewportSize

_WHOLE = "() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]"


def seen_of(page: Page) -> ViewportSize:
    """The size that browsers begin with where Playwright keeps none, as of a window that a person may resize."""
    begins = Viewport()
    return page.viewport_size or {"width": begins.width, "height": begins.height}


async def whole_of(page: Page) -> ViewportSize:
    """The page's own word. Raises Playwright's Error."""
    width, height = await page.evaluate(_WHOLE)
    return {"width": int(width), "height": int(height)}
