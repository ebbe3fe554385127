"""Each step is decided by itself: denied, asked for and gone on with once, or only tried."""

from __future__ import annotations

import anyio

from mcp_spaces.errors import Conflict
from mcp_spaces.runs.store import RunStore
from tests.browser.room import Room
from tests.browser.steps.programs import at, body, run, step


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
