"""The operations on pages as a whole: open, go somewhere, back, reload, switch, close."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Literal

import anyio
from pydantic import AfterValidator, Field

from mcp_spaces.browser.acting import note_action, outcome, turn
from mcp_spaces.browser.answers import ActionOutput, InPage, PageId, PageView, address, page_view
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.pages.failures import in_time, translated
from mcp_spaces.browser.pages.loading import loaded
from mcp_spaces.browser.pages.page import URL_MAX, OpenPage, without_query
from mcp_spaces.browser.unreached import in_the_gateways_words
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import BrowserFacts, BrowserUse
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.errors import NotFound, RuntimeUnavailable, TimedOut, WrongState

NAVIGATION_S = 30.0
BEGINS_S = 0.5
"""How long a navigation that was broken off may yet turn out to be a download."""
TOLD_S = 10.0
"""How long one that is known to be a download is waited for: a busy machine tells of it late."""
IS_DOWNLOAD = "Download is starting"
"""Playwright's words."""
PAGE_S = 10.0
"""To bring a page to the front, or to close it."""
TITLE_S = 1.0
URL_CHARACTERS = 8_000
SCHEMES = ("http://", "https://")


def web_address(url: str) -> str:
    """http and https only: others would show this machine's files, or run a script (threat B10)."""
    if url == "about:blank":
        return url
    lower = url.lower()
    if not lower.startswith(SCHEMES):
        raise ValueError("a URL begins with http:// or https://")
    if not url.isprintable() or any(one in url for one in " \\"):
        raise ValueError("a URL has no spaces, backslashes or control characters: escape them")
    authority = lower.partition("://")[2].partition("/")[0].partition("?")[0].partition("#")[0]
    if "@" in authority:
        raise ValueError("leave user name and password out of the URL; browser_login signs in where a page has a form")
    return url


WebAddress = Annotated[str, Field(min_length=1, max_length=URL_CHARACTERS), AfterValidator(web_address)]


class NavigateInput(InPage):
    url: WebAddress
    new_page: bool = False
    timeout_s: float = Field(default=NAVIGATION_S, gt=0, le=120)


class NavigateOutput(ActionOutput):
    status: int | None = None
    """HTTP. 404 and the like are no errors of the call."""


class HistoryInput(InPage):
    pass


class PagesInput(InRuntime):
    pass


class PagesOutput(Answer):
    pages: tuple[PageView, ...]


class OnPageInput(InRuntime):
    page: PageId


class ClosedOutput(Answer):
    closed: str
    active: str | None = None


class OpenInput(InRuntime):
    url: WebAddress = "about:blank"


async def navigate(context: Context, given: NavigateInput) -> NavigateOutput:
    """Raises RuntimeUnavailable (unreachable), Denied (by the gateway), TimedOut, QuotaExceeded (pages)."""

    async def go(opened: OpenPage) -> int | None:
        page, timeout_ms = opened.page, given.timeout_s * 1000
        return await loaded(opened, page.goto(given.url, wait_until="domcontentloaded", timeout=timeout_ms))

    words = f"go to {without_query(given.url)[:URL_MAX]}"
    return await _move(context, given, go, what=words, new_page=given.new_page, leading=_any)


async def back(context: Context, given: HistoryInput) -> NavigateOutput:
    async def go(opened: OpenPage) -> int | None:
        page = opened.page
        return await loaded(opened, page.go_back(wait_until="domcontentloaded", timeout=NAVIGATION_S * 1000))

    return await _move(context, given, go, what="go back")


async def forward(context: Context, given: HistoryInput) -> NavigateOutput:
    async def go(opened: OpenPage) -> int | None:
        page = opened.page
        return await loaded(opened, page.go_forward(wait_until="domcontentloaded", timeout=NAVIGATION_S * 1000))

    return await _move(context, given, go, what="go forward")


async def reload(context: Context, given: HistoryInput) -> NavigateOutput:
    async def go(opened: OpenPage) -> int | None:
        page = opened.page
        return await loaded(opened, page.reload(wait_until="domcontentloaded", timeout=NAVIGATION_S * 1000))

    return await _move(context, given, go, what="reload")


async def _sound(live: LiveBrowser, page_id: str | None) -> OpenPage:
    """Raises RuntimeUnavailable: what crashed has no history to go through."""
    opened = await live.page(page_id)
    if opened.crashed:
        raise RuntimeUnavailable(f"Page {opened.id} has crashed.", hint="browser_navigate loads it anew.")
    return opened


async def _any(live: LiveBrowser, page_id: str | None) -> OpenPage:
    """The page, or a fresh one in its place where it crashed, hangs, or waits for the answer to a dialog."""
    opened = await live.page(page_id)
    stuck = opened.crashed or opened.dialog is not None or await opened.hangs()
    return await live.anew(opened) if stuck else opened


async def _downloads(live: LiveBrowser, *, more_than: int, within_s: float) -> bool:
    """Whether one has begun: Chromium says so a moment after it broke the navigation off."""
    with anyio.move_on_after(within_s):
        while live.downloads.count <= more_than:
            live.downloads.stirred.clear()
            await live.downloads.stirred.wait()
    return live.downloads.count > more_than


