"""A secret that was filled in is in no answer, event, artifact, log, temporary file or row afterwards."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from mcp_spaces.browser.answers import ADDRESS_CHARACTERS
from mcp_spaces.browser.operations import OPERATIONS
from mcp_spaces.errors import SpacesError
from tests.browser.signing import APP, SPACE, Rig, forms, holds
from tests.browser.site.server import HANDLERS
from tests.browser.site.wire import Answer
from tests.folders import content_of, files_below
from tests.security.app import ROOT

LOOKING: dict[str, dict[str, Any]] = {
    "browser.snapshot": {},
    "browser.text": {},
    "browser.screenshot": {"to": "seen.jpg", "overwrite": True, "show_refs": True},
    "browser.pdf": {"to": "seen.pdf", "overwrite": True},
    "browser.console": {"limit": 200},
    "browser.network": {"limit": 200},
    "browser.pages": {},
    "browser.get": {},
    "browser.list": {},
    "browser.downloads": {},
    "browser.evaluate": {"script": "[document.documentElement.outerHTML, document.title, location.href]"},
    "browser.wait_for": {"text": "a", "timeout_s": 1},
    "browser.scroll": {},
    "browser.press": {"keys": "Tab"},
    "browser.hover": {"ref": "e1", "timeout_s": 1},
    "browser.fill": {"fields": {"e1": "x"}, "timeout_s": 1},
    "browser.execute": {
        "steps": [
            {"call": f"page.{method}", "args": args}
            for method, args in (
                ("content", []),
                ("title", []),
                ("url", []),
                ("innerText", ["body"]),
                ("getAttribute", ["body", "class"]),
                ("screenshot", []),
                ("frames", []),
                ("evaluate", ["document.documentElement.outerHTML"]),
                ("reload", []),
                ("textContent", ["html"]),
            )
        ],
        "mode": "continue",
    },
    "browser.click": {"ref": "e1", "timeout_s": 1},
    "browser.reload": {},
    "browser.back": {},
    "browser.forward": {},
    "browser.navigate": {"url": f"{APP}/plain"},
    "browser.open": {"url": f"{APP}/links100"},
    "browser.activate": {"page": "p1"},
    "browser.download": {"id": "d1", "to": "kept.txt", "overwrite": True},
}


async def everything(rig: Rig) -> str:
    """What every operation that looks at a browser answers."""
    answers = []
    for operation, arguments in LOOKING.items():
        try:
            answer = await rig.call(operation, **arguments)
            answers.append(answer.model_dump_json() + repr(answer))
        except SpacesError as error:
            answers.append(f"{error.message} {error.hint}")
    return "\n".join(answers)


def is_said(code: str, text: str) -> bool:
    """Six digits stand by chance in ids, times and base64."""
    return re.search(rf"(?<![0-9A-Za-z]){code}(?![0-9A-Za-z])", text) is not None


@pytest.mark.parametrize("page", ["/plain", "/toggle", "/mirror", "/attr", "/console", "/throws", "/spa", "/two-step"])
async def test_l02_l03_l04_l05_l06_l20_nothing_shows_a_secret_after_a_login(
    rig: Rig, page: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    began = len(rig.runs)
    answer = await rig.login(page, code=page in ("/spa", "/two-step"))
    seen = answer.model_dump_json() + await everything(rig)
    assert answer.signed_in
    sessions = list(rig.site.accounts.sessions)
    codes = [hit.body[-6:].decode() for hit in rig.site.hits("app.test") if b"code=" in hit.body]
    secrets = [rig.site.person.password, *sessions]
    assert not holds(seen.encode(), *secrets) and not any(is_said(code, seen) for code in codes)
    assert not holds(rig.recorded().encode(), *secrets)
    assert not holds(caplog.text.encode(), *secrets)
    events = [await rig.call("run.get", run=run) for run in rig.runs[began:]]
    told = "".join(one.model_dump_json() for one in events)
    assert not holds(told.encode(), *secrets) and not any(is_said(code, told) for code in codes)
    assert any("browser.fill" in one.model_dump_json() for one in events)


async def test_l10_no_file_on_the_disk_holds_a_secret_after_a_login(rig: Rig) -> None:
    await rig.fresh(profile="files")
    assert (await rig.login("/remember")).signed_in
    await everything(rig)
    await rig.call("browser.stop")
    rig.runtime = ""
    wanted = forms(rig.site.person.password) | forms(next(iter(rig.site.accounts.sessions)))
    assert holders(rig.folder, wanted) == []
    # What Playwright's driver and Chromium leave in the machine's folder for such things.
    assert holders(Path(tempfile.gettempdir()), wanted, only=("playwright", ".org.chrom")) == []


TALKATIVE: list[dict[str, str]] = [{"DEBUG": "pw:*"}, {"DEBUGP": "1"}, {"DEBUG": "pw:*", "DEBUG_FILE": "driver.log"}]
DRIVEN = """
import asyncio, sys

