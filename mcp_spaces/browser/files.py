"""Files between pages and storage: uploads, downloads, pictures. Names that pages give are never used as paths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StringConstraints

from mcp_spaces.browser.acting import act, turn
from mcp_spaces.browser.answers import ActionOutput, OnElement
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.pages.downloads import Download
from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.browser.pages.reading import described, located
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import BrowserFacts, BrowserUse
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.core.scope import OWN_NAMESPACE
from mcp_spaces.core.spelling import Spelled
from mcp_spaces.errors import NotFound, QuotaExceeded, TimedOut, WrongState
from mcp_spaces.storage.model import FileView
from mcp_spaces.storage.port import SpaceFiles

if TYPE_CHECKING:
    from playwright.async_api import FilePayload, Page

UPLOAD_BYTES_MAX = 50 << 20
"""Of all files of one upload together: Playwright carries them in one message."""
UPLOADS_MAX = 20
PDF_BYTES_MAX = 64 << 20


class UploadInput(OnElement):
    paths: tuple[str, ...] = Field(min_length=1, max_length=UPLOADS_MAX)
    """In storage."""
    namespace: str = Field(default=OWN_NAMESPACE, max_length=63)


class DownloadInput(InRuntime):
    id: Annotated[str, StringConstraints(pattern=r"^d\d{1,9}$"), Spelled("a download, such as d1")]
    """As the action's answer named it."""
    to: str = Field(max_length=1024)
    """Path in storage."""
    namespace: str = Field(default=OWN_NAMESPACE, max_length=63)
    overwrite: bool = False
    timeout_s: float = Field(default=60, gt=0, le=600)


class DownloadsInput(InRuntime):
    pass


class DownloadLine(Answer):
    id: str
    suggested: str
    """The page's word for it."""
    state: str
    received_bytes: int


class DownloadsOutput(Answer):
    downloads: tuple[DownloadLine, ...]


async def kept(context: Context, content: bytes, *, path: str, namespace: str, overwrite: bool) -> FileView:
    """Raises what `SpaceFiles.keep` does."""

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    return await context.use(SpaceFiles).keep(
        context, chunks(), namespace=namespace, path=path, source=f"run:{context.run_id}", overwrite=overwrite
    )


async def printed(page: Page, *, landscape: bool) -> bytes:
    """As PDF. Raises QuotaExceeded, Playwright's Error."""
    content = await page.pdf(landscape=landscape, print_background=True)
    if len(content) > PDF_BYTES_MAX:
        raise QuotaExceeded(
            f"It would have {len(content):,} bytes; {PDF_BYTES_MAX:,} are the most.", hint="Print a smaller page."
        )
    return content


async def upload(context: Context, given: UploadInput) -> ActionOutput:
    """Raises NotFound, QuotaExceeded, TimedOut (a click opened no choice of files)."""
    payloads = await _payloads(context, given.namespace, given.paths)

    async def perform(opened: OpenPage) -> None:
        found, timeout_ms = await described(opened, given.ref), given.timeout_s * 1000
        target = located(opened, given.ref)
        if found.get("takes_files"):
            await target.set_input_files(payloads, timeout=timeout_ms)
            return
        # A button or a place to drop files: a click opens the choice of files, of a field that need not be in the page.
        async with opened.page.expect_file_chooser(timeout=timeout_ms) as chosen:
            await target.click(timeout=timeout_ms)
        await (await chosen.value).set_files(payloads, timeout=timeout_ms)

    return await act(context, given, perform, what=f"upload to {given.ref}")


async def _payloads(context: Context, namespace: str, paths: Sequence[str]) -> list[FilePayload]:
    """None is read before all of them are known to be small enough. Raises NotFound, QuotaExceeded."""
    from playwright.async_api import FilePayload

    with ExitStack() as stack:
        found = []
        for path in paths:
            file, reader = context.use(SpaceFiles).open(context, namespace=namespace, path=path)
            found.append((path, file, stack.enter_context(reader)))
        total_bytes = sum(file.size_bytes for _, file, _ in found)
        if total_bytes > UPLOAD_BYTES_MAX:
            raise QuotaExceeded(
                f"That is {total_bytes:,} bytes; one upload has at most {UPLOAD_BYTES_MAX:,}.",
                hint="Upload fewer or smaller files.",
            )
        return [
            FilePayload(
                name=path.rpartition("/")[2], mimeType=file.content_type, buffer=await reader.read(0, file.size_bytes)
            )
            for path, file, reader in found
        ]


