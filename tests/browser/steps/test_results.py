"""What steps answer: cut to a length, and without any secret."""

from __future__ import annotations

import json

import pytest

from mcp_spaces.errors import QuotaExceeded, WrongState
from mcp_spaces.runs.artifacts import ArtifactStore
from mcp_spaces.runs.store import RunStore
from tests.browser.room import Room
from tests.browser.steps.programs import SECRET, at, body, run, step


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