async def drive(whose, canary):
    if whose == "ours":
        from mcp_spaces.browser.driver.playwright import PlaywrightDriver
        driver = PlaywrightDriver()
        # As whoever connects to a browser first does, to know its errors.
        from playwright.async_api import Error
        playwright = await driver.playwright()
    else:
        from playwright.async_api import async_playwright
        playwright = await async_playwright().start()
    request = await playwright.request.new_context(extra_http_headers={"x-secret": canary})
    await request.dispose()
    await (driver.aclose() if whose == "ours" else playwright.stop())

asyncio.run(drive(*sys.argv[1:]))
"""


@pytest.mark.parametrize("talkative", TALKATIVE, ids=str)
@pytest.mark.parametrize("whose", ["ours", "as it comes"])
def test_l10_what_is_asked_of_playwright_is_in_no_log_of_its_own(
    tmp_path: Path, whose: str, talkative: dict[str, str]
) -> None:
    """As it comes it writes what it is asked for, secrets included: otherwise the other half would mean nothing."""
    canary = "canary-in-a-call"
    environment = {**os.environ, **talkative, "PYTHONPATH": str(ROOT)}
    said = tmp_path / "said"
    # Into a file, not a pipe: Node makes a pipe that it shares non-blocking, and a full one loses lines.
    with said.open("wb") as output:
        done = subprocess.run(
            [sys.executable, "-c", DRIVEN, whose, canary],
            cwd=tmp_path, env=environment, stdout=output, stderr=output, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, said.read_bytes()[-2_000:]
    written = b"".join(map(content_of, files_below(tmp_path)))
    assert (canary.encode() in written) is (whose != "ours")


LARGE_BYTES = 64 << 20


def holders(folder: Path, wanted: set[bytes], *, only: tuple[str, ...] = ("",)) -> list[Path]:
    """Files below that hold one of the forms. Of disk images, which are mostly holes, what is there is read."""
    tops = [one for one in folder.iterdir() if one.name.startswith(only)]
    files = [file for top in tops for file in ([top] if top.is_file() else files_below(top))]
    return [file for file in files if is_holder(file, wanted)]


def is_holder(file: Path, wanted: set[bytes]) -> bool:
    try:
        with file.open("rb") as content:
            if os.fstat(content.fileno()).st_size <= LARGE_BYTES:
                everything = content.read()
                return any(form in everything for form in wanted)
            return any(form in piece for piece in pieces(content) for form in wanted)
    except OSError:
        return False


def pieces(image: BinaryIO) -> Iterator[bytes]:
    at, end = 0, os.fstat(image.fileno()).st_size
    while at < end:
        try:
            begins = os.lseek(image.fileno(), at, os.SEEK_DATA)
        except OSError:
            return
        at = os.lseek(image.fileno(), begins, os.SEEK_HOLE)
        yield os.pread(image.fileno(), at - begins, begins)


async def test_l03_a_wrong_password_that_a_page_repeats_is_not_left_in_it(rig: Rig) -> None:
    """The site shows what was posted: the page is left, and nothing of it is seen."""
    password = "wrong-password-77"
    answer = await rig.login("/get-form", secret=await rig.secret(password=password))
    assert not answer.signed_in and answer.note
    assert (await rig.call("browser.evaluate", script="location.href + document.title")).result == "about:blank"
    assert not holds((answer.model_dump_json() + await everything(rig)).encode(), password)


async def test_l03_l05_a_secret_is_not_cut_in_two_before_it_is_looked_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that shows and prints it after the login, and a caller who chooses where answers are cut."""
    password = rig.site.person.password
    echo = f"<title>Echo</title><p>{'x' * 300}{password}</p><p>{'long ' * 100}</p><script>"
    echo += f"console.log('x'.repeat(990) + '{password}')</script>"
    echo += f"<button onclick=\"alert('y'.repeat(990) + '{password}')\">Say</button>"
    monkeypatch.setitem(HANDLERS, ("GET", "/links100"), lambda *_: Answer(f"<!doctype html>{echo}".encode()))
    assert (await rig.login("/plain")).signed_in
    url = f"{APP}/links100?{'z' * (ADDRESS_CHARACTERS - len(APP) - 20)}{password}"
    await rig.live.pages["p1"].page.goto(url)
    told = [await rig.call("browser.snapshot"), await rig.call("browser.pages")]
    told.append(await rig.call("browser.click", ref=re.search(r'"Say" (e\d+)', told[0].snapshot)[1]))  # type: ignore[index]
    await rig.call("browser.dialog", accept=True)
    told.append(await rig.call("browser.console"))
    told += [await rig.call("browser.text", from_character=at, max_characters=200) for at in (105, 310)]
    told += [await rig.call("browser.snapshot", max_characters=most) for most in (310, 320)]
    texts = "".join(one.model_dump_json() for one in told)
    assert texts.count("[redacted:") >= 4
    assert not any(password[at : at + 6] in texts for at in range(len(password) - 5))


