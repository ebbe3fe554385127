"""Whose runs a list holds: those of the spaces that the caller sees, and its own."""

from __future__ import annotations

import pytest

from mcp_spaces.core.caller import Caller
from mcp_spaces.runs.store import Filters
from tests.runs.test_runs import add_runs, insert
from tests.storage.bench import AGENT_A, AGENT_B, OPERATOR, A, B, Bench, bound_to

pytestmark = pytest.mark.anyio


async def test_a_list_holds_what_the_caller_sees_of_all_spaces_or_of_one(bench: Bench) -> None:
    runs = {
        "a by a": add_runs(1, space_id=A, principal_id="pr_a"),
        "a by x": add_runs(1, space_id=A, principal_id="pr_x"),
        "b by b": add_runs(1, space_id=B, principal_id="pr_b"),
        "b by a": add_runs(1, space_id=B, principal_id="pr_a"),
        "none by a": add_runs(1, space_id="", principal_id="pr_a"),
    }
    for rows in runs.values():
        await insert(bench, rows)
    names = {rows[0][0]: name for name, rows in runs.items()}

    def listed(caller: Caller, space_id: str | None = None) -> list[str]:
        page = bench.runs.page(caller, space_id=space_id, filters=Filters(), before=1 << 62, limit=100, besides="")
        return sorted(names[row["id"]] for row in page.rows)

    assert listed(OPERATOR) == sorted(runs)
    assert listed(OPERATOR, B) == ["b by a", "b by b"]
    assert listed(AGENT_A) == ["a by a", "a by x", "b by a", "none by a"]
    assert listed(AGENT_A, A) == ["a by a", "a by x"]
    assert listed(AGENT_B) == ["b by a", "b by b"]
    # A key that is bound to a space sees nothing else, not even what it made.
    assert listed(bound_to(AGENT_A, A)) == ["a by a", "a by x"]


async def test_the_children_of_a_run_and_what_runs_now_are_one_page_and_the_last(bench: Bench) -> None:
    outcome = await bench.call("thing.compose")
    for wanted in ({"parent": outcome.run_id}, {"state": "running"}):
        page = await bench.answer("run.list", AGENT_A, **wanted)
        assert page["next_cursor"] is None
        assert len(page["runs"]) == (2 if "parent" in wanted else 0)


async def test_a_run_says_in_milliseconds_how_long_it_took_once_it_is_over(bench: Bench) -> None:
    await insert(bench, add_runs(1, space_id=A, principal_id="pr_a"))
    (line,) = (await bench.answer("run.list", AGENT_A, operation="bulk.add"))["runs"]
    assert line["duration_ms"] == 1_000.0
    await bench.database.write(lambda tx: tx.execute("UPDATE runs SET ended_at = NULL WHERE id = ?", (line["id"],)))
    (line,) = (await bench.answer("run.list", AGENT_A, operation="bulk.add"))["runs"]
    assert line["duration_ms"] is None
