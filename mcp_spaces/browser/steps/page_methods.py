"""What can be done with browsers, contexts, pages, frames and downloads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
from pydantic import JsonValue

from mcp_spaces.browser.answers import address
from mcp_spaces.browser.files import keep_download, printed
from mcp_spaces.browser.pages.downloads import Download
from mcp_spaces.browser.pages.extent import seen_of, whole_of
from mcp_spaces.browser.pages.loading import landing
from mcp_spaces.browser.pages.own_script import run_script
from mcp_spaces.browser.pages.page_script import command
from mcp_spaces.browser.steps import arguments as takes
from mcp_spaces.browser.steps.doing import Doing
from mcp_spaces.browser.steps.element_methods import LOCATOR_METHODS, on_selector, picture
from mcp_spaces.browser.steps.handles import OWN_CONTEXT, Handle
from mcp_spaces.browser.steps.kinds import Kind
from mcp_spaces.browser.steps.method import Method
from mcp_spaces.browser.steps.model import Arguments
from mcp_spaces.core.facts import BrowserUse
from mcp_spaces.errors import NotFound, TimedOut, WrongState

if TYPE_CHECKING:
    from playwright.async_api import Dialog, Frame, Response

INTERACT, EVALUATE = BrowserUse.INTERACT, BrowserUse.EVALUATE
FRAMES_MAX = 200

# Browser and context


async def _new_context(doing: Doing, _given: Arguments) -> Handle:
    """The runtime's own the first time, then further ones."""
    if not doing.handles.own_given:
        doing.handles.own_given = True
        return doing.handles.named(OWN_CONTEXT, Kind.CONTEXT)
    return Handle(Kind.CONTEXT, await doing.live.open_context())


async def _new_page(doing: Doing, _given: Arguments) -> Handle:
    opened = await doing.live.open_page(doing.target.thing)
    return Handle(Kind.PAGE, opened.page, opened)


async def _pages(doing: Doing, _given: Arguments) -> JsonValue:
    context = doing.target.thing
    return [
        {"page": one.id, "url": address(one.page.url, one.redactor)}
        for one in doing.live.pages.values()
        if one.page.context is context
    ]


async def _close_context(doing: Doing, _given: Arguments) -> None:
    """The runtime's own stays, since the runtime is it: only its pages are closed."""
    context = doing.target.thing
    if context is not doing.live.live.context:
        await context.close()
        return
    for page in list(context.pages):
        await page.close()


# Page and frame


async def _goto(doing: Doing, given: takes.Goto) -> JsonValue:
    doing.opened.crashed, doing.opened.dialogs = False, 0
    going = doing.frame.goto(given.url, wait_until=given.waitUntil, timeout=doing.timeout_ms)
    if doing.frame is not doing.opened.page.main_frame:
        return _status(doing, await going)
    async with landing(doing.opened):
        return _status(doing, await going)


async def _reload(doing: Doing, given: takes.Reload) -> JsonValue:
    doing.opened.crashed, doing.opened.dialogs = False, 0
    async with landing(doing.opened):
        return _status(doing, await doing.page.reload(wait_until=given.waitUntil, timeout=doing.timeout_ms))


async def _back(doing: Doing, given: takes.Reload) -> JsonValue:
    async with landing(doing.opened):
        return _status(doing, await doing.page.go_back(wait_until=given.waitUntil, timeout=doing.timeout_ms))


async def _forward(doing: Doing, given: takes.Reload) -> JsonValue:
    async with landing(doing.opened):
        return _status(doing, await doing.page.go_forward(wait_until=given.waitUntil, timeout=doing.timeout_ms))


def _status(doing: Doing, response: Response | None) -> JsonValue:
    return None if response is None else {"status": response.status, "url": address(response.url, doing.live.redactor)}


async def _content(doing: Doing, _given: Arguments) -> str:
    answer = json.loads(await doing.frame.text_content(command("content"), timeout=doing.timeout_ms) or "{}")
    return str(answer.get("html", ""))


async def _title(doing: Doing, _given: Arguments) -> str:
    return (await doing.frame.title())[:1_000]


async def _url(doing: Doing, _given: Arguments) -> str:
    return doing.frame.url[:8_000]


async def _wait_for_selector(doing: Doing, given: takes.WaitFor) -> Handle:
    found = doing.element(given)
    await found.wait_for(state=given.state, timeout=doing.timeout_ms)
    return Handle(Kind.LOCATOR, found, doing.opened)