FIELDS = """<!doctype html><title>Fields</title><input class=hides type=password><input id=plain>
  <iframe srcdoc="<input class=hides type=password>"></iframe>"""
REVEAL = "text => document.querySelectorAll('.hides').forEach(one => { one.type = 'text'; one.value = text; })"


async def test_l01_no_picture_shows_what_a_field_hides_though_the_page_reveals_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures of two values are the same, where people would see two: "show password", in the page and in a frame."""
    monkeypatch.setitem(HANDLERS, ("GET", "/links100"), lambda *_: Answer(FIELDS.encode()))
    await rig.call("browser.navigate", url=f"{APP}/links100")
    page = rig.live.pages["p1"].page

    async def pictures() -> list[str]:
        shot = await rig.call("browser.screenshot", format="png", to="shot.png", overwrite=True)
        steps = [
            {"call": "page.screenshot", "args": [{"path": "step.png"}]},
            {"call": "page.locator", "args": ["body"], "bind": "body"},
            {"call": "locator.screenshot", "ref": "body", "args": [{"path": "element.png"}]},
        ]
        assert (await rig.call("browser.execute", steps=steps)).status == "completed"
        stored = [await rig.govern("storage.stat", space=SPACE, path=one) for one in ("step.png", "element.png")]
        return [shot.kept.sha256, *(one.sha256 for one in stored)]

    taken = []
    for text in ("AAAA", "BBBBBB"):
        for frame in page.frames:
            await frame.evaluate(REVEAL, text)
        taken.append(await pictures())
    await page.fill("#plain", "A value that may be seen")
    seen = await pictures()
    assert taken[0] == taken[1] and not set(seen) & set(taken[0])


ELSEWHERE = set(
    "launch methods forget stop delete connect disconnect record_start record_stop login logout close upload dialog"
    " select drag look_step act_step script_step".split()
)
"""They show nothing of a page, are refused after a login, or are done by others that are searched (steps). All of them
are searched once more in test_canary.py."""


def test_every_operation_that_looks_is_among_those_that_are_searched() -> None:
    assert {one.id for one in OPERATIONS} == set(LOOKING) | {f"browser.{one}" for one in ELSEWHERE}
