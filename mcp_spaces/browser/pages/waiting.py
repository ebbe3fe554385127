"""Waiting for a text where an outline shows it: in the page, and in its frames."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mcp_spaces.browser.pages.reading import FRAMES_MAX

if TYPE_CHECKING:
    from playwright.async_api import Frame, Locator, Page


async def until_shown(page: Page, text: str, *, timeout_ms: float) -> None:
    """In one of the frames that can be seen as it begins. Raises Playwright's Error, of the frame that gave up last."""
    from playwright.async_api import Error

    waits = [
        asyncio.ensure_future(_first(frame, text).wait_for(state="visible", timeout=timeout_ms))
        for frame in await _seen(page)
    ]
    try:
        for left, wait in zip(reversed(range(len(waits))), asyncio.as_completed(waits), strict=True):
            try:
                await wait
            except Error:
                if not left:
                    raise
            else:
                break
    finally:
        for one in waits:
            one.cancel()


async def until_gone(page: Page, text: str, *, timeout_ms: float) -> None:
    """From all of them. Raises Playwright's Error."""
    waits = [asyncio.ensure_future(_gone(frame, text, timeout_ms=timeout_ms)) for frame in await _seen(page)]
    try:
        await asyncio.gather(*waits)
    finally:
        for one in waits:
            one.cancel()


async def _gone(frame: Frame, text: str, *, timeout_ms: float) -> None:
    from playwright.async_api import Error

    try:
        await _first(frame, text).wait_for(state="hidden", timeout=timeout_ms)
    except Error:
        # Whatever was in a frame has gone with it.
        if not frame.is_detached():
            raise


def _first(frame: Frame, text: str) -> Locator:
    """The first one that can be seen: others may be hidden on the page."""
    return frame.get_by_text(text).filter(visible=True).first


async def _seen(page: Page) -> list[Frame]:
    """The page's own, and those whose iframe can be seen."""
    from playwright.async_api import Error

    found = [page.main_frame]
    for frame in page.frames[1 : FRAMES_MAX + 1]:
        try:
            if await (await frame.frame_element()).is_visible():
                found.append(frame)
        except Error:
            # It has gone meanwhile.
            continue
    return found
