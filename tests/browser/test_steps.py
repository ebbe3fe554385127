"""Structured steps against the real browser in its container."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from mcp_spaces.browser.steps.arguments import parsed
from mcp_spaces.browser.steps.handles import HANDLES_MAX
from mcp_spaces.browser.steps.page_methods import BY_ID, METHODS
from mcp_spaces.core.caller import Caller
from mcp_spaces.errors import Conflict, InvalidInput, QuotaExceeded, WrongState
from mcp_spaces.runs.artifacts import ArtifactStore
from mcp_spaces.runs.model import EventView
from mcp_spaces.runs.store import RunStore
from tests.browser.room import Room, open_room

pytestmark = pytest.mark.anyio

SECRET = "hunter2-hunter2"
PAGES = {
    "/": "<title>Shop</title><h1>Orders</h1><label>Name <input id=n></label>"
    "<select id=s><option>red<option>blue</select><input type=checkbox id=c>"
    "<button onclick=\"document.title = 'said ' + n.value; fetch('/said')\">Say</button>"
    "<button onclick=\"alert('hello')\">Alert</button><a href=/f.bin>Get</a>"
    "<ul><li>one<li>two<li>three</ul><iframe name=inner src=/inner></iframe>",
    "/inner": "<p>inside</p>",
    "/secret": f"<input type=password id=pw value={SECRET}><p id=copy data-value={SECRET}>x</p><input id=n value=open>",
    "/long": "<title>Long</title>" + "word " * 5_000,
    "/f.bin": "BYTES",
}


@pytest.fixture(scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Room]:
    async with open_room(tmp_path_factory.mktemp("room"), pages=PAGES) as room:
        yield room


@pytest.fixture
async def room(opened: Room) -> AsyncIterator[Room]:
    """With a fresh browser, under the permissive policy, in which scripts need nobody's yes."""
    await opened.policy()
    runtime = await opened.launched()
    opened.runtime = runtime
    yield opened
    await opened.call("browser.delete")


async def run(room: Room, *steps: Any, mode: str = "fail-fast", caller: Caller | None = None) -> Any:
    return await room.call("browser.execute", steps=list(steps), mode=mode, caller=caller)


def step(call: str, *args: Any, ref: str | None = None, bind: str | None = None, **options: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"call": call, "args": list(args), "ref": ref, "bind": bind, "options": options}
    return {name: value for name, value in made.items() if value not in (None, {})}


def at(room: Room, name: str = "", bind: str = "p") -> list[dict[str, Any]]:
    return [step("context.newPage", bind=bind, ref="context"), step("page.goto", room.url + name, ref=bind)]


def body(line: EventView) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(line.body))
    return told


def results(answer: Any) -> list[Any]:
    return [event.result for event in answer.events]


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


async def test_handles_live_across_steps_and_calls_and_as_long_as_the_runtime(room: Room) -> None:
    await run(room, *at(room), step("page.locator", "li", ref="p", bind="items"))
    answer = await run(
        room,
        step("locator.count", ref="items"),
        step("locator.nth", 1, ref="items", bind="second"),
        step("locator.innerText", ref="second"),
        step("locator.allInnerTexts", ref="items"),
    )
    assert results(answer) == [3, None, "two", ["one", "two", "three"]]
    await room.call("browser.stop")
    await room.call("browser.launch", alias="browser")
    gone = await run(room, step("locator.count", ref="items"), mode="continue")
    assert gone.events[0].error.code == "not_found"


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


async def test_pages_that_steps_open_are_the_runtimes_and_their_ids_are_handles(room: Room) -> None:
    await run(room, *at(room))
    listed = await room.call("browser.pages")
    assert [one.page for one in listed.pages] == ["p1", "p2"]
    assert results(await run(room, step("page.title", ref="p2"))) == ["Shop"]
    await room.call("browser.close", page="p2")
    gone = await run(room, step("page.title", ref="p"), mode="continue")
    assert gone.events[0].error.code == "not_found"