async def download(context: Context, given: DownloadInput) -> FileView:
    """Keep a download in storage; waits until it is complete, and others use the browser meanwhile.

    Raises NotFound, TimedOut, WrongState (it failed)."""
    async with turn(context) as live:
        found = _known(live, given.id)
    await _complete(live, found, timeout_s=given.timeout_s)
    async with turn(context) as live:
        return await keep_download(
            context,
            live,
            _known(live, given.id),
            path=given.to,
            namespace=given.namespace,
            overwrite=given.overwrite,
            timeout_s=0,
        )


def _known(live: LiveBrowser, download_id: str) -> Download:
    found = live.downloads.get(download_id)
    if found is None:
        raise NotFound(f"No download {download_id}.", hint="browser_downloads lists them.")
    return found


async def _complete(live: LiveBrowser, found: Download, *, timeout_s: float) -> None:
    """Until it has ended, or its browser has, or the time is over."""
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(one) for one in (found.done.wait(), live.live.closed())]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()


async def keep_download(
    context: Context,
    live: LiveBrowser,
    found: Download,
    *,
    path: str,
    namespace: str,
    overwrite: bool,
    timeout_s: float,
) -> FileView:
    """Raises TimedOut, WrongState (it failed), and what `SpaceFiles.keep` does."""
    await _complete(live, found, timeout_s=timeout_s)
    if not found.done.is_set():
        raise TimedOut(f"{found.received_bytes:,} bytes came so far.", hint="Wait for the rest: repeat the call.")
    if found.state != "completed":
        raise WrongState(
            "The download was broken off.",
            hint="Begin it again; one has at most 512 MiB, all of a browser 1 GiB, and 4 run at a time.",
        )
    view = await context.use(SpaceFiles).keep(
        context,
        live.live.read_file(found.guid),
        namespace=namespace,
        path=path,
        source=f"run:{context.run_id}",
        overwrite=overwrite,
    )
    await live.live.remove_file(found.guid)
    live.downloads.forget(found)
    return view


async def downloads(context: Context, _given: DownloadsInput) -> DownloadsOutput:
    async with turn(context) as live:
        return DownloadsOutput(
            downloads=tuple(
                DownloadLine(
                    id=one.id, suggested=one.suggested[:200], state=one.state, received_bytes=one.received_bytes
                )
                for one in live.downloads.all()
            )
        )


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="browser.upload",
        summary="Give files of storage to a file field, or to what a click on opens the choice of files.",
        input=UploadInput,
        output=ActionOutput,
        effect=Effect.INTERACTS,
        facts=lambda _: BrowserFacts(BrowserUse.INTERACT),
        handler=upload,
        listed=False,
        needs_running_space=True,
        example={"space": "default", "ref": "e3", "paths": ["report.csv"]},
    ),
    Operation(
        id="browser.download",
        summary="Keep a download in storage.",
        input=DownloadInput,
        output=FileView,
        effect=Effect.BROWSES,
        facts=lambda _: BrowserFacts(BrowserUse.READ),
        handler=download,
        listed=False,
        needs_running_space=True,
        example={"space": "default", "id": "d1", "to": "report.pdf"},
    ),
    Operation(
        id="browser.downloads",
        summary="List what a browser downloaded.",
        input=DownloadsInput,
        output=DownloadsOutput,
        effect=Effect.READS,
        facts=lambda _: BrowserFacts(BrowserUse.READ),
        handler=downloads,
        listed=False,
        idempotent=True,
        needs_running_space=True,
        example={"space": "default"},
    ),
)
