"""The operations that look: snapshot, text, screenshot, pdf, console, network."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from mcp_spaces.browser.acting import turn
from mcp_spaces.browser.answers import InPage, Ref, address
from mcp_spaces.browser.files import kept, printed
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.pages.extent import seen_of, whole_of
from mcp_spaces.browser.pages.failures import in_time, translated
from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.browser.pages.pictures import picture_of
from mcp_spaces.browser.pages.reading import located, outline, present, read, told_while_loading
from mcp_spaces.browser.secrets.secret_rules import refuse_inside
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import BrowserFacts, BrowserUse
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.scope import OWN_NAMESPACE
from mcp_spaces.errors import QuotaExceeded
from mcp_spaces.storage.model import FileView

SNAPSHOT_CHARACTERS = 12_000
TEXT_CHARACTERS_MAX = 5_000_000
"""Of a page; what comes after them is not read."""
PICTURE_BYTES_MAX = 500 << 10
"""A picture in an answer; clients refuse events above 1 MiB. A larger one is only kept."""
PIXELS_MAX = 4_000_000
"""Of a picture, in device pixels (threat D14)."""
CAPTURE_S = 20.0
LINES_MAX = 200


class SnapshotInput(InPage):
    mode: Literal["full", "diff"] = "full"
    """diff: what changed since the last one."""
    ref: Ref | None = None
    """Only what is below this element."""
    interactive_only: bool = False
    from_line: int = Field(default=1, ge=1, le=1_000_000)
    max_characters: int = Field(default=SNAPSHOT_CHARACTERS, ge=200, le=18_000)


class SnapshotOutput(Answer):
    page: str
    url: str
    title: str
    mode: Literal["full", "diff", "same"]
    """same: nothing changed since the last one."""
    snapshot: str
    next_line: int | None = None
    """There is more: from_line."""


class TextInput(InPage):
    from_character: int = Field(default=0, ge=0, le=100_000_000)
    max_characters: int = Field(default=SNAPSHOT_CHARACTERS, ge=200, le=18_000)


class TextOutput(Answer):
    page: str
    text: str
    characters: int
    next_character: int | None = None


class ScreenshotInput(InPage):
    ref: Ref | None = None
    """Only this element."""
    full_page: bool = False
    show_refs: bool = False
    """Draw the refs of what can be clicked."""
    format: Literal["png", "jpeg"] = "jpeg"
    to: str | None = Field(default=None, max_length=1024)
    """Keep it in storage under this path."""
    namespace: str = Field(default=OWN_NAMESPACE, max_length=63)
    overwrite: bool = False


class ScreenshotOutput(Answer):
    page: str
    width: int
    height: int
    size_bytes: int
    kept: FileView | None = None
    note: str | None = None
    picture: bytes = Field(default=b"", exclude=True)
    """Shown to the caller, and in no record."""
    content_type: str = Field(default="image/jpeg", exclude=True)

    def blocks(self) -> Sequence[Mapping[str, object]]:
        words: dict[str, object] = {"type": "text", "text": self.model_dump_json(exclude_none=True)}
        if not self.picture:
            return [words]
        data = base64.b64encode(self.picture).decode()
        return [words, {"type": "image", "data": data, "mimeType": self.content_type}]


class PdfInput(InPage):
    to: str = Field(max_length=1024)
    """Path in storage."""
    namespace: str = Field(default=OWN_NAMESPACE, max_length=63)
    overwrite: bool = False
    landscape: bool = False


class ConsoleInput(InPage):
    kinds: tuple[Literal["error", "warning", "log", "info", "debug"], ...] = ()
    limit: int = Field(default=50, ge=1, le=LINES_MAX)


class ConsoleOutput(Answer):
    page: str
    lines: tuple[str, ...]
    """The newest last: kind and text."""


class NetworkInput(InPage):
    failed_only: bool = False
    limit: int = Field(default=50, ge=1, le=LINES_MAX)


class NetworkOutput(Answer):
    page: str
    requests: tuple[str, ...]
    """The newest last: method, URL without its query, status or failure, kind, milliseconds."""


async def snapshot(context: Context, given: SnapshotInput) -> SnapshotOutput:
    async with turn(context) as live:
        opened = await live.usable(given.page)
        refuse_inside(live)
        seen = await outline(
            opened,
            mode=given.mode,
            interactive_only=given.interactive_only,
            max_characters=given.max_characters,
            from_line=given.from_line,
            root=given.ref,
        )
        return SnapshotOutput(
            page=opened.id,
            url=address(opened.page.url, opened.redactor),
            title=seen.title,
            mode=seen.mode,
            snapshot=seen.text,
            next_line=seen.next_line,
        )


async def text(context: Context, given: TextInput) -> TextOutput:
    async with turn(context) as live:
        opened = await live.usable(given.page)
        refuse_inside(live)
        with told_while_loading(opened):
            answer = await read(opened.page.main_frame, "text", max_characters=TEXT_CHARACTERS_MAX)
        # The whole is redacted, and then cut: half a secret would not be known as one.
        whole = opened.redactor.text(str(answer.get("text", ""))[:TEXT_CHARACTERS_MAX])
        end = given.from_character + given.max_characters
        return TextOutput(
            page=opened.id,
            text=whole[given.from_character : end],
            characters=len(whole),
            next_character=end if end < len(whole) else None,
        )


async def screenshot(context: Context, given: ScreenshotInput) -> ScreenshotOutput:
    """Raises WrongState while a secret is in the page, QuotaExceeded for too many pixels."""
    async with turn(context) as live:
        opened = await live.usable(given.page)
        refuse_inside(live)
        with told_while_loading(opened):
            picture, width, height = await _picture(opened, given)
            secretive = await _holds_secret(live, opened)
        stored = None
        if given.to is not None:
            stored = await kept(context, picture, path=given.to, namespace=given.namespace, overwrite=given.overwrite)
        shown = len(picture) <= PICTURE_BYTES_MAX
        return ScreenshotOutput(
            page=opened.id,
            width=width,
            height=height,
            size_bytes=len(picture),
            kept=stored,
            note=_note(shown=shown, secretive=secretive, stored=stored is not None),
            picture=picture if shown else b"",
            content_type=f"image/{given.format}",
        )


def _note(*, shown: bool, secretive: bool, stored: bool) -> str | None:
    notes = ["Fields that hold secrets are covered."] if secretive else []
    if not shown:
        where = "it is in storage" if stored else "name a path (to), or one element (ref)"
        notes.append(f"Too large to be shown: {where}.")
    return " ".join(notes) or None


async def _holds_secret(live: LiveBrowser, opened: OpenPage) -> bool:
    if not live.tainted:
        return False
    found = await read(opened.page.main_frame, "holds")
    return bool(found.get("holding"))


async def _picture(opened: OpenPage, given: ScreenshotInput) -> tuple[bytes, int, int]:
    page = opened.page
    with in_time("take a screenshot", CAPTURE_S):
        if given.ref is not None:
            target = await present(opened, given.ref)
            box = await target.bounding_box(timeout=CAPTURE_S * 1000)
            width, height = (0, 0) if box is None else (round(box["width"]), round(box["height"]))
        else:
            size = await whole_of(page) if given.full_page else seen_of(page)
            width, height = size["width"], size["height"]
    if width * height > PIXELS_MAX:
        raise QuotaExceeded(
            f"It would have {width} x {height} pixels; {PIXELS_MAX:,} are the most.",
            hint="Take the viewport, or one element (ref).",
        )
    if given.show_refs:
        await outline(opened, interactive_only=True)
        await read(page.main_frame, "overlay", on=True)
    try:
        with translated("take a screenshot"):
            taken = page if given.ref is None else located(opened, given.ref)
            full_page = given.full_page and given.ref is None
            content = await picture_of(taken, page, given.format, timeout_ms=CAPTURE_S * 1000, full_page=full_page)
    finally:
        if given.show_refs:
            await read(page.main_frame, "overlay", on=False)
    return content, width, height


async def pdf(context: Context, given: PdfInput) -> FileView:
    async with turn(context) as live:
        opened = await live.usable(given.page)
        refuse_inside(live)
        with in_time("print the page", CAPTURE_S):
            content = await printed(opened.page, landscape=given.landscape)
        return await kept(context, content, path=given.to, namespace=given.namespace, overwrite=given.overwrite)


async def console(context: Context, given: ConsoleInput) -> ConsoleOutput:
    async with turn(context) as live:
        opened = await live.page(given.page)
        lines = [one for one in opened.console if not given.kinds or one.kind in given.kinds]
        return ConsoleOutput(page=opened.id, lines=tuple(f"{one.kind}: {one.text}" for one in lines[-given.limit :]))


async def network(context: Context, given: NetworkInput) -> NetworkOutput:
    async with turn(context) as live:
        opened = await live.page(given.page)
        found = []
        for one in opened.network:
            bad = bool(one.failure) or (one.status or 0) >= 400
            if bad or not given.failed_only:
                ended = one.failure or (str(one.status) if one.status else "…")
                took = "" if one.duration_ms is None else f" {one.duration_ms:g} ms"
                found.append(f"{one.method} {one.url} {ended} {one.kind}{took}")
        return NetworkOutput(page=opened.id, requests=tuple(found[-given.limit :]))


def _looks(
    verb: str,
    summary: str,
    input: type[InPage],  # noqa: A002 - as Operation calls it
    output: type,
    handler: Callable[[Context, Any], Awaitable[Any]],
    *,
    listed: bool = False,
    keeps: bool = False,
    example: Mapping[str, object] | None = None,
) -> AnyOperation:
    return Operation(
        id=f"browser.{verb}",
        summary=summary,
        input=input,
        output=output,
        effect=Effect.BROWSES if keeps else Effect.READS,
        facts=lambda _: BrowserFacts(BrowserUse.READ),
        handler=handler,
        listed=listed,
        idempotent=not keeps,
        needs_running_space=True,
        example={"space": "default", **(example or {})},
    )


OPERATIONS: tuple[AnyOperation, ...] = (
    _looks(
        "snapshot", "What a page shows, as an outline with refs.", SnapshotInput, SnapshotOutput, snapshot, listed=True
    ),
    _looks("text", "The text of a page.", TextInput, TextOutput, text),
    _looks("screenshot", "A picture of a page or element.", ScreenshotInput, ScreenshotOutput, screenshot, listed=True),
    _looks("pdf", "Print a page into storage.", PdfInput, FileView, pdf, keeps=True, example={"to": "page.pdf"}),
    _looks("console", "What a page wrote to its console.", ConsoleInput, ConsoleOutput, console),
    _looks("network", "What a page requested.", NetworkInput, NetworkOutput, network),
)