async def test_a_second_context_is_another_one_behind_the_same_gateway_and_goes_with_the_runtime(room: Room) -> None:
    room.site.headers = {"Set-Cookie": "session=of-the-first; Path=/"}
    answer = await run(
        room, step("browser.newContext", bind="mine"), *at(room), step("browser.newContext", bind="other")
    )
    room.site.headers = {}
    assert answer.events[-1].bound == "other"
    room.site.seen.clear()
    answer = await run(
        room,
        step("context.newPage", ref="other", bind="q"),
        step("page.goto", room.url + "inner", ref="q"),
        step("page.goto", "http://elsewhere.test/", ref="q"),
        step("context.pages", ref="other"),
        mode="continue",
    )
    assert answer.events[1].result["status"] == 200
    assert room.site.seen == ["GET /inner HTTP/1.1"], "a further context has no cookies of the first one"
    assert answer.events[2].result is None or answer.events[2].result["status"] == 403
    live = room.live(room.runtime)
    further = live.further[0]
    await room.call("browser.stop")
    assert further not in live.live.browser.contexts
    await room.call("browser.launch", alias="browser")


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


@pytest.mark.parametrize(
    "bad",
    [
        {"call": "page.setContent", "args": ["<b>"]},
        {"call": "page.goto", "args": ["file:///etc/passwd"]},
        {"call": "page.goto", "args": ["http://ann:pw@app.test/"]},
        {"call": "page.goto", "args": []},
        {"call": "page.fill", "args": ["#n", "{{vault:prod/crm#password}}"]},
        {"call": "page.evaluate", "args": ["'{{vault:prod/crm}}'"]},
        {"call": "page.innerText", "args": ["spaces=snapshot:e30"]},
        {"call": "page.innerText", "args": ['internal:has="spa\\u0063es=snapshot:e30"']},
        {"call": "page.click", "args": ["#n", {"force": True}]},
        {"call": "page.title", "options": {"timeoutMs": 600_000}},
        {"call": "__class__.mro"},
        {"call": "page.title", "then": "more"},
        "page.title",
    ],
    ids=str,
)
async def test_what_is_not_declared_is_refused_before_anything_is_done(room: Room, bad: Any) -> None:
    room.site.seen.clear()
    with pytest.raises(InvalidInput) as refused:
        await run(room, *at(room), bad)
    assert refused.value.message.startswith("Step 3: ") and refused.value.hint
    assert room.site.seen == []
    malformed = await run(room, step("page.url", ref="p1"), bad, mode="continue")
    assert [event.ok for event in malformed.events] == [True, False]


async def test_each_step_is_decided_on_its_own_and_recorded(room: Room) -> None:
    await room.policy(level="read")
    outcome = await room.outcome(
        "browser.execute",
        steps=[*at(room), step("page.click", "text=Say", ref="p"), step("page.title", ref="p")],
        mode="continue",
    )
    events = outcome.output.model_dump()["events"]
    assert [one["ok"] for one in events] == [True, True, False, True]
    denied = events[2]["error"]
    assert (denied["code"], denied["rule"]) == ("denied", "browser.level") and denied["hint"]
    notes = [
        line for line in room.use(RunStore).events(outcome.run_id, after=0, limit=200) if line.type == "browserStep"
    ]
    assert [body(line)["step"] for line in notes] == [1, 2, 3, 4]


async def test_a_step_that_asks_pauses_the_call_and_goes_on_exactly_once(room: Room) -> None:
    await room.policy(evaluate="ask")
    steps = [
        *at(room),
        step("page.click", "text=Say", ref="p"),
        step("page.evaluate", "1 + 1", ref="p"),
        step("page.url", ref="p"),
    ]
    room.site.seen.clear()
    waits = await run(room, *steps)
    assert waits.status == "awaiting_approval" and waits.waiting.step == 4 and len(waits.events) == 3
    again = await run(room, *steps)
    assert again.waiting.approval_id == waits.waiting.approval_id
    await room.govern("approval.grant", approval=waits.waiting.approval_id)
    done = await run(room, *steps)
    assert done.status == "completed" and [event.ok for event in done.events] == [True] * 5
    assert done.events[3].result == 2
    assert room.site.seen.count("GET / HTTP/1.1") == 1, "what was done before the pause is not done again"
    assert room.site.seen.count("GET /said HTTP/1.1") == 1
    assert (await run(room, *steps)).status == "awaiting_approval", "one yes is for one time"


