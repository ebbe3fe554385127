"""A secret that was filled in is in no answer, event, artifact, log, temporary file or row: not during the fill, not
afterwards, and not when the browser dies in the middle of it."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import pytest

from mcp_spaces.browser.answers import ADDRESS_CHARACTERS
from mcp_spaces.browser.downloads import Download
from mcp_spaces.browser.model import PAGES_MAX
from mcp_spaces.browser.operations import OPERATIONS
from mcp_spaces.errors import SpacesError, WrongState
from mcp_spaces.sandbox.port import Command
from tests.browser.signing import APP, SPACE, Rig, forms, open_rig
from tests.browser.site.server import HANDLERS
from tests.browser.site.wire import Answer, Request
from tests.folders import files_below

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path_factory.mktemp("leaks"), period_s=6) as rig:
        yield rig


@pytest.fixture
async def rig(opened: Rig) -> Rig:
    await opened.fresh()
    return opened


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


def holds(content: bytes, *values: str) -> bool:
    return any(form in content for value in values for form in forms(value))


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


INSIDE = sorted(
    one.id
    for one in OPERATIONS
    if one.in_runtime and one.id not in ("browser.stop", "browser.delete", "browser.disconnect")
)


@pytest.mark.parametrize("operation", INSIDE)
async def test_l01_l02_l03_l04_l05_b11_nothing_is_done_with_a_browser_while_a_secret_is_inside(
    opened: Rig, operation: str
) -> None:
    rig = opened
    if not rig.runtime:
        await rig.fresh()
    (declared,) = [one for one in OPERATIONS if one.id == operation]
    example = {name: value for name, value in declared.example.items() if name not in ("space", "runtime")}
    if operation == "browser.upload":
        await rig.app.pipeline.call(
            rig.caller, "storage.upload", {"space": SPACE, "path": "report.csv", "content": "a,b", "overwrite": True}
        )
    live = rig.live
    live.begin_secret()
    try:
        if operation == "browser.get":
            # It says that the browser is there, and no more.
            assert (await rig.call(operation)).pages == ()
            return
        refused = await rig.refusal(operation, **example)
    finally:
        await live.end_secret()
    assert isinstance(refused, WrongState) and "secret" in refused.message


async def test_l06_an_address_that_holds_the_secret_is_shown_by_nobody_during_a_fill_or_later(rig: Rig) -> None:
    """A login form that is sent by GET, and whoever asks for the browser meanwhile."""
    password, live = rig.site.person.password, rig.live
    assert (await rig.login("/plain")).signed_in
    live.begin_secret()
    await live.pages["p1"].page.goto(f"{APP}/plain?password={password}")
    assert (await rig.call("browser.get")).pages == ()
    await live.end_secret()
    shown = await rig.call("browser.get")
    assert len(shown.pages) == 1 and not holds(shown.model_dump_json().encode(), password)
    assert not holds(rig.recorded().encode(), password)


async def test_l05_l06_b11_what_a_page_prints_and_opens_during_a_fill_is_not_kept(rig: Rig) -> None:
    page = rig.live.pages["p1"]
    await rig.call("browser.navigate", url=f"{APP}/plain")
    printed = len(page.console)
    rig.live.begin_secret()
    await page.page.evaluate(
        "console.log('canary-in-a-line'); fetch('/canary-in-a-path?x=canary'); window.open('/plain')"
    )
    await page.settle(navigations=page.navigations)
    with anyio.fail_after(10):
        while len(rig.live.live.context.pages) > 1:  # noqa: ASYNC110 - the browser closes it
            await anyio.sleep(0.01)
    await rig.live.end_secret()
    assert len(page.console) == printed and list(rig.live.pages) == ["p1"]
    assert "canary" not in (await rig.call("browser.network")).model_dump_json()


async def test_d14_windows_without_end_are_closed(rig: Rig) -> None:
    await rig.call("browser.navigate", url=f"{APP}/plain")
    page = rig.live.pages["p1"].page
    await page.evaluate(f"for (let at = 0; at < {PAGES_MAX + 9}; at++) window.open('about:blank')")
    assert len((await rig.call("browser.pages")).pages) <= PAGES_MAX


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


# ------------------------------------------------------------------------------------------- an agent's own scripts

LISTENER = "document.addEventListener('input', event => { window.taken = [...event.target.value].reverse().join('') })"
TAKEN = "window.taken || (window.opener || {}).taken || ''"
HOOKED_WINDOW = """() => { const made = window.open('/spa');
  made.addEventListener('DOMContentLoaded', () => made.document.addEventListener('input', event => {
    window.taken = [...event.target.value].reverse().join('') })); }"""


async def script_by_step(rig: Rig, script: str, page: str = "p1") -> None:
    steps = [{"call": "page.evaluate", "ref": page, "args": [script]}]
    assert (await rig.call("browser.execute", steps=steps)).status == "completed"


@pytest.mark.parametrize("way", ["evaluate", "step", "opener", "lease"])
async def test_l04_no_secret_goes_into_a_browser_that_a_script_of_the_agent_ran_in(rig: Rig, way: str) -> None:
    """What it planted reads the password as it is filled in, and gives it back in a form that nobody searches for."""
    if way == "lease":
        await rig.fresh(options={"isolation": "process"})
    await rig.call("browser.navigate", url=f"{APP}/spa")
    page = None
    if way == "evaluate":
        await rig.call("browser.evaluate", script=LISTENER)
    elif way == "step":
        await script_by_step(rig, LISTENER)
    elif way == "opener":
        await rig.call("browser.evaluate", script=HOOKED_WINDOW)
        page = (await rig.call("browser.pages")).pages[-1].page
    else:
        await rig.call("browser.connect")
        await rig.call("browser.disconnect")
    path = await rig.secret()
    for url in (None, f"{APP}/spa"):
        refused = await rig.refusal("browser.login", secret=path, page=page, url=url)
        assert isinstance(refused, WrongState) and "browser_launch" in refused.hint
    assert not await rig.was_opened(path) and (await rig.call("browser.evaluate", script=TAKEN)).result == ""


async def test_l04_a_document_that_a_secret_was_in_runs_no_script_of_the_agent_s(rig: Rig) -> None:
    """A page of one document keeps what was typed in its own scripts; beside it, another page may reach it."""
    assert (await rig.login("/spa", code=True)).signed_in
    beside = (await rig.call("browser.navigate", url=f"{APP}/plain", new_page=True)).page
    for page in ("p1", beside):
        refused = await rig.refusal("browser.evaluate", script=TAKEN, page=page)
        assert isinstance(refused, WrongState) and "p1" in refused.message and "browser_reload" in refused.hint
        steps = [{"call": "page.evaluate", "ref": page, "args": [TAKEN]}]
        stopped = await rig.call("browser.execute", steps=steps)
        assert stopped.status == "failed" and "p1" in stopped.events[-1].error.message
    await rig.call("browser.reload", page="p1")
    assert (await rig.call("browser.evaluate", script=TAKEN, page=beside)).result == ""


async def test_l04_a_script_in_a_context_of_its_own_keeps_no_secret_from_the_browser_s(rig: Rig) -> None:
    steps = [
        {"call": "browser.newContext"},
        {"call": "browser.newContext", "bind": "apart"},
        {"call": "context.newPage", "ref": "apart", "bind": "q"},
        {"call": "page.evaluate", "ref": "q", "args": ["1 + 1"]},
    ]
    assert (await rig.call("browser.execute", steps=steps)).status == "completed"
    await rig.call("browser.activate", page="p1")
    assert (await rig.login("/plain")).signed_in
    again = [{"call": "page.evaluate", "ref": "q", "args": ["1 + 1"]}]
    assert (await rig.call("browser.execute", steps=again)).events[0].result == 2


# ------------------------------------------------------------------------------------------------- what goes wrong


async def kill_browser(rig: Rig) -> None:
    await rig.live.live.host.sandbox.stop()  # type: ignore[attr-defined]


async def kill_renderers(rig: Rig) -> None:
    # The brackets keep the shell from finding, and killing, itself.
    script = "for p in /proc/[0-9]*; do grep -qs '[t]ype=renderer' $p/cmdline && kill -9 ${p#/proc/}; done; true"
    sandbox = rig.live.live.host.sandbox  # type: ignore[attr-defined]
    process = await sandbox.start(Command(("/bin/sh", "-c", script)), output=lambda _stream, _chunk: None)
    await process.wait()


async def close_context(rig: Rig) -> None:
    await rig.live.live.context.close()


@pytest.fixture
def slow_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The site takes its time with what is posted."""

    def late(backend: object, request: Request) -> Answer:
        return Answer(b"<!doctype html><title>Late</title>", delay_s=6)

    monkeypatch.setitem(HANDLERS, ("POST", "/plain"), late)


