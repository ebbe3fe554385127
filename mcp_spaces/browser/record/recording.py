"""A recording of one browser: a Playwright trace, a film of the active page, and a picture of each action.

A trace holds what is filled in, whatever way it is filled (threat L07). So nothing is recorded where a secret was, and
whoever is about to fill one calls `discard_before_secret` first.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp_spaces.browser import artifacts
from mcp_spaces.browser.model import BrowserOptions
from mcp_spaces.browser.open_browser import OpenBrowser
from mcp_spaces.browser.pages.events import safely
from mcp_spaces.browser.pages.extent import seen_of
from mcp_spaces.browser.pages.failures import in_time, translated
from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.browser.pages.sessions import let_go
from mcp_spaces.browser.record.trace_scrubbing import scrub
from mcp_spaces.browser.record.video import Film
from mcp_spaces.core.context import Context
from mcp_spaces.core.tasks import Aside
from mcp_spaces.errors import DiskFull, SpacesError, WrongState
from mcp_spaces.runs.model import Artifact
from mcp_spaces.runs.port import Artifacts

if TYPE_CHECKING:
    from playwright.async_api import CDPSession, Page

log = logging.getLogger(__name__)

RECORD_S = 1_800.0
"""The longest recording; after it nothing is added, and what there is waits to be fetched."""
TRACE_S = 15.0
"""How long a trace may take to be written."""
FILM_BYTES_MAX = 128 << 20
FILM_FRAMES_MAX = 10_000
"""More than half an hour at five a second."""
FILM_WIDTH, FILM_HEIGHT = 960, 540
QUALITY = 50
THUMBNAIL_WIDTH = 320
THUMBNAIL_BYTES_MAX = 20_000
THUMBNAIL_S = 2.0


class Recording:
    """Of one runtime; there is always one, mostly idle. Further contexts of steps are not in the trace."""

    def __init__(self, live: OpenBrowser) -> None:
        self._live = live
        self._artifacts: Artifacts | None = None
        self._film: Film | None = None
        self._trace: Path | None = None
        """Of a recording that its time ended."""
        self._filming: dict[str, CDPSession] = {}
        self._newest: dict[str, bytes] = {}
        self._ending: asyncio.TimerHandle | None = None
        self._aside = Aside()
        self._lock = asyncio.Lock()
        self.active = False
        self.discarded = ""
        """Why the newest recording was thrown away."""
        self._traces = False
        """From before Playwright is asked to begin a trace until it has said that it ended it."""

    async def start(self, context: Context) -> None:
        """Raises WrongState: recording already, a secret was filled in, or there is a profile."""
        refuse_profile(self._live.options)
        if self._live.tainted or self._live.secret_inside:
            raise WrongState(
                "A secret was filled in here: a trace would hold it.", hint="Launch another browser and record that."
            )
        if self.active:
            raise WrongState("It is being recorded.", hint="End it first: browser_record_stop.")
        self._refuse_unseen()
        self._artifacts, self.discarded = context.use(Artifacts), ""
        film = Film(self._artifacts.spool(), bytes_max=FILM_BYTES_MAX, frames_max=FILM_FRAMES_MAX)
        self._traces = True
        try:
            with translated("start the recording"):
                await self._live.live.context.tracing.start(screenshots=True, snapshots=True, sources=False)
        except BaseException:
            film.discard()
            raise
        self.active, self._film = True, film
        self._ending = asyncio.get_running_loop().call_later(RECORD_S, self._time_is_over)
        for opened in list(self._live.pages.values()):
            await self._film_page(opened)

    async def stop(self, context: Context) -> list[Artifact]:
        """The trace and, where there is one, the film, as artifacts of this call's run. Raises WrongState."""
        if not self.active:
            why = f" {self.discarded}" if self.discarded else ""
            raise WrongState(f"Nothing is being recorded.{why}", hint="browser_record_start begins one.")
        film, kept = self._film, []
        try:
            await self._halt()
            if self._trace is not None:
                clean = context.use(Artifacts).spool()
                try:
                    await asyncio.to_thread(scrub, self._trace, clean)
                    kept.append(await _keep(context, clean, name="trace.zip", content_type="application/zip"))
                finally:
                    clean.unlink(missing_ok=True)
            if film is not None and film.finish():
                kept.append(await _keep(context, film.path, name="film.avi", content_type="video/x-msvideo"))
        finally:
            self._forget()
        return kept

    async def discard_before_secret(self) -> bool:
        """Whoever is about to fill a secret awaits this: on return nothing is recorded, and what was is gone.

        Whether there was a recording. Raises SpacesError when tracing does not end, or once did not: then no secret may
        be filled in.
        """
        self._refuse_unseen()
        if not self.active:
            return False
        async with self._lock:
            if self._trace is None:
                await self._end_trace()
            await self._stop_filming()
            self._forget()
        self.discarded = "It was thrown away: a secret was filled in."
        return True

    def discard(self) -> None:
        """The browser is gone, and nobody asked for its recording."""
        self._forget()

    async def acted(self, context: Context, opened: OpenPage) -> str | None:
        """After each action: a small picture of the page, as an artifact of the action's run; its id."""
        if not self.active or opened.page.is_closed() or opened.crashed or opened.dialog is not None:
            return None
        if opened.id not in self._filming:
            await self._film_page(opened)
        if self._film is not None and opened.id in self._newest:
            self._film.add(self._newest[opened.id], at=time.monotonic())
        try:
            async with asyncio.timeout(THUMBNAIL_S):
                picture = await _thumbnail(self._filming[opened.id], opened.page)
        except Exception as error:  # noqa: BLE001 - Playwright's Error or a timeout: an action is no worse without it
            log.debug("no thumbnail: %s", type(error).__name__)
            return None
        # A secret may be on its way in since the action ended.
        if not picture or len(picture) > THUMBNAIL_BYTES_MAX or self._is_blind():
            return None
        with suppress(SpacesError):
            return (await artifacts.keep(context, picture, name="action.jpg", content_type="image/jpeg")).id
        return None

    def _is_blind(self) -> bool:
        """Whether nothing may be looked at for a recording now."""
        return not self.active or self._live.secret_inside

    # Film

    async def _film_page(self, opened: OpenPage) -> None:
        from playwright.async_api import Error

        try:
            session = await opened.page.context.new_cdp_session(opened.page)
            session.on("Page.screencastFrame", safely(lambda told: self._on_frame(opened.id, session, told)))
            self._filming[opened.id] = session
            await session.send(
                "Page.startScreencast",
                {"format": "jpeg", "quality": QUALITY, "maxWidth": FILM_WIDTH, "maxHeight": FILM_HEIGHT},
            )
        except Error as error:
            log.debug("a page is not filmed: %s", type(error).__name__)

    def _on_frame(self, page_id: str, session: CDPSession, told: dict[str, Any]) -> None:
        self._aside.start(session.send("Page.screencastFrameAck", {"sessionId": told["sessionId"]}))
        if self._film is None or self._is_blind():
            return
        picture = base64.b64decode(told["data"])
        self._newest[page_id] = picture
        if page_id == self._live.active:
            self._film.add(picture, at=time.monotonic())

    async def _stop_filming(self) -> None:
        sessions, self._filming = self._filming, {}
        await asyncio.gather(*(let_go(one) for one in sessions.values()))

    # The end

    async def _halt(self) -> None:
        """Nothing is added any more; the trace is in a file."""
        if self._film is not None and self._live.active in self._newest:
            self._film.add(self._newest[self._live.active], at=time.monotonic())
        async with self._lock:
            await self._stop_filming()
            if self._trace is None and self._artifacts is not None and self.active:
                path = self._artifacts.spool()
                try:
                    await self._end_trace(path)
                except BaseException as error:
                    path.unlink(missing_ok=True)
                    if isinstance(error, DiskFull):
                        # It failed at the file; what goes on unseen would keep secrets out of this browser for good.
                        await self._end_trace()
                    raise
                self._trace = path

    async def _end_trace(self, path: Path | None = None) -> None:
        """Into a file, or nowhere. Raises SpacesError."""
        with in_time("end the recording", TRACE_S):
            await self._live.live.context.tracing.stop(path=path)
        self._traces = False

    def _refuse_unseen(self) -> None:
        """Raises WrongState where a trace goes on that belongs to no recording: its page hung, or its caller went away,
        when it was to begin or end. A secret would be in it (threat L07)."""
        if self._traces and not self.active:
            raise WrongState(
                "A recording of this browser could not be begun or ended, and may go on unseen.",
                hint="Launch another browser: browser_launch.",
            )

    def _time_is_over(self) -> None:
        self._aside.start(self._halt())

    def _forget(self) -> None:
        self.active = False
        if self._ending is not None:
            self._ending.cancel()
        if self._film is not None:
            self._film.discard()
        if self._trace is not None:
            self._trace.unlink(missing_ok=True)
        self._film = self._trace = self._ending = None
        self._newest.clear()


def refuse_profile(options: BrowserOptions) -> None:
    """A trace keeps what servers answered and the headers that applications make up: a session could be copied out of
    it (threat L20). Raises WrongState."""
    if options.profile is not None:
        raise WrongState(
            "A profile may hold sessions, and a recording would hold what opens them.",
            hint="Launch a browser without a profile and record that.",
        )


async def _thumbnail(session: CDPSession, page: Page) -> bytes:
    size = seen_of(page)
    scale = THUMBNAIL_WIDTH / size["width"]
    place = await session.send("Page.getLayoutMetrics")
    seen = place["cssVisualViewport"]
    clip = {
        "x": seen["pageX"],
        "y": seen["pageY"],
        "width": size["width"],
        "height": min(size["height"], size["width"] * 2),
        "scale": scale,
    }
    told = await session.send("Page.captureScreenshot", {"format": "jpeg", "quality": QUALITY, "clip": clip})
    return base64.b64decode(told["data"])


async def _keep(context: Context, path: Path, *, name: str, content_type: str) -> Artifact:
    return await context.use(Artifacts).keep(
        run_id=context.run_id, space_id=context.space.id, name=name, content_type=content_type, path=path
    )