async def test_two_repeats_at_a_time_do_not_both_go_on(room: Room) -> None:
    await room.policy(evaluate="ask")
    steps = [
        step("page.goto", room.url),
        step("page.evaluate", "1"),
        step("page.waitForSelector", "#never", timeoutMs=1500),
    ]
    waits = await run(room, *steps)
    await room.govern("approval.grant", approval=waits.waiting.approval_id)
    told: list[str] = []

    async def repeat() -> None:
        try:
            told.append((await run(room, *steps)).status)
        except Conflict:
            told.append("conflict")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(repeat)
        tasks.start_soon(repeat)
    assert sorted(told) == ["conflict", "failed"]


async def test_a_dry_run_asks_policy_and_does_nothing(room: Room) -> None:
    await room.policy(evaluate="ask")
    room.site.seen.clear()
    answer = await run(
        room,
        step("context.newPage", bind="q", dryRun=True),
        step("page.goto", room.url, ref="q", dryRun=True),
        step("page.evaluate", "1", ref="q", dryRun=True),
        step("page.goto", room.url, ref="unknown", dryRun=True),
        mode="continue",
    )
    assert [event.verdict for event in answer.events] == ["allow", "allow", "ask", None]
    assert answer.events[3].error.code == "not_found"
    assert room.site.seen == []
    assert len((await room.call("browser.pages")).pages) == 1


async def test_a_script_without_end_is_given_up(room: Room) -> None:
    answer = await run(room, *at(room), step("page.evaluate", "while (true);", ref="p", timeoutMs=300))
    assert answer.events[-1].error.code == "timeout"


async def test_d14_a_script_that_answers_without_end_is_refused_by_whatever_operation(room: Room) -> None:
    huge = "'x'.repeat(3e7)"
    with pytest.raises(QuotaExceeded, match="2,000,000 characters"):
        await room.call("browser.evaluate", script=huge)
    scripts = [step("page.evaluate", huge, ref="p"), step("page.locator", "h1", ref="p", bind="h")]
    scripts.append(step("locator.evaluate", f"() => {huge}", ref="h"))
    answer = await run(room, *at(room), *scripts, mode="continue")
    assert [event.error.code for event in answer.events if event.error] == ["quota", "quota"]


async def test_a_long_result_is_cut_and_whole_in_an_artifact(room: Room) -> None:
    answer = await run(room, *at(room, "long"), step("page.content", ref="p"))
    event = answer.events[-1]
    assert event.cut and len(event.result) < 10_000
    kept = room.use(ArtifactStore).get(event.artifact)
    assert kept is not None and kept.size_bytes > 25_000 and kept.content_type == "text/html"
    assert len(answer.model_dump_json()) < 20_000


async def test_handles_are_counted(room: Room) -> None:
    live = room.live(room.runtime)
    await run(room, *at(room), step("page.locator", "li", ref="p", bind="one"))
    for number in range(HANDLES_MAX):
        live.handles.bound.setdefault(f"h{number}", live.handles.bound["one"])
        if len(live.handles.bound) >= HANDLES_MAX:
            break
    answer = await run(room, step("page.locator", "li", ref="p", bind="more"), mode="continue")
    assert answer.events[0].error.code == "quota"
    assert (await run(room, step("page.locator", "li", ref="p", bind="one"))).status == "completed"


async def test_results_that_no_step_binds_end_with_the_call_whatever_came_of_it(room: Room) -> None:
    failed = await run(room, *at(room), step("page.locator", "li", ref="p"), step("locator.nth", "x"), mode="continue")
    assert failed.events[-1].error.code == "invalid_input"
    assert set(room.live(room.runtime).handles.bound) == {"p"}


async def test_l03_l04_what_a_field_hides_is_in_no_result(room: Room) -> None:
    answer = await run(
        room,
        *at(room, "secret"),
        step("page.content", ref="p"),
        step("page.getAttribute", "#pw", "value", ref="p"),
        step("page.getAttribute", "#copy", "data-value", ref="p"),
        step("page.inputValue", "#pw", ref="p"),
        step("page.inputValue", "#n", ref="p"),
        mode="continue",
    )
    assert SECRET not in answer.model_dump_json()
    assert answer.events[5].error.code == "wrong_state"
    assert answer.events[6].result == "open"
    assert answer.events[2].result.count("[filled]") == 2


async def test_l04_no_step_is_done_while_a_secret_is_in_a_page(room: Room) -> None:
    await run(room, *at(room))
    live = room.live(room.runtime)
    live.secret_inside = True
    try:
        for call in ("page.content", "page.title", "page.screenshot"):
            with pytest.raises(WrongState):
                await run(room, step(call, ref="p"))
            with pytest.raises(WrongState):
                await room.call("browser.look_step", call=call, ref="p")
    finally:
        live.secret_inside = False


