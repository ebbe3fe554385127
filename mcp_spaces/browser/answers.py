"""What browser operations take and answer in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.place import InRuntime
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.core.spelling import Spelled

Ref = Annotated[
    str,
    StringConstraints(pattern=r"^(f\d{1,6})?e\d{1,9}$"),
    Spelled("a ref of the newest snapshot, such as e5 or f1e3"),
]
"""Of an element, from the newest snapshot."""
PageId = Annotated[str, StringConstraints(pattern=r"^p\d{1,6}$"), Spelled("a page of browser_pages, such as p1")]

TIMEOUT_S = 5.0
"""What an action waits for its element by default."""
TIMEOUT_MAX_S = 120.0
ADDRESS_CHARACTERS = 300
"""Of a URL in an answer."""


class InPage(InRuntime):
    page: PageId | None = None
    """The active one unless named."""


class OnElement(InPage):
    ref: Ref
    timeout_s: float = Field(default=TIMEOUT_S, gt=0, le=TIMEOUT_MAX_S)


class DialogView(Answer):
    kind: str
    message: str


class PageView(Answer):
    page: str
    url: str
    title: str | None = None
    active: bool | None = None


class ActionOutput(Answer):
    """What an action led to."""

    page: str
    url: str | None = None
    """Where it is different now."""
    title: str | None = None
    settled: bool
    """False: requests or a navigation were still under way after half a second."""
    changes: str | None = None
    """What is new in the snapshot: + added, - removed, ~ changed; or all of it after a navigation."""
    dialog: DialogView | None = None
    """Open, and waiting for browser_dialog."""
    opened: list[str] | None = None
    """New pages."""
    downloads: list[str] | None = None
    """Begun: browser_download keeps one."""


def address(url: str, redactor: Redactor) -> str:
    """Redacted before it is cut: half a secret would not be known as one."""
    url = redactor.text(url)
    return url if len(url) <= ADDRESS_CHARACTERS else url[: ADDRESS_CHARACTERS - 1] + "…"


def dialog_of(opened: OpenPage) -> DialogView | None:
    if opened.dialog is None:
        return None
    return DialogView(kind=opened.dialog.type, message=opened.shown(opened.dialog.message, 1000))


def page_view(live: LiveBrowser, opened: OpenPage, title: str | None = None) -> PageView:
    return PageView(
        page=opened.id,
        url=address(opened.page.url, opened.redactor),
        title=title or None,
        active=opened.id == live.active or None,
    )
