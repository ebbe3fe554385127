"""The one way in which an operation acts on a page: its turn, the act, coming to rest, and what it led to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio

from mcp_spaces.browser.answers import TIMEOUT_S, ActionOutput, InPage, address, dialog_of
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.pages.failures import in_time, translated
from mcp_spaces.browser.pages.page import URL_MAX, OpenPage, without_query
from mcp_spaces.browser.pages.reading import outline, parsed, read, refuse_while_loading
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.browser.unreached import why
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import BrowserFacts, BrowserUse
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.errors import SpacesError, TimedOut, WrongState

CHANGES_CHARACTERS = 4_000
"""Of the snapshot that an action answers with; browser_snapshot has the rest."""

DESCRIBED_MAX = 5
DESCRIBED_S = 0.2
PICTURED_S = 3.0
"""For the small picture that a recording keeps of an action."""
GRACE_S = 2.0
"""Playwright's own timeout says more than ours, so it comes first."""
ERROR_PAGE = "chrome-error:"
"""Chromium's own, which says nothing that can be read."""
NAME_CHARACTERS = 100
"""Of an element's name in the timeline."""

Act = Callable[[OpenPage], Awaitable[object]]


@asynccontextmanager
async def turn(context: Context) -> AsyncIterator[LiveBrowser]:
    """The runtime of this call, for this call alone. Raises what `LiveBrowser.turn` and `started` do."""
    browsers = context.use(BrowserService)
    live = browsers.started(context.runtime.id)
    async with live.turn(context.redactor, run_id=context.run_id):
        try:
            yield live
        finally:
            # What fails half-way may have changed as much.
            browsers.stirred(context.runtime.id)


async def act(context: Context, given: InPage, perform: Act, *, what: str, leads_away: bool = True) -> ActionOutput:
    """`what` is tried, in words: `click e12`. `leads_away`: it is done once it has set off a navigation, however long
    that takes. Raises what `translated` does."""
    async with turn(context) as live:
        opened = await live.usable(given.page)
        url, navigations = opened.page.url, opened.navigations
        # Asked before the act and heard after it, so that it costs no time.
        asked = asyncio.ensure_future(described(opened, getattr(given, "ref", None), *getattr(given, "fields", ())))
        heading = opened.heading
        try:
            try:
                with in_time(what, _patience_s(given)):
                    await until_dialog(opened, perform, what=what)
            except TimedOut:
                # Playwright also waits for the page that an act leads to. The act itself is done by then: who is told
                # that it failed repeats it.
                if not leads_away or opened.heading is None or opened.heading is heading:
                    refuse_while_loading(opened)
                    raise
            settled = await opened.settle(navigations=navigations)
            await asyncio.wait({asked}, timeout=DESCRIBED_S)
            element = asked.result() if asked.done() else ""
        finally:
            asked.cancel()
        await note_action(context, live, opened, what=what, element=element)
        return await outcome(live, opened, before=url, settled=settled)


def _patience_s(given: InPage) -> float:
    """Each field of several has its own time."""
    return float(getattr(given, "timeout_s", TIMEOUT_S)) * max(1, len(getattr(given, "fields", ()))) + GRACE_S


async def described(opened: OpenPage, *refs: str | None) -> str:
    """What refs name, in words: `button "Save"`. Of what is gone nothing."""
    found = [await _described(opened, ref) for ref in refs[:DESCRIBED_MAX] if ref is not None]
    return ", ".join(one for one in found if one)


async def _described(opened: OpenPage, ref: str) -> str:
    number, inner = parsed(ref)
    seen = opened.seen.get(number)
    if seen is None:
        return ""
    try:
        found = await read(seen.frame, "describe", ref=inner)
    except SpacesError:
        return ""
    if not found.get("here") or found.get("document") != seen.document:
        return ""
    return f"{found.get('role', '')} {json.dumps(str(found.get('name', ''))[:NAME_CHARACTERS], ensure_ascii=False)}"


async def note_action(context: Context, live: LiveBrowser, opened: OpenPage, *, what: str, element: str = "") -> None:
    """One line of the timeline: what was done, to what, where, and while recording how it looked then."""
    thumbnail = None
    with anyio.move_on_after(PICTURED_S):
        thumbnail = await live.recording.acted(context, opened)
    told = {
        "did": what,
        "element": element,
        "page": opened.id,
        "url": opened.shown(without_query(opened.page.url), URL_MAX),
    }
    context.note("browserAction", {**told, **({"thumbnail": thumbnail} if thumbnail else {})})


async def outcome(
    live: LiveBrowser, opened: OpenPage, *, before: str, settled: bool, whole: bool = False
) -> ActionOutput:
    """What an agent needs for its next step, in few words."""
    dialog, changes, title, url = dialog_of(opened), None, None, opened.page.url
    if opened.page.is_closed():
        changes = "The page has closed."
    elif opened.crashed:
        raise WrongState(f"Page {opened.id} crashed.", hint="browser_navigate loads it anew.")
    elif url.startswith(ERROR_PAGE):
        url = opened.heading_for
        changes = f"(It did not load: {why(live, opened) or 'no reason was told'}.)"
    elif dialog is None:
        try:
            seen = await outline(opened, mode="full" if whole else "diff", max_characters=CHANGES_CHARACTERS)
            changes, title = (None if seen.mode == "same" else seen.text), seen.title
        except SpacesError as error:
            # It did happen; that it cannot be looked at right now is no failure of the act.
            changes = f"(no snapshot: {error.message})"
    moved = opened.page.url != before
    fresh = [one for one in live.opened if one != opened.id and one in live.pages]
    begun = live.downloads.untold()
    return ActionOutput(
        page=opened.id,
        url=address(url, opened.redactor) if moved else None,
        title=title if moved else None,
        settled=settled,
        changes=changes,
        dialog=dialog,
        opened=fresh or None,
        downloads=[f"{one.id} {one.suggested[:100]}" for one in begun] or None,
    )


async def until_dialog(opened: OpenPage, perform: Act, *, what: str) -> Any:
    """To its end, or until a dialog stands in its way: then it ends when the dialog is answered. Its result."""

    async def performed() -> object:
        with translated(what):
            return await perform(opened)

    task = asyncio.ensure_future(performed())
    try:
        while not task.done() and opened.dialog is None:
            opened.stirred.clear()
            stirred = asyncio.ensure_future(opened.stirred.wait())
            await asyncio.wait({task, stirred}, return_when=asyncio.FIRST_COMPLETED)
            stirred.cancel()
    except asyncio.CancelledError:
        task.cancel()
        raise
    if task.done():
        return task.result()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return None


def _interacts(_: object) -> BrowserFacts:
    return BrowserFacts(BrowserUse.INTERACT)


def interaction(
    verb: str,
    summary: str,
    input: type[InPage],  # noqa: A002 - as Operation calls it
    handler: Callable[..., Awaitable[ActionOutput]],
    example: Mapping[str, object],
    *,
    output: type[ActionOutput] = ActionOutput,
    listed: bool = False,
) -> AnyOperation:
    """An operation `browser.VERB` that acts on a page."""
    return Operation(
        id=f"browser.{verb}",
        summary=summary,
        input=input,
        output=output,
        effect=Effect.INTERACTS,
        facts=_interacts,
        handler=handler,
        listed=listed,
        needs_running_space=True,
        example={"space": "default", **example},
    )