async def _wait_for_url(doing: Doing, given: takes.WaitForUrl) -> None:
    await doing.frame.wait_for_url(given.url, wait_until=given.waitUntil, timeout=doing.timeout_ms)


async def _wait_for_load(doing: Doing, given: takes.WaitForLoadState) -> None:
    await doing.frame.wait_for_load_state(given.state, timeout=doing.timeout_ms)


async def _drag_and_drop(doing: Doing, given: takes.DragAndDrop) -> None:
    await doing.find(given.source).first.drag_to(doing.find(given.target).first, timeout=doing.timeout_ms)


async def _evaluate(doing: Doing, given: takes.Evaluate) -> object:
    return await run_script(doing.frame, given.expression, given.arg)


async def _screenshot(doing: Doing, given: takes.PageScreenshot) -> JsonValue:
    size = await whole_of(doing.page) if given.fullPage else seen_of(doing.page)
    return await picture(doing, doing.page, given, width=size["width"], height=size["height"])


async def _pdf(doing: Doing, given: takes.Pdf) -> JsonValue:
    content = await printed(doing.page, landscape=given.landscape)
    return await doing.keep(
        content,
        name=f"{doing.opened.id}.pdf",
        content_type="application/pdf",
        path=given.path,
        namespace=given.namespace,
    )


async def _frames(doing: Doing, _given: Arguments) -> JsonValue:
    return [
        {"index": index, "name": frame.name[:200], "url": address(frame.url, doing.live.redactor)}
        for index, frame in enumerate(doing.page.frames[:FRAMES_MAX])
    ]


async def _frame(doing: Doing, given: takes.FindFrame) -> Handle:
    """The first one that fits. Raises NotFound."""
    for index, frame in enumerate(doing.page.frames):
        if _fits(frame, index, given):
            return Handle(Kind.FRAME, frame, doing.opened)
    raise NotFound("No such frame.", hint="page.frames lists them.")


def _fits(frame: Frame, index: int, given: takes.FindFrame) -> bool:
    wanted = [
        given.name is None or frame.name == given.name,
        given.url is None or given.url in frame.url,
        given.index is None or index == given.index,
    ]
    return all(wanted) and any(one is not None for one in (given.name, given.url, given.index))


async def _set_viewport(doing: Doing, given: takes.SetViewportSize) -> None:
    await doing.page.set_viewport_size({"width": given.size.width, "height": given.size.height})


async def _close_page(doing: Doing, _given: Arguments) -> None:
    await doing.page.close()


async def _accept_dialog(doing: Doing, given: takes.AcceptDialog) -> None:
    dialog = _open_dialog(doing)
    if given.text is None:
        await dialog.accept()
    else:
        await dialog.accept(given.text)


async def _dismiss_dialog(doing: Doing, _given: Arguments) -> None:
    await _open_dialog(doing).dismiss()


def _open_dialog(doing: Doing) -> Dialog:
    """It is open no more. Raises WrongState where none was."""
    dialog = doing.opened.dialog
    if dialog is None:
        raise WrongState("No dialog is open.", hint="A step's event says when one came up.")
    doing.opened.dialog = None
    return dialog


# Downloads


async def _wait_for_download(doing: Doing, _given: Arguments) -> Handle:
    """One that a step of this call set off, or the next one. Raises TimedOut."""
    taken, downloads = doing.handles.taken_downloads, doing.live.downloads
    with anyio.move_on_after(doing.timeout_ms / 1000):
        while True:
            fresh = next((one for one in downloads.all() if one.guid not in taken), None)
            if fresh is not None:
                taken.add(fresh.guid)
                return Handle(Kind.DOWNLOAD, fresh, doing.opened)
            downloads.stirred.clear()
            await downloads.stirred.wait()
    raise TimedOut("No download began.", hint="Click what begins it before, or give it a longer timeoutMs.")


async def _save_as(doing: Doing, given: takes.SaveAs) -> JsonValue:
    found: Download = doing.target.thing
    view = await keep_download(
        doing.context,
        doing.live,
        found,
        path=given.path,
        namespace=given.namespace,
        overwrite=given.overwrite,
        timeout_s=doing.timeout_ms / 1000,
    )
    return {"path": view.path, "namespace": view.namespace, "size_bytes": view.size_bytes}


async def _suggested(doing: Doing, _given: Arguments) -> str:
    found: Download = doing.target.thing
    return found.suggested[:1_000]


B, C, P, F, D = Kind.BROWSER, Kind.CONTEXT, Kind.PAGE, Kind.FRAME, Kind.DOWNLOAD


