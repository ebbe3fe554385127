"""What a context downloads. The names that pages give are never used as paths: Chromium writes to a name of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mcp_spaces.browser.events import safely

if TYPE_CHECKING:
    from playwright.async_api import CDPSession
    from playwright.async_api import Download as TheirDownload

    from mcp_spaces.browser.port import LiveContext

KEPT = 20
"""Downloads that are remembered for a runtime; of older ones the files are removed."""
UNCLAIMED_MAX = 50
URL_CHARACTERS = 2_000
BYTES_MAX = 512 << 20
"""One download. A longer one is cancelled (threat D14)."""


@dataclass(slots=True)
class Download:
    """`id` is ours; `guid` names the file for Chromium; `suggested` is the page's word for it."""

    id: str
    guid: str
    url: str
    suggested: str
    state: str = "inProgress"
    received_bytes: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Downloads:
    """Call `begin` once a context has its first page; for further contexts again."""

    def __init__(self, live: LiveContext) -> None:
        self._live = live
        self._by_guid: dict[str, Download] = {}
        self._unclaimed: dict[str, Download] = {}
        """Of whichever runtime: other contexts of the same browser tell theirs here as well."""
        self._expected: deque[tuple[str, str]] = deque(maxlen=UNCLAIMED_MAX)
        self._count = 0
        self.stirred = asyncio.Event()
        """Set when one begins."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, page_session: CDPSession) -> None:
        """Raises Playwright's Error."""
        target = await page_session.send("Target.getTargetInfo")
        session = await self._live.browser.new_browser_cdp_session()
        session.on("Browser.downloadWillBegin", safely(self._on_begin))
        session.on("Browser.downloadProgress", safely(lambda told: self._on_progress(told, session)))
        await session.send(
            "Browser.setDownloadBehavior",
            {
                "behavior": "allowAndName",
                "browserContextId": target["targetInfo"]["browserContextId"],
                "downloadPath": self._live.downloads_folder,
                "eventsEnabled": True,
            },
        )

    def all(self) -> list[Download]:
        return list(self._by_guid.values())

    def get(self, download_id: str) -> Download | None:
        return next((one for one in self._by_guid.values() if one.id == download_id), None)

    def forget(self, one: Download) -> None:
        self._by_guid.pop(one.guid, None)

    def expect(self, told: TheirDownload) -> None:
        """A page of this runtime began one: Playwright knows whose it is, and Chromium tells every session of all."""
        self._expected.append((told.url[:URL_CHARACTERS], told.suggested_filename))
        self._match()

    def _on_begin(self, told: dict[str, Any]) -> None:
        if str(told["guid"]) in (self._by_guid | self._unclaimed):
            return
        one = Download(
            "",
            str(told["guid"]),
            str(told.get("url", ""))[:URL_CHARACTERS],
            str(told.get("suggestedFilename", "")),
        )
        self._unclaimed[one.guid] = one
        while len(self._unclaimed) > UNCLAIMED_MAX:
            del self._unclaimed[next(iter(self._unclaimed))]
        self._match()

    def _match(self) -> None:
        for wanted in list(self._expected):
            one = next((one for one in self._unclaimed.values() if (one.url, one.suggested) == wanted), None)
            if one is not None:
                self._expected.remove(wanted)
                self._add(self._unclaimed.pop(one.guid))

    def _add(self, one: Download) -> None:
        self._count += 1
        one.id = f"d{self._count}"
        self._by_guid[one.guid] = one
        self.stirred.set()
        for old in [one for one in self._by_guid.values() if one.done.is_set()][: max(0, len(self._by_guid) - KEPT)]:
            del self._by_guid[old.guid]
            self._later(self._live.remove_file(old.guid))

    def _on_progress(self, told: dict[str, Any], session: CDPSession) -> None:
        guid = str(told["guid"])
        one = self._by_guid.get(guid) or self._unclaimed.get(guid)
        if one is None:
            return
        one.received_bytes, one.state = int(told.get("receivedBytes", 0)), str(told.get("state", ""))
        if one.state != "inProgress":
            one.done.set()
        elif one.received_bytes > BYTES_MAX and one.id:
            self._later(session.send("Browser.cancelDownload", {"guid": one.guid}))

    def _later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # The browser may be gone by now, and the download with it.
            task.exception()
