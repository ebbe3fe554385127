"""Programs of steps against the real browser in its container: what they do, and where they end."""

from __future__ import annotations

from mcp_spaces.runs.artifacts import ArtifactStore
from tests.browser.room import Room
from tests.browser.steps.programs import at, results, run, step


async def test_the_sample_of_the_documentation_runs_from_nothing(room: Room) -> None:
    sample = [
        {"call": "browser.newContext"},
        {"call": "context.newPage", "bind": "p"},
        {"call": "page.goto", "ref": "p", "args": [room.url]},
        {"call": "page.content", "ref": "p"},
    ]
    for _ in range(2):
        answer = await run(room, *sample)
        assert answer.status == "completed"
        assert "<h1>Orders</h1>" in answer.events[-1].result


async def test_a_form_is_filled_and_sent_by_selectors_and_by_locators(room: Room) -> None:
    answer = await run(
        room,
        *at(room),
        step("page.fill", "#n", "Ann", ref="p"),
        step("page.selectOption", "#s", "blue", ref="p"),
        step("page.check", "#c", ref="p"),
        step("page.isChecked", "#c", ref="p"),
        step("page.getByRole", "button", {"name": "Say"}, ref="p"),
        step("locator.click"),
        step("page.title", ref="p"),
        step("page.inputValue", "#n", ref="p"),
    )
    assert answer.status == "completed"
    assert results(answer)[3] == ["blue"]
    assert results(answer)[5] is True
    assert results(answer)[-2:] == ["said Ann", "Ann"]


async def test_frames_downloads_dialogs_pictures_and_prints(room: Room) -> None:
    answer = await run(
        room,
        *at(room),
        step("page.frame", {"name": "inner"}, ref="p", bind="f"),
        step("frame.innerText", "p", ref="f"),
        step("page.click", "text=Get", ref="p"),
        step("page.waitForDownload", ref="p"),
        step("download.suggestedFilename"),
        step("download.saveAs", "got/report.bin"),
        step("page.click", "text=Alert", ref="p"),
        step("page.acceptDialog", ref="p"),
        step("page.screenshot", {"type": "jpeg"}, ref="p"),
        step("page.pdf", {"path": "page.pdf"}, ref="p"),
    )
    assert answer.status == "completed"
    told = results(answer)
    assert told[3] == "inside"
    assert "/" not in told[6]
    assert (await room.call("storage.read", path="got/report.bin")).content == "BYTES"
    assert answer.events[8].dialog == {"kind": "alert", "message": "hello"}
    kept = room.use(ArtifactStore).get(told[10]["artifact"])
    assert kept is not None and kept.content_type == "image/jpeg"
    assert (await room.call("storage.stat", path="page.pdf")).size_bytes > 1_000


async def test_a_download_is_listed_by_the_runtime_whose_page_began_it_and_by_no_other(room: Room) -> None:
    await room.call("browser.launch", alias="other")
    try:
        steps = [step("page.goto", room.url), step("page.click", "text=Get"), step("page.waitForDownload")]
        await room.call("browser.execute", runtime="browser", steps=steps)
        assert len((await room.call("browser.downloads", runtime="browser")).downloads) == 1
        assert (await room.call("browser.downloads", runtime="other")).downloads == ()
    finally:
        await room.call("browser.delete", runtime="other")


async def test_fail_fast_ends_at_the_first_failure_and_continue_does_not(room: Room) -> None:
    steps = [*at(room), step("page.click", "#absent", ref="p", timeoutMs=200), step("page.title", ref="p")]
    failed = await run(room, *steps)
    assert failed.status == "failed" and len(failed.events) == 3
    assert failed.events[2].error.code == "timeout"
    went_on = await run(room, *steps, mode="continue")
    assert went_on.status == "completed" and went_on.events[3].result == "Shop"


async def test_a_script_without_end_is_given_up(room: Room) -> None:
    answer = await run(room, *at(room), step("page.evaluate", "while (true);", ref="p", timeoutMs=300))
    assert answer.events[-1].error.code == "timeout"
