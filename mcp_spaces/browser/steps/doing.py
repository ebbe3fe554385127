"""One step while it is done: what its method has at hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from mcp_spaces.browser import artifacts
from mcp_spaces.browser.files import kept
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.browser.pages.page_script import command
from mcp_spaces.browser.pages.reading import located
from mcp_spaces.browser.steps.handles import Handle, Handles
from mcp_spaces.browser.steps.model import Arguments
from mcp_spaces.core.context import Context
from mcp_spaces.errors import WrongState

if TYPE_CHECKING:
    from playwright.async_api import Frame, Locator, Page

REF = "ref="


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    context: Context
    live: LiveBrowser
    handles: Handles
    target: Handle
    timeout_ms: float
    """For the whole step; methods hand it to Playwright."""

    @property
    def opened(self) -> OpenPage:
        """The page around the target. Raises WrongState where there is none."""
        if self.target.opened is None:
            raise WrongState("This is no page.", hint="Open one: context.newPage.")
        return self.target.opened

    @property
    def page(self) -> Page:
        return self.opened.page

    @property
    def frame(self) -> Frame:
        """The target, or a page's main one."""
        frame: Frame = self.target.thing if hasattr(self.target.thing, "child_frames") else self.page.main_frame
        return frame

    def find(self, selector: str) -> Locator:
        """Below the target; `ref=e12` is an element of the newest snapshot. Raises NotFound, InvalidInput."""
        if selector.startswith(REF):
            return located(self.opened, selector[len(REF) :])
        found: Locator = self.target.thing.locator(selector)
        return found

    def element(self, given: Arguments) -> Locator:
        """A locator that is the target, or the first element that a selector finds, as Playwright's pages do it."""
        selector = getattr(given, "selector", None)
        if selector is None:
            itself: Locator = self.target.thing
            return itself
        return self.find(selector).first

    async def ask(self, locator: Locator, name: str, /, **arguments: JsonValue) -> dict[str, Any]:
        """A command of the page script about one element."""
        answer = await locator.locator(command(name, **arguments)).text_content(timeout=self.timeout_ms)
        return dict(json.loads(answer or "{}"))

    async def keep(
        self, content: bytes, *, name: str, content_type: str, path: str | None, namespace: str
    ) -> dict[str, JsonValue]:
        """In storage under `path`, or as an artifact of this run."""
        if path is not None:
            view = await kept(self.context, content, path=path, namespace=namespace, overwrite=True)
            return {"path": view.path, "namespace": view.namespace, "size_bytes": view.size_bytes}
        artifact = await artifacts.keep(self.context, content, name=name, content_type=content_type)
        return {"artifact": artifact.id, "size_bytes": artifact.size_bytes}
