"""One Chromium with its contexts, whatever it runs in: a technology says how it is started, reached and freed."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp_spaces.browser.driver import own_sandbox
from mcp_spaces.browser.driver.devtools import DevToolsPipe
from mcp_spaces.browser.driver.playwright import PlaywrightDriver
from mcp_spaces.browser.pages.events import safely
from mcp_spaces.browser.port import Accept, ContextSpec
from mcp_spaces.errors import RuntimeUnavailable, SpacesError
from mcp_spaces.sandbox.port import SandboxLimits

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext

log = logging.getLogger(__name__)

CONTEXT_S = 20.0
"""How long a browser may take to make a context, or to close one. One that takes longer is given up."""
WORDS_KEPT = 20
COMPLAINT = re.compile(rb"(?m)^\[[\d/.:]+:((?:WARNING|ERROR|FATAL):[\w./-]{1,100}[:(]\d{1,6})")
"""Where Chromium complained, for the log of a crash. The rest of its stderr has what pages print (threat L05)."""


@dataclass(frozen=True, slots=True)
class WayOut:
    """A proxy on 127.0.0.1 as this browser's contexts reach it."""

    port: int
    user: str = ""
    password: str = ""


class Host(ABC):
    """`gone` ends with the reason in words, once, however the browser ends."""

    context_s = CONTEXT_S

    def __init__(self, limits: SandboxLimits) -> None:
        self.limits = limits
        self.browser: Browser
        self.pipe = DevToolsPipe(self._write)
        self.contexts: set[HostedContext] = set()
        self.own_process = False
        self.is_connected = False
        """Playwright drives it: pages may be open."""
        self.has_no_sandbox = False
        """Chromium said that it cannot build one."""
        self.opening = 0
        """Contexts that are being made: nobody frees the browser under them."""
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.lingering: asyncio.TimerHandle | None = None
        self._watchers: list[asyncio.Task[None]] = []
        self._words: deque[str] = deque(maxlen=WORDS_KEPT)

    # What a technology does

    @property
    @abstractmethod
    def program(self) -> str:
        """Chromium's path."""

    @property
    @abstractmethod
    def downloads(self) -> str:
        """The folder of all downloads, as Chromium names it."""

    @abstractmethod
    async def _begin(self) -> None:
        """Start Chromium, and watch what it depends on."""

    @abstractmethod
    async def _write(self, content: bytes) -> None:
        """Into Chromium's pipe. Raises RuntimeUnavailable."""

    @abstractmethod
    async def offer(self, accept: Accept) -> WayOut: ...

    @abstractmethod
    async def withdraw(self, way: WayOut) -> None:
        """Idempotent."""

    @abstractmethod
    def read(self, path: str) -> AsyncIterator[bytes]:
        """A file below `downloads`. Raises NotFound."""

    @abstractmethod
    async def remove(self, path: str) -> None:
        """A file or folder below `downloads`. Idempotent."""

    def could_have(self, limits: SandboxLimits) -> bool:
        """Whether `resize` is enough for them: a disk stays as large as it was made."""
        return limits.disk_bytes >= self.limits.disk_bytes

    @abstractmethod
    async def _resize(self, limits: SandboxLimits) -> None:
        """What it may use from now on. Raises SpacesError."""

    @abstractmethod
    async def _free(self) -> None:
        """Nothing of it is left when this returns."""

    # Its life

    async def start(self, playwright: PlaywrightDriver, *, folder: Path) -> None:
        """`folder` holds the socket. Raises RuntimeUnavailable; whoever calls stops it then."""
        await self._begin()
        self._watch(self._watch_pipe())
        connecting = asyncio.ensure_future(playwright.connect(await self.pipe.serve(folder)))
        # Its end breaks the connection, and then Playwright says no more than that.
        connecting.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.gone.add_done_callback(lambda _: connecting.cancel())
        try:
            await asyncio.wait({connecting})
        finally:
            connecting.cancel()
        if self.gone.done() and self.has_no_sandbox:
            raise RuntimeUnavailable(
                f"The browser did not start: {own_sandbox.MISSING}.", hint=f"Run: {own_sandbox.mend(self.program)}"
            )
        if self.gone.done():
            raise RuntimeUnavailable(
                f"The browser did not start: {self.gone.result()}.", hint="See the daemon's log and mcp-spaces doctor."
            )
        self.browser = await connecting
        self.is_connected = True

    async def resize(self, limits: SandboxLimits) -> None:
        """All but its disk. Raises SpacesError."""
        wanted = replace(limits, disk_bytes=self.limits.disk_bytes)
        if wanted != self.limits:
            await self._resize(wanted)
            self.limits = wanted

    def end(self, reason: str, *, wanted: bool = False) -> None:
        """`wanted`: nothing to log."""
        if not self.gone.done():
            if self._words and not wanted:
                log.info("a browser ended (%s); it said: %s", reason, " | ".join(self._words))
            self.gone.set_result(reason)
            self.pipe.end()

    async def stop(self) -> None:
        self.end("it was stopped", wanted=True)
        if self.lingering is not None:
            self.lingering.cancel()
        try:
            await self._free()
        finally:
            for watcher in self._watchers:
                watcher.cancel()
            await self.pipe.aclose()

    def _watch(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        watcher = asyncio.create_task(work)
        self._watchers.append(watcher)
        return watcher

    async def _watch_pipe(self) -> None:
        await self.pipe.broken.wait()
        self.end(self.pipe.why)

    def _heard(self, chunk: bytes) -> None:
        """From Chromium's pipe. Whatever is wrong with it, somebody goes on reading or the browser ends."""
        try:
            self.pipe.feed(chunk)
        except Exception as error:  # noqa: BLE001 - see above; it may hold what was typed, so it is not logged
            log.error("what a browser sent could not be taken: %s", type(error).__name__)
            self.end("what it sent could not be taken")

    def _said(self, chunk: bytes) -> None:
        """On stderr."""
        self.has_no_sandbox |= not self.is_connected and any(one in chunk for one in own_sandbox.COMPLAINTS)
        self._words.extend(one.decode() for one in COMPLAINT.findall(chunk))

    # Contexts

    async def context(self, spec: ContextSpec) -> HostedContext:
        """Raises RuntimeUnavailable; nothing of it is left then."""
        from playwright.async_api import Error

        way = await self.offer(spec.accept)
        options = context_options(spec, way)
        making = asyncio.ensure_future(self.browser.new_context(**options))
        try:
            async with asyncio.timeout(self.context_s):
                context = await asyncio.shield(making)
        except BaseException as error:
            # One that comes up for nobody goes at once.
            making.add_done_callback(_unwanted)
            with suppress(SpacesError):
                await asyncio.shield(self.withdraw(way))
            if not isinstance(error, Error | TimeoutError):
                raise
            if isinstance(error, TimeoutError):
                self.end("it made no context in time")
            words = error.message.splitlines()[0][:200] if isinstance(error, Error) else "it does not answer"
            raise RuntimeUnavailable(f"The browser gave no context: {words}", hint="Try again.") from None
        return HostedContext(self, context, runtime_id=spec.runtime_id, way=way, options=options)


class HostedContext:
    """Implements `LiveContext`."""

    def __init__(
        self, host: Host, context: BrowserContext, *, runtime_id: str, way: WayOut, options: Mapping[str, Any]
    ) -> None:
        """`options`: what `context` was made from."""
        self.host = host
        self._options = {name: value for name, value in options.items() if name != "storage_state"}
        self._further: list[BrowserContext] = []
        # Of this context alone: a runtime may be launched again while what is left of its last one is taken away.
        self.downloads_folder = f"{host.downloads}/{runtime_id}-{secrets.token_hex(4)}"
        self._context = context
        self._way = way
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._closing: asyncio.Task[None] | None = None
        self.on_left: Callable[[], None] = lambda: None
        """Called once nothing of it is left."""
        context.on("close", safely(lambda _: self._end("its context was closed")))
        host.gone.add_done_callback(self._on_gone)

    @property
    def context(self) -> BrowserContext:
        return self._context

    @property
    def browser(self) -> Browser:
        return self.host.browser

    async def another(self) -> BrowserContext:
        making = asyncio.ensure_future(self.host.browser.new_context(**self._options))
        try:
            context = await asyncio.shield(making)
            if self._closing is not None:
                raise RuntimeUnavailable("The browser was closed meanwhile.", hint="Launch it again.")
        except BaseException:
            making.add_done_callback(_unwanted)
            raise
        self._further.append(context)
        context.on("close", safely(lambda _: self._further.remove(context)))
        return context

    def _on_gone(self, gone: asyncio.Future[str]) -> None:
        self._end(gone.result())

    def _end(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_result(reason)

    def read_file(self, name: str) -> AsyncIterator[bytes]:
        return self.host.read(f"{self.downloads_folder}/{name}")

    async def remove_file(self, name: str) -> None:
        with suppress(SpacesError):
            await self.host.remove(f"{self.downloads_folder}/{name}")

    async def closed(self) -> str:
        return await asyncio.shield(self._over)

    async def close(self) -> None:
        self._end("it was stopped")
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        from playwright.async_api import Error

        self.host.gone.remove_done_callback(self._on_gone)
        try:
            if not self.host.gone.done():
                async with asyncio.timeout(self.host.context_s):
                    # Each for itself: what one of them leaves would stay for as long as others use the browser.
                    for context in (*self._further, self._context):
                        with suppress(Error):
                            await context.close()
                    with suppress(SpacesError):
                        await self.host.withdraw(self._way)
                    with suppress(SpacesError):
                        await self.host.remove(self.downloads_folder)
        except TimeoutError:
            # What it holds cannot be taken from it any more, and the next context would fare no better.
            self.host.end("it did not close a context in time")
        finally:
            self.host.contexts.discard(self)
            self.on_left()


def _unwanted(made: asyncio.Future[BrowserContext]) -> None:
    if not made.cancelled() and made.exception() is None:
        closing = asyncio.ensure_future(made.result().close())
        closing.add_done_callback(lambda done: done.cancelled() or done.exception())


def context_options(spec: ContextSpec, way: WayOut) -> dict[str, Any]:
    """What Playwright makes a context from."""
    proxy = {"server": f"http://127.0.0.1:{way.port}"}
    if way.user:
        proxy |= {"username": way.user, "password": way.password}
    options: dict[str, Any] = {
        "proxy": proxy,
        "viewport": spec.viewport.model_dump(),
        "accept_downloads": True,
        # One that a page leaves behind would see what is filled in later (threat B20).
        "service_workers": "block",
        "ignore_https_errors": False,
    }
    if spec.locale is not None:
        options["locale"] = spec.locale
    if spec.timezone is not None:
        options["timezone_id"] = spec.timezone
    if spec.storage is not None:
        options["storage_state"] = dict(spec.storage)
    return options
