"""What a context downloads. The names that pages give are never used as paths: Chromium writes to a name of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mcp_spaces.browser.pages.events import safely
from mcp_spaces.core.tasks import Aside

if TYPE_CHECKING:
    from playwright.async_api import CDPSession
    from playwright.async_api import Download as TheirDownload

    from mcp_spaces.browser.port import LiveContext

KEPT = 20
"""Downloads that are remembered for a runtime; of older ones the files are removed."""
UNCLAIMED_MAX = 100
"""Under way in the same browser and not known to be this runtime's; more are cancelled."""
URL_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadLimits:
    """What goes over them is cancelled (threat D14). `together_bytes`: of all that a runtime has, complete ones too,
    which make room first."""

    each_bytes: int = 512 << 20
    together_bytes: int = 1 << 30
    at_a_time: int = 4


@dataclass(slots=True)
class Download:
    """`id` is ours; `guid` names the file for Chromium; `suggested` is the page's word for it."""

    id: str
    guid: str
    url: str
    suggested: str
    number: int = 0
    """In the order of a runtime's downloads, from 1. It only grows; 0: of whichever runtime."""
    state: str = "inProgress"
    received_bytes: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Downloads:
    """Call `begin` once a context has its first page; for further contexts again. `end` when the runtime goes."""

    def __init__(self, live: LiveContext) -> None:
        self._live = live
        self.limits = DownloadLimits()
        self._session: CDPSession | None = None
        self._by_guid: dict[str, Download] = {}
        self._unclaimed: dict[str, Download] = {}
        """Of whichever runtime: other contexts of the same browser tell theirs here as well."""
        self._expected: deque[tuple[str, str]] = deque(maxlen=UNCLAIMED_MAX)
        self.count = 0
        """Of all so far: what an operation set off is `since` the count before it."""
        self._told = 0
        self.stirred = asyncio.Event()
        """Set when one begins."""
        self._aside = Aside()

    async def begin(self, page_session: CDPSession) -> None:
        """Raises Playwright's Error."""
        target = await page_session.send("Target.getTargetInfo")
        if self._session is None:
            self._session = await self._live.browser.new_browser_cdp_session()
            self._session.on("Browser.downloadWillBegin", safely(self._on_begin))
            self._session.on("Browser.downloadProgress", safely(self._on_progress))
        await self._session.send(
            "Browser.setDownloadBehavior",
            {
                "behavior": "allowAndName",
                "browserContextId": target["targetInfo"]["browserContextId"],
                "downloadPath": self._live.downloads_folder,
                "eventsEnabled": True,
            },
        )

    async def end(self) -> None:
        """Nothing is heard of any more. Raises Playwright's Error."""
        session, self._session = self._session, None
        if session is not None:
            await session.detach()

    def all(self) -> list[Download]:
        return list(self._by_guid.values())

    def since(self, count: int) -> list[Download]:
        """Those after the first so many, as far as they are remembered."""
        return [one for one in self._by_guid.values() if one.number > count]

    def untold(self) -> list[Download]:
        """Those that no answer has named yet: one may begin after the answer of the action that led to it."""
        found, self._told = self.since(self._told), self.count
        return found

    def get(self, download_id: str) -> Download | None:
        return next((one for one in self._by_guid.values() if one.id == download_id), None)

    def forget(self, one: Download) -> None:
        self._by_guid.pop(one.guid, None)

    async def drop(self, one: Download) -> None:
        """Wherever it stands, nothing of it is kept."""
        self.forget(one)
        if not one.done.is_set():
            await self._cancel(one)
        await self._live.remove_file(one.guid)

    def expect(self, told: TheirDownload) -> None:
        """A page of this runtime began one: Playwright knows whose it is, and Chromium tells every session of all."""
        self._expected.append((told.url[:URL_CHARACTERS], told.suggested_filename))
        self._match()

    def refuse(self, told: TheirDownload) -> None:
        """A window of this runtime began one that was closed at once."""
        self._aside.start(told.cancel())

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
        running = [other for other in self._unclaimed.values() if not other.done.is_set()]
        if len(running) > UNCLAIMED_MAX:
            self._aside.start(self._cancel(one))
        for other in list(self._unclaimed.values())[: len(self._unclaimed) - UNCLAIMED_MAX]:
            # One that still runs is heard of until it ends: its bytes count.
            if other.done.is_set():
                del self._unclaimed[other.guid]
        self._match()

    def _match(self) -> None:
        for wanted in list(self._expected):
            one = next((one for one in self._unclaimed.values() if (one.url, one.suggested) == wanted), None)
            if one is not None:
                self._expected.remove(wanted)
                self._add(self._unclaimed.pop(one.guid))

    def _add(self, one: Download) -> None:
        self.count += 1
        one.number = self.count
        one.id = f"d{one.number}"
        self._by_guid[one.guid] = one
        self.stirred.set()
        if len([other for other in self._by_guid.values() if not other.done.is_set()]) > self.limits.at_a_time:
            self._aside.start(self._cancel(one))
        self._make_room(KEPT)

    def _make_room(self, kept: int) -> None:
        """The oldest complete ones go, until so many are left."""
        for old in [one for one in self._by_guid.values() if one.done.is_set()][: max(0, len(self._by_guid) - kept)]:
            self._aside.start(self.drop(old))
            self.forget(old)

    def _on_progress(self, told: dict[str, Any]) -> None:
        guid = str(told["guid"])
        one = self._by_guid.get(guid) or self._unclaimed.get(guid)
        if one is None:
            return
        one.received_bytes, one.state = int(told.get("receivedBytes", 0)), str(told.get("state", ""))
        if one.state != "inProgress":
            one.done.set()
        elif one.received_bytes > self.limits.each_bytes:
            self._aside.start(self._cancel(one))
        elif one.number:
            self._keep_within(one)

    def _keep_within(self, growing: Download) -> None:
        def together() -> int:
            return sum(one.received_bytes for one in self._by_guid.values() if one.state != "canceled")

        while together() > self.limits.together_bytes:
            if all(not one.done.is_set() for one in self._by_guid.values()):
                self._aside.start(self._cancel(growing))
                return
            self._make_room(len(self._by_guid) - 1)

    async def _cancel(self, one: Download) -> None:
        """Whichever context it is of: Chromium wants to be told."""
        from playwright.async_api import Error

        if self._session is None:
            return
        contexts = (await self._session.send("Target.getBrowserContexts"))["browserContextIds"]
        for context_id in contexts:
            with suppress(Error):
                await self._session.send("Browser.cancelDownload", {"guid": one.guid, "browserContextId": context_id})
