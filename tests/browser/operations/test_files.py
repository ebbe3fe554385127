"""Files of the space on their way into pages, and downloads on their way out."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import Literal

import anyio
import pytest

from mcp_spaces.browser.pages import page
from mcp_spaces.browser.pages.downloads import Downloads
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.errors import NotFound, WrongState
from mcp_spaces.spaces.model import RuntimeKind
from mcp_spaces.spaces.port import Runtimes
from tests.browser.operations.tabs import HOST, PATIENCE_S, Tab


async def test_a_file_goes_from_storage_to_a_page(tab: Tab) -> None:
    refs = await tab.shop()
    given = {"space": "work", "path": "in/data.csv", "content": "a,b\n", "overwrite": True}
    await tab.app.pipeline.call(tab.app.local_agent(), "storage.upload", given)
    assert "data.csv4" in (await tab.call("upload", ref=refs["File"], paths=["in/data.csv"])).changes
    await tab.refused("upload", NotFound, ref=refs["File"], paths=["in/none.csv"])


async def test_b15_a_download_is_kept_under_a_name_of_the_callers_whatever_the_page_calls_it(tab: Tab) -> None:
    refs = await tab.shop()
    tab.site.made["file.csv"] = "one,two\n"
    begun = await tab.call("click", ref=refs["Report"])
    if begun.downloads is None:
        with anyio.fail_after(20):
            while not (begun := await tab.call("downloads")).downloads:  # noqa: ASYNC110 - the browser is another process
                await anyio.sleep(0.05)
        begun_id = begun.downloads[0].id
    else:
        begun_id = begun.downloads[0].partition(" ")[0]
    kept = await tab.call("download", id=begun_id, to="out/report.csv", overwrite=True)
    assert (kept.path, kept.size_bytes) == ("out/report.csv", 8)
    await tab.refused("download", NotFound, id=begun_id, to="out/again.csv")


class WhenWaitedFor(asyncio.Event):
    """A download that nobody is told of before somebody waits for it."""

    def __init__(self, downloads: Downloads) -> None:
        super().__init__()
        self._tell, self._waited_for = downloads._match, False

    def match(self) -> None:
        if self._waited_for:
            self._tell()

    async def wait(self) -> Literal[True]:
        self._waited_for = True
        self._tell()
        return await super().wait()


async def test_an_address_that_is_a_download_is_one_however_late_that_is_told(
    tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = tab.app.services.use(Runtimes).all(kind=RuntimeKind.BROWSER)
    downloads = tab.app.services.use(BrowserService).started(row.id).downloads
    late = WhenWaitedFor(downloads)
    monkeypatch.setattr(downloads, "stirred", late)
    monkeypatch.setattr(downloads, "_match", late.match)
    tab.site.made["bytes"] = "one,two"
    tab.site.headers["content-disposition"] = "attachment; filename=bytes.csv"
    try:
        opened = await tab.call("navigate", url=f"{HOST}/bytes")
    finally:
        tab.site.headers.clear()
    assert (opened.status, opened.downloads) == (None, ["d1 bytes.csv"])


@pytest.mark.usefixtures("usual_settling")
async def test_a_download_is_named_by_the_click_that_led_to_it_and_a_late_one_by_the_next_answer(
    tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = await tab.shop()
    tab.site.made["file.csv"] = "a,b"
    came = tab.site.held["file.csv"] = threading.Event()
    try:
        assert (await tab.call("click", ref=refs["Report"])).downloads is None
    finally:
        came.set()
        del tab.site.held["file.csv"]
    with anyio.fail_after(PATIENCE_S):
        while not (await tab.call("downloads")).downloads:
            await anyio.lowlevel.checkpoint()
    assert [one.split()[0] for one in (await tab.call("click", ref=refs["Press"])).downloads] == ["d1"]
    assert (await tab.call("click", ref=refs["Press"])).downloads is None
    tab.site.held["file.csv"] = begins = threading.Event()
    monkeypatch.setattr(page, "SETTLE_S", 10.0)
    threading.Timer(0.7, begins.set).start()
    assert [one.split()[0] for one in (await tab.call("click", ref=refs["Report"])).downloads] == ["d2"]
    del tab.site.held["file.csv"]


async def test_a_button_that_opens_the_choice_of_files_is_given_them(tab: Tab) -> None:
    given = {"space": "work", "path": "a.txt", "content": "hello", "overwrite": True}
    await tab.app.pipeline.call(tab.app.local_agent(), "storage.upload", given)
    tab.site.made["chooses"] = (
        "<button onclick='field.click()'>Choose</button><input type=file id=field style='display:none'"
        " onchange='said.textContent = this.files[0].name'>"
        "<button onclick=\"const made = document.createElement('input'); made.type = 'file';"
        " made.onchange = () => said.textContent = 'made ' + made.files[0].name; made.click()\">Make</button>"
        "<button>Nothing</button><p id=said>"
    )
    refs = dict(re.findall(r'"(\w+)" (e\d+)', (await tab.call("navigate", url=f"{HOST}/chooses")).changes))
    assert '"a.txt"' in (await tab.call("upload", ref=refs["Choose"], paths=["a.txt"])).changes
    assert '"made a.txt"' in (await tab.call("upload", ref=refs["Make"], paths=["a.txt"])).changes
    error = await tab.refused("upload", WrongState, ref=refs["Nothing"], paths=["a.txt"], timeout_s=2)
    assert "opens no choice of files" in error.message
