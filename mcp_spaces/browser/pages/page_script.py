"""What runs inside of pages: the script, and the selectors that speak to it.

The script is a Playwright selector engine that runs in Playwright's isolated world (resources/browser/page/engine.js
tells how). Register it once, before the first context is made:

    await playwright.selectors.register(ENGINE, script=page_script(), content_script=True)

Then, for any frame:

    answer = json.loads(await frame.text_content(command("snapshot", mode="diff"), timeout=ms))
    await frame.click(element("e12", document=answer["document"]), timeout=ms)

Never `evaluate`, which runs among the page's own scripts. Selectors may reach logs and traces: no secret goes into one.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from pydantic import JsonValue

from mcp_spaces.resources import resource

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

ENGINE = "spaces"

# In the order of who needs whom; all share one scope.
_PARTS = (
    "dom",
    "refs",
    "roles",
    "secrets",
    "names",
    "states",
    "outline",
    "lines",
    "changes",
    "text",
    "facts",
    "fields",
    "filling",
    "boxes",
    "content",
    "engine",
)


def page_script() -> str:
    """The engine as one expression, as Playwright wants it; about 45 kB."""
    parts = "\n".join(resource(f"browser/page/{part}.js").read_text("utf-8") for part in _PARTS)
    return f"(() => {{\n'use strict';\n{parts}\nreturn {{ queryAll }};\n}})()"


def command(name: str, /, **arguments: JsonValue) -> str:
    """The selector whose text content is the answer of a command, as a JSON object with the document's token."""
    encoded = urlsafe_b64encode(json.dumps(arguments).encode()).decode().rstrip("=")
    return f"{ENGINE}={name}:{encoded}"


def masks(page: Page) -> list[Locator]:
    """What a picture must not show: fields that hide their value or did so once, in every frame (threat L01)."""
    return [frame.locator(f"{ENGINE}=secrets") for frame in page.frames]


def element(ref: str, *, document: str) -> str:
    """The selector of a ref that an answer about this document named; it finds nothing in any other document."""
    return f"{ENGINE}={ref}@{document}"