def _document(kind: Kind) -> tuple[Method, ...]:
    """What pages and frames have in common."""
    on_state = takes.with_selector(takes.WaitFor)
    return (
        Method(on=kind, name="goto", arguments=takes.Goto, returns="JSON", perform=_goto, summary="Go to a URL; HTTP status and URL."),
        Method(on=kind, name="content", returns="text", perform=_content, summary="The HTML, without what fields hide."),
        Method(on=kind, name="title", returns="text", perform=_title, summary="The title."),
        Method(on=kind, name="url", returns="text", perform=_url, summary="The URL."),
        Method(on=kind, name="waitForSelector", arguments=on_state, returns=Kind.LOCATOR, perform=_wait_for_selector, summary="Wait for a state of an element."),
        Method(on=kind, name="waitForURL", arguments=takes.WaitForUrl, perform=_wait_for_url, summary="Wait for a URL; * and ** are wildcards."),
        Method(on=kind, name="waitForLoadState", arguments=takes.WaitForLoadState, perform=_wait_for_load, summary="Wait until it has loaded."),
        Method(on=kind, name="dragAndDrop", arguments=takes.DragAndDrop, use=INTERACT, settles=True, perform=_drag_and_drop, summary="Drag one element onto another."),
        Method(on=kind, name="evaluate", arguments=takes.Evaluate, use=EVALUATE, returns="JSON", settles=True, perform=_evaluate, summary="An expression or function, run in the page."),
        *on_selector(kind),
    )  # fmt: skip


METHODS: tuple[Method, ...] = (
    Method(on=B, name="newContext", returns=C, perform=_new_context, summary="The runtime's own context; from the second time on a further, empty one."),
    Method(on=C, name="newPage", returns=P, perform=_new_page, summary="Open a page."),
    Method(on=C, name="pages", returns="JSON", perform=_pages, summary="Its pages: ids (each is a handle) and URLs."),
    Method(on=C, name="close", perform=_close_context, summary="Close it; of the runtime's own, only the pages."),
    Method(on=P, name="reload", arguments=takes.Reload, returns="JSON", perform=_reload, summary="Load it anew."),
    Method(on=P, name="goBack", arguments=takes.Reload, returns="JSON", perform=_back, summary="Back in its history."),
    Method(on=P, name="goForward", arguments=takes.Reload, returns="JSON", perform=_forward, summary="Forward in its history."),
    Method(on=P, name="screenshot", arguments=takes.PageScreenshot, returns="artifact", perform=_screenshot, summary="A picture, as an artifact or under a path in storage."),
    Method(on=P, name="pdf", arguments=takes.Pdf, returns="artifact", perform=_pdf, summary="Print it, as an artifact or under a path in storage."),
    Method(on=P, name="frames", returns="JSON", perform=_frames, summary=f"Its frames, at most {FRAMES_MAX}."),
    Method(on=P, name="frame", arguments=takes.FindFrame, returns=F, perform=_frame, summary="A frame by name, part of its URL, or index."),
    Method(on=P, name="setViewportSize", arguments=takes.SetViewportSize, perform=_set_viewport, summary="Its size in CSS pixels."),
    Method(on=P, name="waitForDownload", returns=D, perform=_wait_for_download, summary="What this call's steps began to download, or what begins next."),
    Method(on=P, name="acceptDialog", arguments=takes.AcceptDialog, use=INTERACT, settles=True, perform=_accept_dialog, summary="Accept an open dialog; text for a prompt."),
    Method(on=P, name="dismissDialog", use=INTERACT, settles=True, perform=_dismiss_dialog, summary="Dismiss an open dialog."),
    Method(on=P, name="close", perform=_close_page, summary="Close it."),
    *_document(P),
    *_document(F),
    *LOCATOR_METHODS,
    Method(on=D, name="saveAs", arguments=takes.SaveAs, returns="JSON", perform=_save_as, summary="Keep it under a path in storage, once it is complete."),
    Method(on=D, name="suggestedFilename", returns="text", perform=_suggested, summary="The page's word for it."),
)  # fmt: skip
"""Everything that a step may call. What is not here is refused."""

BY_ID = {one.id: one for one in METHODS}
WITH_DIALOG = frozenset({"page.acceptDialog", "page.dismissDialog", "page.close", "page.url", "context.close"})
"""What an open dialog does not stand against."""
AFTER_CRASH = frozenset({"page.goto", "page.reload", "page.close", "page.url"})
GOES = frozenset({"page.goto", "page.reload", "page.goBack", "page.goForward", "frame.goto"})
"""Stands in the timeline, as acts do."""
