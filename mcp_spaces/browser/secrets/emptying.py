"""Taking secrets out of a page again: until no document holds them any more, if need be by leaving it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.browser.pages.reading import read
from mcp_spaces.browser.pages.worlds import OutOfReachError, Worlds
from mcp_spaces.core.redaction import MINIMUM_LENGTH

if TYPE_CHECKING:
    from playwright.async_api import Frame

BLANK_S = 10.0
BLANK = "about:blank"
ERROR_PAGE = "chrome-error:"
LOOKS_MAX = 5
BROKE_OFF = "signing in broke off while a secret was in a page"


class Emptying:
    """Of one page. `secrets` are looked for in fields; `passwords` among them in texts and addresses as well, where a
    short one would be found by chance."""

    def __init__(self, opened: OpenPage, worlds: Worlds, *, secrets: Sequence[str], passwords: Sequence[str]) -> None:
        self._opened = opened
        self._worlds = worlds
        self._secrets = list(secrets)
        self._plain = [one for one in passwords if len(one) >= MINIMUM_LENGTH]

    async def empty(self) -> str | None:
        """Until no document holds a secret. None; or, where the page had to be left, its address or that which it was sent on
        to, BLANK where a secret stood in it. Raises whatever stands against it."""
        for tries_left in reversed(range(LOOKS_MAX)):
            try:
                return await self._emptied()
            except OutOfReachError:
                # A page that goes on by itself, as many do after a login, is looked at when it is there.
                if not tries_left:
                    raise
                await self._opened.settle(navigations=self._opened.navigations)
        return None

    async def _emptied(self) -> str | None:
        for frame, world in await self._worlds_of_frames():
            if world is not None:
                await self._worlds.call(world, "forget")
            elif frame.url.startswith(ERROR_PAGE):
                # It was refused on its way; loading it again would send it again (threat B05).
                return await self._leave()
        if self._opened.is_waiting or await self._holding():
            for _, world in await self._worlds_of_frames():
                if world is not None:
                    await self._worlds.call(world, "clear", self._secrets, self._plain)
            # A request under way may still be answered with a redirect elsewhere.
            if self._opened.is_waiting or await self._holding():
                return await self._leave()
        return None

    async def _leave(self) -> str:
        from playwright.async_api import Error

        url = self._opened.page.url
        if url.startswith(ERROR_PAGE) and self._opened.landed_by == "GET":
            # Where it was sent on to when it was refused, such as an application of a single sign-on.
            url = self._opened.heading_for
        try:
            await self._opened.page.goto(BLANK, timeout=BLANK_S * 1000)
        except Error:
            # Another navigation came in between, such as to the page of an error.
            await self._opened.page.goto(BLANK, timeout=BLANK_S * 1000)
        await self._worlds.forget_history()
        if await self._holding():
            raise RuntimeError(BROKE_OFF)
        # In the address it went to the site's logs as well: that is no login to go on from.
        return url if url.startswith("http") and not any(one in unquote_plus(url) for one in self._secrets) else BLANK

    async def _holding(self) -> bool:
        for frame in self._opened.page.frames:
            told = await read(frame, "holds")
            if not told["complete"] or any(one.get("name") for one in told["holding"]):
                return True
            world = await self._worlds.world(str(told["document"]))
            if world is None:
                # Another site's frame, in a process of its own: what is filled there is not ours to see.
                if told["holding"]:
                    return True
            elif await self._worlds.call(world, "places", self._secrets, self._plain):
                return True
        return False

    async def _worlds_of_frames(self) -> list[tuple[Frame, str | None]]:
        found = []
        for frame in self._opened.page.frames:
            told = await read(frame, "holds")
            world = None if frame.url.startswith(ERROR_PAGE) else await self._worlds.world(str(told["document"]))
            found.append((frame, world))
        return found
