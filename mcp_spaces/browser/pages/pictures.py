"""Pictures of pages and of elements, in which fields that hide their value are covered (threat L01)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from mcp_spaces.browser.pages.page_script import masks

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

QUALITY = 70
"""Of a JPEG, in percent."""


async def picture_of(
    target: Page | Locator, page: Page, kind: Literal["png", "jpeg"], *, timeout_ms: float, full_page: bool = False
) -> bytes:
    """`target` is `page` or an element in it; `full_page` is for a page alone. Raises Playwright's Error."""
    more: dict[str, Any] = {"full_page": True} if full_page else {}
    return await target.screenshot(
        type=kind,
        quality=QUALITY if kind == "jpeg" else None,
        mask=masks(page),
        timeout=timeout_ms,
        caret="initial",
        **more,
    )