@pytest.mark.parametrize("ending", [kill_browser, kill_renderers, close_context])
async def test_k06_a_browser_that_dies_during_a_fill_takes_the_secret_with_it(
    rig: Rig,
    slow_answer: None,
    monkeypatch: pytest.MonkeyPatch,
    ending: Callable[[Rig], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    assert (await rig.login("/console")).signed_in
    await rig.call("browser.logout")
    rig.site.forget()
    path = await rig.secret()
    signing = asyncio.ensure_future(rig.refusal("browser.login", secret=path, url=f"{APP}/plain"))
    live = rig.live
    with anyio.fail_after(20):
        while not live.secret_inside or not rig.site.holding(rig.site.person.password):  # noqa: ASYNC110 - in a browser
            await anyio.sleep(0.002)
    await ending(rig)
    refused = await signing
    assert rig.site.person.password not in refused.message + refused.hint
    assert await rig.state() == "failed" and await rig.was_opened(path)
    assert not holds((rig.recorded() + caplog.text).encode(), rig.site.person.password)
    assert len(rig.site.holding(rig.site.person.password)) == 1
    # Nothing was tried again by itself, and what pages printed is not among Chromium's last words.
    monkeypatch.undo()
    await rig.launch()
    assert (await rig.login("/plain")).signed_in


async def test_k06_a_call_that_is_taken_back_in_the_middle_closes_the_browser(rig: Rig, slow_answer: None) -> None:
    signing = asyncio.ensure_future(rig.login("/plain"))
    live = rig.live
    with anyio.fail_after(20):
        while not live.secret_inside or not rig.site.holding(rig.site.person.password):  # noqa: ASYNC110 - in a browser
            await anyio.sleep(0.002)
    signing.cancel()
    with pytest.raises(BaseException):  # noqa: B017, PT011 - a cancellation, in whichever form it comes
        await signing
    assert await rig.state() == "failed"


async def test_k06_a_call_that_is_taken_back_at_the_end_leaves_a_browser_that_can_be_used(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No field holds the secret any more; what was downloaded meanwhile is being removed."""
    live, reached = rig.live, asyncio.Event()

    async def hangs(_download: Download) -> None:
        reached.set()
        await asyncio.Event().wait()

    live.begin_secret()
    live.downloads._by_guid["g"] = Download("d1", "g", f"{APP}/", "secret.txt", number=live.downloads.count + 1)
    refused = await rig.refusal("browser.snapshot")
    monkeypatch.setattr(live.downloads, "drop", hangs)
    ending = asyncio.ensure_future(live.end_secret())
    with anyio.fail_after(10):
        await reached.wait()
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    monkeypatch.undo()
    assert (await rig.call("browser.snapshot")).page == "p1" and live.downloads.all() == []
    # And where one is stuck all the same, the hint is one that can be followed.
    assert "browser_stop" in refused.hint
    live.begin_secret()
    await rig.call("browser.stop")
    await rig.launch()
    assert (await rig.call("browser.snapshot")).page == "p1"


async def test_l08_an_error_of_playwright_with_the_secret_in_it_is_told_without(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    password = rig.site.person.password

    async def fails(*_: object, **__: object) -> None:
        raise RuntimeError(f"cannot set {password}")

    monkeypatch.setattr("mcp_spaces.browser.worlds.Worlds.call", fails)
    refused = await rig.refusal("browser.login", secret=await rig.secret(), url=f"{APP}/plain")
    assert isinstance(refused, WrongState) and refused.__suppress_context__
    assert password not in refused.message + refused.hint + caplog.text + rig.recorded()


ELSEWHERE = set(
    "launch methods forget stop delete connect disconnect record_start record_stop login logout close upload dialog"
    " select drag look_step act_step script_step".split()
)
"""They show nothing of a page, are refused after a login, or are done by others that are searched (steps). All of them
are searched once more in test_canary.py."""


def test_every_operation_that_looks_is_among_those_that_are_searched() -> None:
    assert {one.id for one in OPERATIONS} == set(LOOKING) | {f"browser.{one}" for one in ELSEWHERE}
