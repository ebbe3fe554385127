"""What runs produced: who sees it, and that it goes with its space."""

from __future__ import annotations

import pytest

from mcp_spaces.errors import NotFound
from mcp_spaces.runs.artifacts import BATCH
from mcp_spaces.state.transaction import Transaction
from tests.runs.test_runs import add_runs, insert, keep
from tests.storage.bench import AGENT_A, OPERATOR, A, B, Bench

pytestmark = pytest.mark.anyio


async def test_t02_whoever_sees_a_run_does_not_see_what_it_left_in_another_space(bench: Bench) -> None:
    rows = add_runs(1, space_id=A, principal_id="pr_x")
    await insert(bench, rows)
    run_id = str(rows[0][0])
    here, there = await keep(bench, run_id, b"here"), await keep(bench, run_id, b"CANARY", space_id=B)
    assert (await bench.answer("run.get", AGENT_A, run=run_id))["id"] == run_id
    assert (await bench.answer("run.read_artifact", AGENT_A, artifact=here))["content"] == "here"
    with pytest.raises(NotFound):
        await bench.call("run.read_artifact", AGENT_A, artifact=there)
    assert (await bench.answer("run.read_artifact", OPERATOR, artifact=there))["content"] == "CANARY"


async def test_what_a_run_left_outside_of_spaces_is_its_principal_s(bench: Bench) -> None:
    outcome = await bench.call("run.list", AGENT_A)
    artifact = await keep(bench, outcome.run_id, b"mine", space_id="")
    assert (await bench.answer("run.read_artifact", AGENT_A, artifact=artifact))["content"] == "mine"


async def test_all_that_the_runs_of_a_space_left_goes_with_it_and_nothing_else(bench: Bench) -> None:
    outcome = await bench.call("run.list")
    stays = await keep(bench, outcome.run_id, b"stays", space_id=B)
    await keep(bench, outcome.run_id, b"goes")

    def many(tx: Transaction) -> None:
        for number in range(BATCH):
            tx.execute(
                "INSERT INTO artifacts (id, run_id, space_id, name, content_type, size_bytes, blob, created_at)"
                " SELECT id || ?, run_id, space_id, name, content_type, size_bytes, blob, created_at"
                " FROM artifacts WHERE space_id = ? ORDER BY rowid LIMIT 1",
                (str(number), A),
            )

    await bench.database.write(many)
    await bench.artifacts.delete_space(A)
    left = bench.database.read("SELECT id FROM artifacts")
    assert [row["id"] for row in left] == [stays]
    assert bench.database.read("SELECT 1 FROM namespaces WHERE name = ?", (f"runs.{A}",)) == []
    assert (await bench.answer("run.read_artifact", OPERATOR, artifact=stays))["content"] == "stays"
