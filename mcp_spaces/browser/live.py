"""A browser runtime while it runs: its pages, and what an operation has to know before it touches one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from mcp_spaces.browser.model import PAGES_MAX, BrowserOptions
from mcp_spaces.browser.pages.downloads import Download, Downloads
from mcp_spaces.browser.pages.events import safely
from mcp_spaces.browser.pages.failures import in_time, translated
from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.browser.pages.scripting import Scripting
from mcp_spaces.browser.pages.sessions import session_of
from mcp_spaces.browser.record.recording import Recording
from mcp_spaces.browser.steps.handles import Handles
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.core.tasks import Aside, shielded
from mcp_spaces.errors import Busy, NotFound, QuotaExceeded, RuntimeUnavailable, WrongState
from mcp_spaces.network.model import Refused

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

    from mcp_spaces.browser.lease import Lease
    from mcp_spaces.browser.port import LiveContext

CONTEXTS_MAX = 4
"""Further contexts of one runtime, beside its own."""
CONTEXT_S = 30.0
PAGE_S = 20.0
"""For making one."""
TURN_S = 60.0
"""How long an operation waits for the one before it."""


Refusal = Callable[[str, int], Refused | None]


class LiveBrowser:
    """Made by `BrowserService`; `begin` opens the first page. `run_id` is the run that started it. `refusal` says why
    the gateway refused a tunnel to a host and port, where it did."""

    def __init__(self, live: LiveContext, options: BrowserOptions, *, run_id: str, refusal: Refusal) -> None:
        self.live = live
        self.options = options
        self.run_id = run_id
        self.refusal = refusal
        self.downloads = Downloads(live)
        self.pages: dict[str, OpenPage] = {}
        self.active: str = ""
        self.opened: list[str] = []
        """Pages that came up since an operation last asked."""
        self.secrets: dict[str, str] = {}
        """What was filled in, by value, with the name that stands for it: taken out of everything that leaves."""
        self.redactor = Redactor()
        """It knows them, for what is cut before the pipeline's own looks at it."""
        self.tainted = False
        """A secret was filled in once: no trace, no recording from now on (threat L07)."""
        self.secret_inside = False
        """A secret is in a page now: nothing is looked at, and nothing else is opened."""
        self.leased_until: float | None = None
        self.lease: Lease | None = None
        self.further: list[BrowserContext] = []
        """Contexts that steps opened beside the runtime's own."""
        self.handles = Handles(self)
        self.recording = Recording(self)
        self.scripting = Scripting()
        self.current_run = ""
        """The run whose action is under way: what it makes the browser fetch is its doing."""
        self._turn = asyncio.Lock()
        self._aside = Aside()
        self._count = 0
        self._downloads_before = 0

    async def begin(self) -> None:
        with translated("open the first page"):
            await self._furnish(self.live.context)

    async def _furnish(self, context: BrowserContext) -> None:
        """A new context's first page, and what every page of it has to have."""
        context.on("page", safely(self._adopt))
        page = await context.new_page()
        self._adopt(page)
        async with session_of(context, page) as session:
            await self.downloads.begin(session)
        if self.options.block_resources:
            kinds = frozenset(self.options.block_resources)
            await context.route(
                "**/*",
                lambda route: route.abort() if route.request.resource_type in kinds else route.fallback(),
            )

    async def open_context(self) -> BrowserContext:
        """A further one with the runtime's own way out and nothing of its profile; it has a blank page.

        Raises QuotaExceeded.
        """
        if len(self.further) >= CONTEXTS_MAX or len(self.pages) >= PAGES_MAX:
            raise QuotaExceeded(
                f"A browser has at most {CONTEXTS_MAX} further contexts and {PAGES_MAX} pages.",
                hint="Close one: context.close, browser_close.",
            )
        with in_time("open a context", CONTEXT_S):
            context = await self.live.another()
            self.further.append(context)
            context.on("close", safely(lambda _: self.further.remove(context)))
            await self._furnish(context)
        return context

    def _adopt(self, page: Page) -> None:
        if any(one.page is page for one in self.pages.values()):
            return
        for one in self.pages.values():
            one.on_opened()
        if self.secret_inside or len(self.pages) >= PAGES_MAX:
            # A page that opens windows while a secret is in one, or without end (threats B11, D14).
            page.on("download", safely(self.downloads.refuse))
            self._aside.start(page.close())
            return
        self._count += 1
        opened = OpenPage(f"p{self._count}", page, self.redactor)
        opened.listen()
        self.pages[opened.id] = opened
        self.opened.append(opened.id)
        if not self.active:
            self.active = opened.id
        page.on("close", safely(lambda _: self._drop(opened)))
        page.on("download", safely(self.downloads.expect))

    def _drop(self, opened: OpenPage) -> None:
        if self.pages.get(opened.id) is opened:
            del self.pages[opened.id]
            if self.active == opened.id:
                self.active = next(reversed(self.pages), "")

    async def open_page(self, context: BrowserContext | None = None) -> OpenPage:
        """In the runtime's own context, or a further one. Raises QuotaExceeded."""
        if len(self.pages) >= PAGES_MAX:
            raise QuotaExceeded(f"A browser has at most {PAGES_MAX} pages.", hint="Close one: browser_close.")
        with in_time("open a page", PAGE_S):
            page = await (context or self.live.context).new_page()
        self._adopt(page)
        opened = next((one for one in self.pages.values() if one.page is page), None)
        if opened is None:
            raise RuntimeUnavailable("The page closed at once.", hint="Try again.")
        self.active = opened.id
        return opened

    async def anew(self, opened: OpenPage) -> OpenPage:
        """A blank page in the place of one that crashed or hangs, under its id: neither can be led anywhere."""
        del self.pages[opened.id]
        context = opened.page.context
        self._aside.start(opened.page.close())
        fresh = await self.open_page(context)
        del self.pages[fresh.id]
        if fresh.id in self.opened:
            self.opened.remove(fresh.id)
        self.active = fresh.id = opened.id
        self.pages[fresh.id] = fresh
        return fresh

    async def page(self, page_id: str | None) -> OpenPage:
        """The page that an operation is about. Raises NotFound, RuntimeUnavailable (crashed)."""
        if not self.pages and page_id is None:
            return await self.open_page()
        opened = self.pages.get(page_id or self.active)
        if opened is None:
            raise NotFound(f"No page {page_id}.", hint=f"Open pages: {', '.join(self.pages) or 'none'}.")
        return opened

    async def usable(self, page_id: str | None) -> OpenPage:
        """As `page`, for what a crash or an open dialog stands against. Raises WrongState as well."""
        opened = await self.page(page_id)
        if opened.crashed:
            raise RuntimeUnavailable(f"Page {opened.id} has crashed.", hint="browser_navigate loads it anew.")
        if opened.dialog is not None:
            raise WrongState(
                f"A dialog is open ({opened.dialog.type}): {opened.shown(opened.dialog.message, 300)}",
                hint="Answer it first: browser_dialog accept=true or false.",
            )
        return opened

    @asynccontextmanager
    async def turn(self, redactor: Redactor, *, run_id: str) -> AsyncIterator[None]:
        """One operation at a time. Raises Busy, WrongState (somebody else holds the controls)."""
        self._refuse_leased()
        with anyio.move_on_after(TURN_S) as waited:
            await self._turn.acquire()
        if waited.cancelled_caught:
            raise Busy("The operation before this one is still under way.", hint="Try again.")
        try:
            # The operation before this one may have let somebody in.
            self._refuse_leased()
            if self.secret_inside:
                # A login that broke off: the browser is being closed (threats L01 to L06).
                raise WrongState(
                    "A secret is in a page of this browser.",
                    hint="Stop it, then launch it again: browser_stop, browser_launch.",
                )
            self.teach(redactor)
            self.current_run, self.opened = run_id, []
            yield
        finally:
            self.current_run = ""
            self._turn.release()

    def _refuse_leased(self) -> None:
        if self.leased_until is not None:
            raise WrongState(
                "Somebody else controls this browser (a CDP lease).", hint="Wait, or revoke it: browser_disconnect."
            )

    def teach(self, redactor: Redactor) -> None:
        """Whatever was filled in here is taken out of this call's answer and record."""
        for value, name in self.secrets.items():
            redactor.learn(value, name=name)

    def used(self, secrets: Mapping[str, str]) -> None:
        """Values that were filled in, with their names."""
        self.tainted = True
        self.secrets.update(secrets)
        self.teach(self.redactor)

    def begin_secret(self) -> None:
        """From here on nothing is looked at or recorded, and no page is opened."""
        self.secret_inside = True
        self._downloads_before = self.downloads.count
        for opened in self.pages.values():
            opened.secret_inside, opened.url_before = True, opened.page.url

    async def end_secret(self) -> None:
        """No page holds it any more. What was downloaded meanwhile is not kept: it may be the secret."""
        begun = self.downloads.since(self._downloads_before)
        for one in begun:
            self.downloads.forget(one)
        try:
            await shielded(self._remove(begun))
        finally:
            for opened in self.pages.values():
                opened.secret_inside = False
            self.secret_inside = False

    async def _remove(self, downloads: Iterable[Download]) -> None:
        for one in downloads:
            await self.downloads.drop(one)
