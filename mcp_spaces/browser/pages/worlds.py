"""Playwright's isolated worlds of one page, reached over the DevTools protocol: functions with arguments, and the
origin of each document as the browser knows it, whatever the page says (threats B01, B02)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp_spaces.browser.pages.events import safely
from mcp_spaces.browser.pages.failures import in_time
from mcp_spaces.browser.pages.sessions import session_of

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, CDPSession, Page

WORLD = "__playwright_utility_world"
CALL = "function (name, ...given) { return spacesFilling[name](...given); }"
ANSWER_S = 5.0
"""A document that answers nothing for so long is out of reach."""
DOCUMENT = "function () { return globalThis.spacesFilling ? spacesFilling.document : null; }"


class OutOfReachError(Exception):
    """The document is gone, or the call failed in it. Says nothing of what was passed."""


@dataclass(frozen=True, slots=True)
class Place:
    """A document that a secret may be asked into: the isolated world, and the origin of it and of all above it."""

    world: str
    frame: str
    origin: str


class Worlds:
    """See `worlds`."""

    def __init__(self, session: CDPSession) -> None:
        self._session = session
        # By names that are unique: each process counts its worlds from 1, and a page may get another process any time.
        self._frames: dict[str, str] = {}
        session.on("Runtime.executionContextCreated", safely(self._on_created))
        session.on("Runtime.executionContextDestroyed", safely(self._on_destroyed))
        session.on("Runtime.executionContextsCleared", safely(lambda _: self._frames.clear()))

    async def place(self, document: str) -> Place | None:
        """Of the document that the page script gave this token; None when it is gone, is below a frame of another
        origin, or has an origin that is none. Raises OutOfReachError."""
        world = await self.world(document)
        frame = None if world is None else self._frames.get(world)
        if world is None or frame is None:
            return None
        origin = await self._origin(frame)
        return None if origin is None else Place(world, frame, origin)

    async def world(self, document: str) -> str | None:
        """That of a document; None when it is gone, or in a process of its own."""
        for world in list(self._frames):
            try:
                token = await self._call(world, DOCUMENT)
            except OutOfReachError:
                continue
            if token == document:
                return world
        return None

    async def call(self, world: str, name: str, /, *given: object) -> Any:
        """A function of resources/browser/page/filling.js. Raises OutOfReachError."""
        return await self._call(world, CALL, name, *given)

    async def forget_history(self) -> None:
        """Nothing that this page showed before can be gone back to. Raises OutOfReachError."""
        await self._asked("Page.resetNavigationHistory")

    async def _origin(self, frame_id: str) -> str | None:
        chain = _chain((await self._asked("Page.getFrameTree"))["frameTree"], frame_id)
        origins = {str(one.get("securityOrigin", "")) for one in chain}
        if len(origins) != 1:
            return None
        (origin,) = origins
        return origin if origin.startswith(("https://", "http://")) and origin.isascii() else None

    async def _call(self, world: str, function: str, *given: object) -> Any:
        answer = await self._asked(
            "Runtime.callFunctionOn",
            {
                "functionDeclaration": function,
                "uniqueContextId": world,
                "arguments": [{"value": one} for one in given],
                "returnByValue": True,
                "silent": True,
                "userGesture": True,
            },
        )
        if "exceptionDetails" in answer:
            raise OutOfReachError
        return answer["result"].get("value")

    async def _asked(self, method: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
        from playwright.async_api import Error

        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._session.send(method, given)
        except (Error, TimeoutError):
            raise OutOfReachError from None

    def _on_created(self, told: dict[str, Any]) -> None:
        context = told["context"]
        about = context.get("auxData", {})
        if str(context.get("name", "")).startswith(WORLD) and not about.get("isDefault") and about.get("frameId"):
            self._frames[str(context["uniqueId"])] = str(about["frameId"])

    def _on_destroyed(self, told: dict[str, Any]) -> None:
        self._frames.pop(str(told["executionContextUniqueId"]), None)


def _chain(tree: dict[str, Any], frame_id: str) -> list[dict[str, Any]]:
    """A frame and those above it, the main one first; empty where it is not in the tree."""
    frame: dict[str, Any] = tree["frame"]
    if frame["id"] == frame_id:
        return [frame]
    for child in tree.get("childFrames", ()):
        below = _chain(child, frame_id)
        if below:
            return [frame, *below]
    return []


@asynccontextmanager
async def worlds(context: BrowserContext, page: Page) -> AsyncIterator[Worlds]:
    """Of the page's own process: a frame of another site is not among them. Raises what `in_time` does."""
    async with session_of(context, page) as session:
        found = Worlds(session)
        with in_time("look into the page", ANSWER_S):
            await session.send("Runtime.enable")
        yield found
