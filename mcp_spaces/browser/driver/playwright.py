"""Playwright's driver process: started once, when the first browser needs it, and again if it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from mcp_spaces.browser.pages.page_script import ENGINE, page_script
from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.port import Wall

if TYPE_CHECKING:
    from playwright.async_api import Browser, Playwright

log = logging.getLogger(__name__)

CONNECT_S = 20.0
NODE_ANSWERS_S = 10.0
REVEALING = (
    "DEBUG", "DEBUGP", "DEBUG_FILE", "PWDEBUG", "PW_DEBUG", "SELENIUM_REMOTE_URL", "NODE_OPTIONS", "NODE_DEBUG",
)  # fmt: skip
"""With these the driver, or Playwright here, would write what is sent to a browser, secrets included, or let others
look (threat L10)."""
WEAKENING = ("PLAYWRIGHT_DISABLE_FORCED_CHROMIUM_PROXIED_LOOPBACK",)
"""With this a context's pages would reach loopback past its proxy (threat N22)."""


class PlaywrightDriver:
    def __init__(self) -> None:
        # Before anybody imports Playwright, which reads some of them once and for all.
        for name in (*REVEALING, *WEAKENING):
            os.environ.pop(name, None)
        self._started: asyncio.Task[Playwright] | None = None

    async def playwright(self) -> Playwright:
        """Starting takes 0.5 s, and goes on where its caller goes away: a Node that was given up half-way would stay.

        Raises RuntimeUnavailable.
        """
        if self._started is None:
            self._started = asyncio.create_task(self._start())
            self._started.add_done_callback(self._forget_failed)
        return await asyncio.shield(self._started)

    def _forget_failed(self, started: asyncio.Task[Playwright]) -> None:
        if self._started is started and (started.cancelled() or started.exception() is not None):
            self._started = None

    async def connect(self, endpoint: str) -> Browser:
        """To a Chromium's DevTools endpoint. Raises RuntimeUnavailable."""
        from playwright.async_api import Error

        for last in (False, True):
            playwright = await self.playwright()
            try:
                return await playwright.chromium.connect_over_cdp(endpoint, timeout=CONNECT_S * 1000)
            except Error as error:
                log.warning("Playwright could not connect: %s", error.message.splitlines()[0])
                if last or await self._alive(playwright):
                    break
                # Others may have found the same, and have another by now.
                if await self.playwright() is playwright:
                    await self.aclose()
        raise RuntimeUnavailable("The browser does not answer.", hint="Try again; see mcp-spaces doctor.")

    async def _start(self) -> Playwright:
        # 90 ms, and only who uses a browser pays for it.
        from playwright.async_api import async_playwright

        try:
            with own_stderr():
                playwright = await async_playwright().start()
            await playwright.selectors.register(ENGINE, script=page_script(), content_script=True)
        except Exception as error:
            # Playwright's own errors, the system's, and a bare Exception where its Node ends at once.
            log.exception("Playwright's driver did not start")
            raise RuntimeUnavailable("Playwright's driver does not start.", hint="Run: mcp-spaces doctor") from error
        return playwright

    async def _alive(self, playwright: Playwright) -> bool:
        from playwright.async_api import Error

        try:
            async with asyncio.timeout(2):
                request = await playwright.request.new_context()
                await request.dispose()
        except (Error, TimeoutError):
            return False
        return True

    async def aclose(self) -> None:
        started, self._started = self._started, None
        if started is not None:
            try:
                async with asyncio.timeout(5):
                    await (await started).stop()
            except Exception as error:  # noqa: BLE001 - a driver that is gone already says so in many ways
                log.debug("stopping Playwright's driver: %s", error)


@contextlib.contextmanager
def own_stderr() -> Iterator[None]:
    """What is started meanwhile gets standard error as an open file of its own.

    Node makes the pipe that it finds there non-blocking, which holds for everybody who shares it: our log would lose
    lines where its reader is slow. A socket, as journald's, cannot be opened again; there the driver goes unheard.
    """
    with contextlib.ExitStack() as opened:
        try:
            stream = opened.enter_context(Path("/proc/self/fd/2").open("a"))
        except OSError:
            stream = opened.enter_context(Path(os.devnull).open("a"))
        opened.enter_context(contextlib.redirect_stderr(stream))
        yield


async def driver_runs() -> Wall:
    """Whether the Node that Playwright brings along runs here."""
    from playwright._impl._driver import compute_driver_executable

    name, said = "browser driver", "no answer"
    reinstall = f"{shlex.quote(sys.executable)} -m pip install --force-reinstall playwright"
    with anyio.move_on_after(NODE_ANSWERS_S):
        try:
            ran = await anyio.run_process([compute_driver_executable()[0], "--version"], check=False)
        except OSError as error:
            return Wall(name, False, f"Playwright's Node does not start: {error.strerror}", reinstall)
        if ran.returncode == 0:
            return Wall(name, True, f"Playwright's Node {ran.stdout.decode().strip()}")
        said = ran.stderr.decode(errors="replace").strip() or f"it ends with {ran.returncode}"
    mend = "sudo apt-get install libatomic1" if "libatomic.so" in said else reinstall
    return Wall(name, False, f"Playwright's Node does not start: {said.splitlines()[-1]}", mend)
