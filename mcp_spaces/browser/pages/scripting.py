"""Scripts of an agent's own and secrets of the vault never meet in a document (threat L04).

A script can leave something behind that reads a password as it is filled in: a listener, or a hook on every document
that its own windows open. So a context that one ran in gets no secret any more. And a document that was there during a
fill may keep the value in its own scripts, however clean its fields are: until it is gone, no script runs beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.errors import WrongState

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext

ASKED_S = 2.0
"""How long a page may take to say which document it shows. One that hangs counts as the one that it was."""


class Scripting:
    """Of one runtime."""

    def __init__(self) -> None:
        self._ran_in: set[BrowserContext] = set()
        self._beside: dict[OpenPage, str | None] = {}
        """Pages that were open during a fill, with the document that they showed; None: they did not say."""

    def ran(self, context: BrowserContext) -> None:
        """A script of the agent's own may have run anywhere in there."""
        self._ran_in.add(context)

    def refuse_secret(self, opened: OpenPage) -> None:
        """Raises WrongState where a script ran; loading pages anew does not help."""
        if opened.page.context in self._ran_in:
            raise WrongState(
                "A script of your own ran in this browser, and could listen to what is filled in.",
                hint="Launch another browser, and sign in there before any script: browser_launch.",
            )

    async def fill_begins(self, opened: OpenPage, pages: Iterable[OpenPage]) -> None:
        """Whatever is open beside it could be told the secret, so all of that counts."""
        beside = [one for one in pages if _is_alive(one, opened.page.context)]
        documents = await asyncio.gather(*(_document(one) for one in beside))
        self._beside.update(zip(beside, documents, strict=True))

    async def begin(self, opened: OpenPage) -> None:
        """Whoever is about to run a script awaits this. Raises WrongState beside a document that a secret was in."""
        context = opened.page.context
        beside = [one for one in self._beside if _is_alive(one, context)]
        documents = await asyncio.gather(*(_document(one) for one in beside))
        still = [one for one, now in zip(beside, documents, strict=True) if now is None or now == self._beside[one]]
        self._beside = {one: at for one, at in self._beside.items() if one.page.context is not context or one in still}
        if still:
            names = ", ".join(sorted(one.id for one in still))
            raise WrongState(
                f"A secret was filled in while this document was open, and its scripts may still have it ({names}).",
                hint="Load it anew first: browser_reload, or browser_navigate.",
            )
        self.ran(context)


def _is_alive(opened: OpenPage, context: BrowserContext) -> bool:
    return opened.page.context is context and not opened.page.is_closed() and not opened.crashed


async def _document(opened: OpenPage) -> str | None:
    """Of its main frame, as the browser numbers them: another address in the same document changes nothing."""
    try:
        async with asyncio.timeout(ASKED_S):
            session = await opened.page.context.new_cdp_session(opened.page)
            tree = await session.send("Page.getFrameTree")
            await session.detach()
    except Exception:  # noqa: BLE001 - Playwright's Error or a timeout: whoever does not say it is not trusted
        return None
    return str(tree["frameTree"]["frame"]["loaderId"])
