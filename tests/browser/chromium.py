"""Pages of this folder and pages made on the spot, served on this machine to a real Chromium."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Frame, Page, async_playwright
from pydantic import JsonValue

from mcp_spaces.browser.pages import page_script

FOLDER = Path(__file__).parent / "pages"
PATIENCE_MS = 20_000


@dataclass(frozen=True)
class Site:
    """A web server whose pages are files of `pages/` or what a test puts into `made`, with any extra headers. What a
    test puts into `held` is answered once its event is set."""

    origin: str
    made: dict[str, str]
    headers: dict[str, str]
    held: dict[str, threading.Event] = field(default_factory=dict)


@contextmanager
def serving() -> Iterator[Site]:
    made: dict[str, str] = {}
    headers: dict[str, str] = {}
    held: dict[str, threading.Event] = {}

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0].lstrip("/")
            file = FOLDER / name
            if name in held:
                held[name].wait(PATIENCE_MS / 1000)
            html = made[name] if name in made else file.read_text("utf-8") if file.is_file() else ""
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            for header, value in headers.items():
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Site(f"http://127.0.0.1:{server.server_address[1]}", made, headers, held)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The Debian browser, with the engine registered. Its own sandbox is off only where the tests run as root."""
    executable = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if executable is None:
        pytest.skip("neither chromium-headless-shell nor chromium is installed")
    async with async_playwright() as playwright:
        await playwright.selectors.register(page_script.ENGINE, script=page_script.page_script(), content_script=True)
        browser = await playwright.chromium.launch(executable_path=executable, chromium_sandbox=os.geteuid() != 0)
        yield browser
        await browser.close()


async def ask(place: Page | Frame, name: str, /, **arguments: JsonValue) -> dict[str, Any]:
    """The answer of a command in a frame, the main one of a page."""
    frame = place.main_frame if isinstance(place, Page) else place
    text = await frame.text_content(page_script.command(name, **arguments), timeout=PATIENCE_MS)
    assert text is not None
    answer = json.loads(text)
    assert isinstance(answer, dict)
    return answer


async def outline(place: Page | Frame, **arguments: JsonValue) -> str:
    answer = await ask(place, "snapshot", **arguments)
    return str(answer["outline"])


def ref_of(text: str, line: str) -> str:
    """The ref in the one line of an outline that contains these words."""
    (found,) = [each for each in text.splitlines() if line in each]
    return next(word.rstrip(":") for word in found.split(" ") if word[:1] == "e" and word[1:].rstrip(":").isdigit())


async def visit(page: Page, site: Site, html: str) -> Page:
    site.made["made"] = "<!doctype html>" + html
    await page.goto(f"{site.origin}/made")
    return page
