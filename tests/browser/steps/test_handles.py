"""Names of pages, contexts and elements: how long they live, how many there are, and what goes with the last."""

from __future__ import annotations

from mcp_spaces.browser.steps.handles import HANDLES_MAX
from tests.browser.room import Room
from tests.browser.steps.programs import at, results, run, step


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
