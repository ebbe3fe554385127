"""What a record keeps: short texts whole, long ones by size and hash; open runs of a dead daemon get an outcome."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

import pytest

from mcp_spaces.core.journal import ITEM_LIMIT, STRING_LIMIT, Event, Run, RunState, encode, shorten
from mcp_spaces.errors import Busy
from tests.core.bench import AGENT, locked, open_bench

pytestmark = pytest.mark.anyio


async def test_a_text_is_kept_whole_up_to_its_limit_and_else_by_its_size_and_hash() -> None:
    whole = "é" * STRING_LIMIT
    assert shorten({"a": [whole]}) == {"a": [whole]}
    assert shorten(whole + "x") == {
        "characters": STRING_LIMIT + 1,
        "sha256": hashlib.sha256((whole + "x").encode()).hexdigest(),
        "start": "é" * 200,
    }


async def test_a_list_is_cut_behind_its_limit_and_says_how_much_is_missing() -> None:
    assert shorten(list(range(ITEM_LIMIT))) == list(range(ITEM_LIMIT))
    assert shorten(tuple(range(ITEM_LIMIT + 3))) == [*range(ITEM_LIMIT), {"more": 3}]
    assert len(json.loads(encode(shorten({str(number): 1 for number in range(ITEM_LIMIT + 3)})))) == ITEM_LIMIT


async def test_a_record_is_canonical() -> None:
    assert encode({"b": [1, None], "a": "é\ud800"}) == '{"a":"\\u00e9\\ud800","b":[1,null]}'


async def test_what_happens_after_a_run_gets_cursors_that_grow(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        run_id = (await bench.pipeline.call(AGENT, "thing.say", {"text": "x"})).run_id
        first, second = [await bench.journal.emit(run_id, "job.ended", {"n": number}) for number in (1, 2)]
        assert 0 < first < second
        rows = bench.database.read("SELECT seq, body FROM events WHERE run_id = ? ORDER BY seq", (run_id,))
        assert [(row["seq"], row["body"]) for row in rows] == [(first, '{"n":1}'), (second, '{"n":2}')]


async def test_k02_a_run_that_a_dead_daemon_left_open_has_an_outcome_in_the_chain(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        run = bench.journal.open("thing.say", principal_id="pr_a", parent_id=None, space_id=None, arguments={})
        assert run.recorded is not None
        await run.recorded
        assert await bench.journal.interrupt_open_runs() == 1
        assert await bench.journal.interrupt_open_runs() == 0
        assert bench.run(run.id)["state"] == RunState.INTERRUPTED
        (row,) = bench.database.read("SELECT run_id, body FROM audit WHERE kind = 'outcome'")
        assert row["run_id"] == run.id
        assert json.loads(row["body"]) == {"state": "interrupted", "outcome": "unknown"}


async def test_an_outcome_for_which_there_was_no_room_is_recorded_once_ahead_of_the_next_intent(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        closed: list[str] = []
        bench.journal.on_closed.append(closed.append)

        async def begun(count: int) -> Run:
            """The last of as many that begin at a time."""
            begin = partial(bench.journal.open, "thing.say", principal_id="pr_a", parent_id=None, space_id=None)
            run = [begin(arguments={}) for _ in range(count)][-1]
            assert run.recorded is not None
            await run.recorded
            return run

        run = await begun(1)
        run.events.append(Event("halfway", 1.0, {}))
        with locked(bench.database), pytest.raises(Busy):
            await bench.journal.close(run, RunState.SUCCEEDED, outcome={"text": "x"})
        assert bench.run(run.id)["state"] == "running" and closed == []
        for _ in range(2):
            await begun(2)
        kept = bench.run(run.id)
        assert (kept["state"], kept["outcome"]) == ("succeeded", '{"text":"x"}')
        assert closed == [run.id]
        assert len(bench.database.read("SELECT 1 FROM events WHERE run_id = ?", (run.id,))) == 1
        assert len(bench.database.read("SELECT 1 FROM audit WHERE run_id = ? AND kind = 'outcome'", (run.id,))) == 1


async def test_a_lock_that_lasts_keeps_what_is_to_be_recorded(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        run = bench.journal.open("thing.say", principal_id="pr_a", parent_id=None, space_id=None, arguments={})
        assert run.recorded is not None
        await run.recorded
        with locked(bench.database):
            with pytest.raises(Busy):
                await bench.journal.close(run, RunState.SUCCEEDED, outcome={})
            with pytest.raises(Busy):
                await bench.pipeline.call(AGENT, "thing.say", {"text": "x"})
        await bench.pipeline.call(AGENT, "thing.say", {"text": "x"})
        assert bench.run(run.id)["state"] == "succeeded"


async def test_a_call_that_was_not_decided_has_no_decision_in_its_record(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        with pytest.raises(Exception, match="missing"):
            await bench.pipeline.call(AGENT, "thing.say", {})
        assert bench.last_run()["decision"] is None
