"""A browser driver whose whole network is one page: a real Chromium, and nothing to be reached.

For tests that need a browser in a space and not its walls: those are the contract's. One Chromium for all contexts of
one driver, started with the first one.
"""

from __future__ import annotations

import asyncio
import html
import json
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from mcp_spaces.browser.driver.chromium import find
from mcp_spaces.browser.driver.playwright import PlaywrightDriver
from mcp_spaces.browser.port import ContextSpec, Debugging, LiveContext
from mcp_spaces.errors import NotFound, WrongState
from mcp_spaces.sandbox.port import Wall

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Route

ADDRESS = "https://page.test/"
PAGE = """<!doctype html><title>Everything</title>
<h1>Everything</h1>
<button onclick="this.textContent = 'Pressed'">Press</button>
<label>Name <input name=name></label>
<label>Colour <select name=colour><option>red<option>blue</select></label>
<label>File <input type=file></label>
<a href="/report.csv" download>Report</a>
<button onclick="setTimeout(() => alert('Really?'))">Ask</button>
<form method=post action="/in"><label>User <input name=username autocomplete=username></label>
<label>Password <input type=password name=password autocomplete=current-password></label><button>Sign in</button></form>
"""
PRESS, NAME, COLOUR, FILE, REPORT, ASK = "e1", "e2", "e3", "e4", "e5", "e6"
"""Refs of the page's parts in its first snapshot."""
ECHO = "<p>You said {0}.</p><script>console.log({1})</script>"
"""What the page says of a form that was posted to it."""
SIGNED_IN = "<!doctype html><title>Welcome</title><h1>Welcome</h1><a href='/'>Back</a>"


class Server:
    """Of one context: from a login on its page repeats the password, in its text and in its console."""

    def __init__(self) -> None:
        self._echo = ""

    async def answer(self, route: Route) -> None:
        request = route.request
        if "/report.csv" in request.url:
            attached = {"Content-Disposition": "attachment; filename=report.csv"}
            await route.fulfill(body="a,b\n1,2\n", headers=attached)
        elif request.method == "GET":
            await route.fulfill(body=PAGE + self._echo, content_type="text/html; charset=utf-8")
        else:
            said = parse_qs(request.post_data or "").get("password", [""])[0]
            self._echo = ECHO.format(html.escape(said), json.dumps(said))
            await route.fulfill(body=SIGNED_IN, content_type="text/html")


class PagedContext:
    def __init__(self, browser: Browser, context: BrowserContext, folder: Path) -> None:
        self.downloads_folder = str(folder)
        self._browser = browser
        self._context = context
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def context(self) -> BrowserContext:
        return self._context

    @property
    def browser(self) -> Browser:
        return self._browser

    async def another(self) -> BrowserContext:
        context = await self._browser.new_context()
        await context.route("**/*", Server().answer)
        self._context.on("close", lambda _: asyncio.ensure_future(context.close()))
        return context

    async def read_file(self, name: str) -> AsyncIterator[bytes]:
        path = Path(self.downloads_folder) / name
        if not path.exists():
            raise NotFound("No such download.", hint="")
        yield path.read_bytes()

    async def remove_file(self, name: str) -> None:
        (Path(self.downloads_folder) / name).unlink(missing_ok=True)

    async def closed(self) -> str:
        return await asyncio.shield(self._over)

    async def close(self) -> None:
        if not self._over.done():
            self._over.set_result("it was stopped")
        with suppress(Exception):
            await self._context.close()


class PagedDriver:
    """`begun` says whether anybody asked for a browser."""

    name = "paged"

    def __init__(self) -> None:
        self.begun = False
        self._playwright = PlaywrightDriver()
        self._browser: Browser | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="mcps-paged-")
        self._lock = asyncio.Lock()

    async def open(self, spec: ContextSpec) -> LiveContext:
        async with self._lock:
            if self._browser is None:
                self.begun = True
                playwright = await self._playwright.playwright()
                self._browser = await playwright.chromium.launch(
                    executable_path=find(), chromium_sandbox=os.geteuid() != 0
                )
        storage = None if spec.storage is None else dict(spec.storage)
        context = await self._browser.new_context(
            viewport={"width": spec.viewport.width, "height": spec.viewport.height},
            storage_state=storage,  # type: ignore[arg-type]
        )
        await context.route("**/*", Server().answer)
        folder = Path(self._folder.name) / spec.runtime_id
        folder.mkdir(exist_ok=True)
        return PagedContext(self._browser, context, folder)

    async def debug(self, live: LiveContext) -> Debugging:
        raise WrongState("Other runtimes share this browser.", hint="")

    async def warm(self) -> None:
        """Nothing waits here."""

    async def reap(self) -> Sequence[str]:
        return ()

    async def walls(self) -> Sequence[Wall]:
        return ()

    async def aclose(self) -> None:
        if self._browser is not None:
            with suppress(Exception):
                await self._browser.close()
        await self._playwright.aclose()
        self._folder.cleanup()