async def _move(
    context: Context,
    given: InPage,
    go: Callable[[OpenPage], Awaitable[int | None]],
    *,
    what: str,
    new_page: bool = False,
    leading: Callable[[LiveBrowser, str | None], Awaitable[OpenPage]] = _sound,
) -> NavigateOutput:
    async with turn(context) as live:
        opened = await live.open_page() if new_page else await leading(live, given.page)
        before, navigations, downloads = opened.page.url, opened.navigations, live.downloads.count
        opened.dialogs = 0
        try:
            with in_the_gateways_words(live, opened, what), translated(what):
                status = await go(opened)
        except (RuntimeUnavailable, WrongState) as error:
            # A link to a file is told as either, once the download has begun.
            within_s = TOLD_S if IS_DOWNLOAD in error.message else BEGINS_S if "broken off" in error.message else 0
            if not within_s or not await _downloads(live, more_than=downloads, within_s=within_s):
                raise
            status = None
        settled = await opened.settle(navigations=navigations, a_frame=False)
        await note_action(context, live, opened, what=what)
        began = opened.began
        found = await outcome(live, opened, before=before, settled=settled, whole=True)
        if settled and (opened.began != began or opened.is_waiting):
            # The first look at a document takes longer than a frame, and the page asked for more meanwhile.
            settled = await opened.settle(navigations=opened.navigations)
            found = await outcome(live, opened, before=before, settled=settled, whole=True)
        return NavigateOutput(
            **{**found.model_dump(), "url": address(opened.page.url, opened.redactor), "status": status}
        )


async def pages(context: Context, _given: PagesInput) -> PagesOutput:
    async with turn(context) as live:
        views = []
        for opened in list(live.pages.values()):
            views.append(page_view(live, opened, await _title(opened)))
        return PagesOutput(pages=tuple(views))


async def _title(opened: OpenPage) -> str:
    """Empty where the page cannot say it, or does not in time. Raises RuntimeUnavailable."""
    if opened.dialog is not None or opened.crashed:
        return ""
    with suppress(TimedOut), in_time("read the title", TITLE_S):
        return (await opened.page.title())[:200]
    return ""


async def open_page(context: Context, given: OpenInput) -> NavigateOutput:
    wanted = NavigateInput(space=given.space, runtime=given.runtime, url=given.url, new_page=True)
    return await navigate(context, wanted)


async def activate(context: Context, given: OnPageInput) -> PageView:
    """Raises NotFound."""
    async with turn(context) as live:
        opened = await live.page(given.page)
        live.active = opened.id
        with in_time("activate the page", PAGE_S):
            await opened.page.bring_to_front()
        return page_view(live, opened, await _title(opened))


async def close(context: Context, given: OnPageInput) -> ClosedOutput:
    async with turn(context) as live:
        opened = live.pages.get(given.page)
        if opened is None:
            raise NotFound(f"No page {given.page}.", hint=f"Open pages: {', '.join(live.pages) or 'none'}.")
        with in_time("close the page", PAGE_S):
            await opened.page.close()
        return ClosedOutput(closed=opened.id, active=live.active or None)


def _reads(_: object) -> BrowserFacts:
    return BrowserFacts(BrowserUse.READ)


def _browses(
    verb: Literal["back", "forward", "reload"], summary: str, handler: Callable[..., Awaitable[NavigateOutput]]
) -> AnyOperation:
    return Operation(
        id=f"browser.{verb}",
        summary=summary,
        input=HistoryInput,
        output=NavigateOutput,
        effect=Effect.BROWSES,
        facts=_reads,
        handler=handler,
        listed=False,
        needs_running_space=True,
        example={"space": "default"},
    )


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="browser.navigate",
        summary="Go to a URL; answers with a snapshot: an outline with refs.",
        input=NavigateInput,
        output=NavigateOutput,
        effect=Effect.BROWSES,
        facts=_reads,
        handler=navigate,
        needs_running_space=True,
        example={"space": "default", "url": "https://example.com/"},
    ),
    _browses("back", "Go back in a page's history.", back),
    _browses("forward", "Go forward in a page's history.", forward),
    _browses("reload", "Load a page anew.", reload),
    Operation(
        id="browser.pages",
        summary="List a browser's open pages.",
        input=PagesInput,
        output=PagesOutput,
        effect=Effect.READS,
        facts=_reads,
        handler=pages,
        listed=False,
        idempotent=True,
        needs_running_space=True,
        example={"space": "default"},
    ),
    Operation(
        id="browser.open",
        summary="Open another page.",
        input=OpenInput,
        output=NavigateOutput,
        effect=Effect.BROWSES,
        facts=_reads,
        handler=open_page,
        listed=False,
        needs_running_space=True,
        example={"space": "default", "url": "https://example.com/"},
    ),
    Operation(
        id="browser.activate",
        summary="Make a page the active one.",
        input=OnPageInput,
        output=PageView,
        effect=Effect.BROWSES,
        facts=_reads,
        handler=activate,
        listed=False,
        idempotent=True,
        needs_running_space=True,
        example={"space": "default", "page": "p1"},
    ),
    Operation(
        id="browser.close",
        summary="Close a page.",
        input=OnPageInput,
        output=ClosedOutput,
        effect=Effect.BROWSES,
        facts=_reads,
        handler=close,
        listed=False,
        needs_running_space=True,
        example={"space": "default", "page": "p1"},
    ),
)