async def test_what_the_runtime_was_filled_with_is_redacted_from_results_events_and_artifacts(room: Room) -> None:
    live = room.live(room.runtime)
    live.used({"word word word": "prod/crm"})
    outcome = await room.outcome("browser.execute", steps=[*at(room, "long"), step("page.content", ref="p")])
    assert "word word word" not in json.dumps(outcome.output.model_dump(mode="json"))
    events = room.use(RunStore).events(outcome.run_id, after=0, limit=200)
    assert all("word word word" not in json.dumps(body(line)) for line in events)
    artifact = room.use(ArtifactStore).get(outcome.output.model_dump()["events"][-1]["artifact"])
    assert artifact is not None
    with room.use(ArtifactStore).open(artifact) as reader:
        assert b"word word word" not in await reader.read(0, artifact.size_bytes)


@pytest.mark.parametrize(
    ("call", "given", "read"),
    [
        ("page.goto", ["http://app.test/"], {"url": "http://app.test/", "waitUntil": "load"}),
        ("page.goto", {"url": "http://app.test/"}, {"url": "http://app.test/", "waitUntil": "load"}),
        (
            "page.goto",
            ["http://app.test/", {"waitUntil": "commit"}],
            {"url": "http://app.test/", "waitUntil": "commit"},
        ),
        ("page.waitForLoadState", [], {"state": "load"}),
        ("page.waitForLoadState", [{"state": "networkidle"}], {"state": "networkidle"}),
        ("page.fill", ["#n", "Ann"], {"selector": "#n", "value": "Ann"}),
        ("page.evaluate", ["x => x", {"name": "Ann"}], {"expression": "x => x", "arg": {"name": "Ann"}}),
        ("page.setViewportSize", [{"width": 400, "height": 300}], {"size": {"width": 400, "height": 300}}),
        ("locator.filter", [{"hasText": "one"}], {"hasText": "one", "hasNotText": None, "visible": None}),
    ],
    ids=str,
)
def test_arguments_are_read_in_order_by_name_and_with_options(call: str, given: Any, read: dict[str, Any]) -> None:
    assert parsed(BY_ID[call], given).model_dump() == read


def test_nothing_is_declared_twice_and_every_method_says_what_it_is_for() -> None:
    assert len({one.id for one in METHODS}) == len(METHODS)
    for one in METHODS:
        assert one.summary.endswith(".") and len(one.summary) <= 100
        assert set(one.arguments.POSITIONAL) <= set(one.arguments.model_fields)


async def test_every_declared_method_is_published_with_its_schema(room: Room) -> None:
    published = (await room.anywhere("browser.methods")).methods
    assert [one.call for one in published] == [one.id for one in METHODS]
    one = (await room.anywhere("browser.methods", call="page.fill")).methods[0]
    assert one.signature == "page.fill(selector, value)" and one.use == "interact"
    assert set(one.arguments["properties"]) == {"selector", "value"}


async def test_a_program_may_be_repeated_and_its_contexts_go_with_their_last_names(room: Room) -> None:
    live = room.live(room.runtime)
    sample = [
        step("browser.newContext"),
        step("context.newPage", bind="p"),
        step("page.goto", room.url, ref="p"),
        step("page.title", ref="p"),
    ]
    for _ in range(20):
        answer = await run(room, *sample)
        assert answer.status == "completed" and answer.events[-1].result == "Shop"
    assert len(live.further) == 1 and len(live.pages) <= 4
    # A name that a caller gave keeps its context, whatever becomes of its pages' names.
    kept = await run(room, step("browser.newContext", bind="mine"), step("context.newPage", ref="mine", bind="q"))
    assert kept.status == "completed"
    await run(room, step("context.newPage", ref="context", bind="q"))
    assert len(live.further) == 2
    (mine,) = (await run(room, step("context.pages", ref="mine"))).events
    assert len(mine.result) == 2


async def test_a_crashed_page_of_a_further_context_comes_back_in_that_one(room: Room) -> None:
    live = room.live(room.runtime)
    await run(room, step("browser.newContext"), step("browser.newContext", bind="c"), step("context.newPage", ref="c"))
    before = live.pages[live.active]
    (further,) = live.further
    assert before.page.context is further
    assert (await live.anew(before)).page.context is further
