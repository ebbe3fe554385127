"""One open page: what it says and asks for, and when it has come to rest."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mcp_spaces.browser.pages.events import safely
from mcp_spaces.browser.pages.failures import net_words
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.core.tasks import Aside

if TYPE_CHECKING:
    from playwright.async_api import CDPSession, ConsoleMessage, Dialog, Frame, Page, Request, Response

CONSOLE_KEPT = 200
NETWORK_KEPT = 500
WORDS_MAX = 1_000
"""Characters of one console message."""
WORDS_READ_MAX = 100_000
"""And so many are searched for secrets."""
URL_MAX = 500
SETTLE_S = 0.5
"""How long an action waits at most for what it set off."""
ONE_FRAME = "new Promise(done => requestAnimationFrame(() => done()))"
HANGS_S = 2.0
"""A page that does not answer for so long is given up when it is to go elsewhere."""
DIALOG_S = 60.0
"""A dialog that nobody answers is dismissed after so long."""
DIALOGS_MAX = 20
"""Of one page before its dialogs are dismissed at once (threat D14)."""


@dataclass(frozen=True, slots=True)
class ConsoleLine:
    at: float
    kind: str
    text: str


@dataclass(slots=True)
class Exchange:
    """One request, without what may hold secrets: no query, no headers, no bodies (threat L06)."""

    method: str
    url: str
    kind: str
    at: float
    status: int | None = None
    failure: str = ""
    duration_ms: float | None = None


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """A frame as a snapshot saw it; `document` names the document that it held."""

    frame: Frame
    document: str


@dataclass(slots=True, eq=False)
class OpenPage:
    """`id` is stable while the page is open. `secret_inside`: a fill is under way, and nothing may be looked at."""

    id: str
    page: Page
    redactor: Redactor = field(default_factory=Redactor)
    """It knows what was filled in in this browser."""
    console: deque[ConsoleLine] = field(default_factory=lambda: deque(maxlen=CONSOLE_KEPT))
    network: deque[Exchange] = field(default_factory=lambda: deque(maxlen=NETWORK_KEPT))
    seen: dict[int, SeenFrame] = field(default_factory=dict)
    """By the number that a snapshot gave them: 0 is the main one, 1 is f1 …"""
    secret_inside: bool = False
    url_before: str = ""
    """Where it was when a fill began: its host may be named meanwhile."""
    crashed: bool = False
    dialog: Dialog | None = None
    dialogs: int = 0
    pending: dict[Request, Exchange] = field(default_factory=dict)
    stirred: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by whatever may end a wait: a dialog, a crash, the end of a request, a navigation."""
    began: int = 0
    """Requests so far."""
    fetching: bool = False
    """A link to a file was clicked, and the download has not begun yet."""
    opening: int = 0
    """Windows that it has opened and that are not among the pages yet."""
    navigations: int = 0
    status: int | None = None
    """HTTP, of the newest answer for the page itself."""
    landed_by: str = "GET"
    """The method of the newest request for the page itself."""
    heading_for: str = ""
    failure: str = ""
    """Why that request failed, in words."""
    cut_off: str = ""
    """Why the page itself came in part only, in words: Chromium shows that part and goes on as if more were to come."""
    redirected_by: str | None = None
    """The URL of the server that redirected it there; None where the page's scripts or a person went there."""
    _session: CDPSession | None = None
    _aside: Aside = field(default_factory=Aside)

    def listen(self) -> None:
        listeners: dict[str, Callable[[Any], object]] = {
            "console": self._on_console,
            "pageerror": lambda error: self._say("error", str(error)),
            "request": self._on_request,
            "requestfinished": lambda request: self._on_end(request, ""),
            "requestfailed": lambda request: self._on_end(request, request.failure or "failed"),
            "response": self._on_response,
            "framenavigated": self._on_navigated,
            "dialog": self._on_dialog,
            "crash": lambda _: self._on_crash(),
            "close": lambda _: self.stirred.set(),
            "download": lambda _: self._on_download(),
        }
        for event, listener in listeners.items():
            # Playwright types each event's name apart.
            self.page.on(event, safely(listener))  # type: ignore[call-overload]

    # What happens

    def _on_console(self, message: ConsoleMessage) -> None:
        self._say(message.type, message.text)

    def _say(self, kind: str, text: str) -> None:
        # What a page prints while a secret is filled may be the secret (threat L05).
        if not self.secret_inside:
            self.console.append(ConsoleLine(time.time(), kind, self.shown(text[:WORDS_READ_MAX], WORDS_MAX)))

    def shown(self, text: str, characters: int) -> str:
        """So many at most, redacted before it is cut: half a secret would not be known as one."""
        return self.redactor.text(text)[:characters]

    def _on_request(self, request: Request) -> None:
        self.began += 1
        url = (
            origin_alone(request.url, known=self.url_before)
            if self.secret_inside
            else self.shown(without_query(request.url), URL_MAX)
        )
        exchange = Exchange(request.method, url, request.resource_type, time.time())
        self.network.append(exchange)
        if request.is_navigation_request() and _of(request) is self.page.main_frame:
            self.landed_by, self.heading_for, self.failure, self.cut_off = request.method, request.url, "", ""
            sent_by = request.redirected_from
            self.redirected_by = None if sent_by is None else sent_by.url
        self.pending[request] = exchange
        self.stirred.set()

    def _on_response(self, response: Response) -> None:
        request = response.request
        exchange = self.pending.get(request)
        if exchange is not None:
            exchange.status = response.status
        if request.is_navigation_request() and _of(request) is self.page.main_frame:
            self.status = response.status

    def _on_end(self, request: Request, failure: str) -> None:
        exchange = self.pending.pop(request, None)
        if exchange is not None:
            exchange.failure = failure
            if failure and request.url == self.heading_for:
                self.failure = net_words(failure)
                # Without a status nothing came; what was aborted is a download, or has made room for another page.
                if exchange.status is not None and exchange.kind == "document" and "ERR_ABORTED" not in failure:
                    self.cut_off = self.failure
            exchange.duration_ms = round((time.time() - exchange.at) * 1000, 1)
        self.stirred.set()

    def _on_navigated(self, frame: Frame) -> None:
        if frame is self.page.main_frame:
            self.navigations += 1
            self.fetching = False
            self.seen.clear()
            self.pending = {one: exchange for one, exchange in self.pending.items() if _of(one) is frame}
        self.stirred.set()

    def _on_crash(self) -> None:
        self.crashed = True
        self.stirred.set()

    def _on_dialog(self, dialog: Dialog) -> None:
        self.dialogs += 1
        if dialog.type == "beforeunload":
            self._aside.start(dialog.accept())
        elif self.dialogs > DIALOGS_MAX or self.dialog is not None or self.secret_inside:
            self._aside.start(dialog.dismiss())
        else:
            self.dialog = dialog
            asyncio.get_running_loop().call_later(DIALOG_S, self._give_up, dialog)
        self.stirred.set()

    def _on_download(self) -> None:
        self.fetching = False
        self.stirred.set()

    def _on_window(self, _: object) -> None:
        self.opening += 1
        self.stirred.set()

    def on_opened(self) -> None:
        """One of its windows is among the pages."""
        self.opening = max(0, self.opening - 1)
        self.stirred.set()

    def _give_up(self, dialog: Dialog) -> None:
        if self.dialog is dialog:
            self.dialog = None
            self._aside.start(dialog.dismiss())

    async def hangs(self) -> bool:
        """Whether its scripts leave it no time to answer, or it asks something right now."""
        try:
            async with asyncio.timeout(HANGS_S):
                await self.page.evaluate("1")
        except TimeoutError:
            return True
        except Exception:  # noqa: BLE001 - Playwright's Error for a page under way to elsewhere: it does something
            return False
        return False

    # Coming to rest

    async def settle(self, *, navigations: int, a_frame: bool = True) -> bool:
        """Until what an action set off is done: navigations since then have loaded, and for a frame no request is
        under way. False when that did not happen within SETTLE_S; never a fixed sleep.

        Without `a_frame` only what is under way is waited for: for callers whose next look takes longer than a frame.
        """
        deadline = time.monotonic() + SETTLE_S
        try:
            async with asyncio.timeout(SETTLE_S):
                session = await self._listening()
                if self.navigations != navigations:
                    await self.page.wait_for_load_state("load", timeout=SETTLE_S * 1000)
                while not self._stopped:
                    began = self.began
                    if a_frame:
                        await self._frame(session)
                    while self._holding and not self._stopped:
                        self.stirred.clear()
                        await self.stirred.wait()
                    if self.began == began:
                        return True
        except Exception:  # noqa: BLE001 - a page may go or crash at any time; what counts is what the caller then finds
            return self._stopped or (time.monotonic() < deadline and not self._holding)
        finally:
            self.fetching = False
        return True

    @property
    def is_waiting(self) -> bool:
        """Whether a request is under way whose answer may still change the page."""
        return self._holding

    @property
    def heading(self) -> Request | None:
        """What the page itself is being loaded by, until it has come. Chromium answers nothing about a page meanwhile."""
        own = (one for one in self.pending if one.is_navigation_request() and _of(one) is self.page.main_frame)
        return next(own, None)

    @property
    def _holding(self) -> bool:
        """Whether something is under way that an agent would wait for: not an image, not an endless stream."""
        loading = any(one.kind in ("document", "script", "stylesheet", "xhr", "fetch") for one in self.pending.values())
        return loading or self.opening > 0 or self.fetching

    @property
    def _stopped(self) -> bool:
        return self.dialog is not None or self.crashed or self.page.is_closed()

    async def _listening(self) -> CDPSession:
        """From the first time on, windows are told of as they are opened."""
        if self._session is None:
            self._session = await self.page.context.new_cdp_session(self.page)
            self._session.on("Page.windowOpen", safely(self._on_window))
            await self._session.send("Page.enable")
        return self._session

    async def _frame(self, session: CDPSession) -> None:
        # Not `page.evaluate`: that injects Playwright's own script into every new document first.
        await session.send("Runtime.evaluate", {"expression": ONE_FRAME, "awaitPromise": True})


def _of(request: Request) -> Frame | None:
    try:
        return request.frame
    except Exception:  # noqa: BLE001 - Playwright's Error for a request of a page that is not there yet
        return None


def without_query(url: str) -> str:
    """Origin and path. What follows `?` or `#` may hold a secret."""
    parts = urlsplit(url)
    if parts.scheme in ("data", "blob", "javascript"):
        return f"{parts.scheme}:…"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def origin_alone(url: str, *, known: str) -> str:
    """For a request of a page that a secret is in: its path may be the secret, and so may a host that is not that of
    the `known` address (threat L06)."""
    parts = urlsplit(url)
    if not parts.netloc:
        return f"{parts.scheme}:…"
    return f"{parts.scheme}://{parts.netloc if parts.netloc == urlsplit(known).netloc else 'another host'}/…"
