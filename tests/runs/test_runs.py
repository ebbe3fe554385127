"""What an agent does with the records of its calls."""

from __future__ import annotations

import base64
import io
import json
import os
import weakref
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from mcp_spaces.core.ids import new_id
from mcp_spaces.core.journal import shorten
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.errors import Cancelled, DiskFull, InvalidInput, NotFound, QuotaExceeded
from mcp_spaces.runs import operations
from mcp_spaces.runs.export import ExportedRun, write_zip
from mcp_spaces.runs.model import EventView
from mcp_spaces.runs.store import SCAN_MAX, Filters, about
from mcp_spaces.state.transaction import Transaction
from tests.folders import fill, small_disk
from tests.storage.bench import AGENT_A, AGENT_B, OPERATOR, PATIENCE_S, A, B, Bench, bound_to, open_bench

pytestmark = pytest.mark.anyio


async def keep(bench: Bench, run_id: str, content: bytes = b"out", space_id: str = A) -> str:
    path = bench.artifacts.spool()
    path.write_bytes(content)
    kept = await bench.artifacts.keep(
        run_id=run_id, space_id=space_id, name="stdout", content_type="text/plain", path=path
    )
    assert not path.exists()
    return kept.id


def add_runs(count: int, *, space_id: str, principal_id: str, operation: str = "bulk.add") -> list[tuple[object, ...]]:
    return [(new_id("run"), operation, principal_id, space_id, "succeeded", 1.0, 2.0, "{}", "{}") for _ in range(count)]


async def insert(bench: Bench, rows: list[tuple[object, ...]]) -> None:
    def change(tx: Transaction) -> None:
        for row in rows:
            tx.execute(
                "INSERT INTO runs (id, operation, principal_id, space_id, state, started_at, ended_at, input, outcome)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )

    await bench.database.write(change)


async def test_runs_are_listed_newest_first_page_by_page(bench: Bench) -> None:
    for number in range(7):
        await bench.upload(f"f{number}")
    seen: list[str] = []
    cursor = None
    while True:
        page = await bench.answer("run.list", operation="storage.upload", limit=3, cursor=cursor)
        seen += [run["id"] for run in page["runs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    rows = bench.database.read("SELECT id FROM runs WHERE operation = 'storage.upload' ORDER BY seq DESC")
    assert seen == [row["id"] for row in rows] and len(seen) == 7


async def test_a_list_of_one_holds_the_newest_run_besides_the_call_itself(bench: Bench) -> None:
    older = (await bench.call("storage.upload", path="a", content="x")).run_id
    newest = (await bench.call("storage.upload", path="b", content="x")).run_id
    page = await bench.answer("run.list", limit=1)
    assert [run["id"] for run in page["runs"]] == [newest]
    page = await bench.answer("run.list", limit=2, cursor=page["next_cursor"])
    assert [run["id"] for run in page["runs"]] == [older]


async def test_a_list_of_runs_says_what_each_was_called_with(bench: Bench) -> None:
    long = "folder/" * 20
    for path in ("reports/a.md", long + "b"):
        await bench.call("storage.upload", path=path, content="y" * 500)
    with suppress(NotFound):
        await bench.call("storage.read", path="absent")
    listed = (await bench.answer("run.list"))["runs"]
    assert [one["about"] for one in listed] == ["absent", long[:79] + "…", "reports/a.md"]
    # The caller's own id would be in every line.
    assert {one["principal"] for one in listed} == {None}
    # A text that is too long for the record stands there as its beginning.
    assert about({"cwd": ".", "command": shorten("make " * 300)}) == ("make " * 20)[:79] + "…"
    assert about({"path": "src", "pattern": "def "}) == "def "
    assert about({"limit": 5}) is None and about("no JSON") is None


async def test_a_run_tells_its_input_outcome_events_and_artifacts(bench: Bench) -> None:
    outcome = await bench.call("storage.upload", path="a", content="x" * 5000)
    for number in range(5):
        await bench.journal.emit(outcome.run_id, "output", {"number": number})
    artifact = await keep(bench, outcome.run_id)
    told = await bench.answer("run.get", run=outcome.run_id, events_limit=2)
    assert (told["operation"], told["state"], told["space"]) == ("storage.upload", "succeeded", A)
    assert told["input"]["content"]["characters"] == 5000
    assert told["outcome"]["path"] == "a" and told["decision"]["verdict"] == "allow"
    assert [event["body"]["number"] for event in told["events"]] == [0, 1]
    rest = await bench.answer("run.get", run=outcome.run_id, events_after=told["next_events"])
    assert [event["body"]["number"] for event in rest["events"]] == [2, 3, 4] and rest["next_events"] is None
    # They came with the first events.
    assert (rest["input"], rest["outcome"], rest["state"]) == (None, None, "succeeded")
    assert [one["id"] for one in told["artifacts"]] == [artifact]
    assert (await bench.answer("run.read_artifact", artifact=artifact))["content"] == "out"


async def test_child_runs_are_counted_and_listed_by_their_parent(bench: Bench) -> None:
    outcome = await bench.call("thing.compose")
    assert (await bench.answer("run.get", run=outcome.run_id))["children"] == 2
    page = await bench.answer("run.list", parent=outcome.run_id)
    assert [run["operation"] for run in page["runs"]] == ["storage.stat", "storage.upload"]
    assert {run["parent"] for run in page["runs"]} == {outcome.run_id}


async def test_waiting_ends_the_moment_the_run_does(bench: Bench) -> None:
    answers: list[dict[str, object]] = []

    async def wait(run_id: str) -> None:
        answers.append(await bench.answer("run.wait", run=run_id, timeout_s=30))

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.call, "thing.hang")
            await bench.gate.started.wait()
            (hanging,) = (await bench.answer("run.list", state="running", operation="thing.hang"))["runs"]
            for _ in range(5):
                tasks.start_soon(wait, hanging["id"])
            await anyio.wait_all_tasks_blocked()
            bench.gate.opened.set()
    assert [answer["state"] for answer in answers] == ["succeeded"] * 5
    assert bench.waiters._waiting == {}


async def test_waiting_for_what_has_ended_answers_at_once_and_time_over_is_no_error(bench: Bench) -> None:
    outcome = await bench.call("storage.upload", path="a", content="x")
    with anyio.fail_after(PATIENCE_S):
        assert (await bench.answer("run.wait", run=outcome.run_id))["state"] == "succeeded"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.call, "thing.hang")
            await bench.gate.started.wait()
            (hanging,) = (await bench.answer("run.list", state="running", operation="thing.hang"))["runs"]
            assert (await bench.answer("run.wait", run=hanging["id"], timeout_s=0.01))["state"] == "running"
            bench.gate.opened.set()
    assert bench.waiters._waiting == {}


async def test_a_cancelled_run_says_who_took_it_back(bench: Bench) -> None:
    caught: list[Cancelled] = []

    async def hang() -> None:
        try:
            await bench.call("thing.hang")
        except Cancelled as error:
            caught.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hang)
        await bench.gate.started.wait()
        (hanging,) = (await bench.answer("run.list", state="running", operation="thing.hang"))["runs"]
        with pytest.raises(NotFound):
            await bench.call("run.cancel", AGENT_B, run=hanging["id"])
        cancelled = await bench.answer("run.cancel", run=hanging["id"])
        assert cancelled["state"] == "cancelled"
        assert (await bench.answer("run.cancel", run=hanging["id"]))["state"] == "cancelled"
    assert "a cancelled it" in caught[0].message


async def test_an_exported_run_is_a_zip_of_records_and_files(bench: Bench) -> None:
    outcome = await bench.call("thing.compose")
    await bench.journal.emit(outcome.run_id, "note", {"text": "hello"})
    artifact = await keep(bench, outcome.run_id, b"\x00\x01" * 1_500_000)
    exported = await bench.answer("run.export", run=outcome.run_id)
    assert exported["runs"] == 3 and bench.temporary() == []
    raw = b""
    while True:
        piece = await bench.answer(
            "run.read_artifact", artifact=exported["artifact"]["id"], offset=len(raw), encoding="base64"
        )
        raw += base64.b64decode(piece["content"])
        if piece["next_offset"] is None:
            break
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        assert manifest["run"] == outcome.run_id and len(manifest["runs"]) == 3
        assert json.loads(archive.read(f"runs/{outcome.run_id}/run.json"))["operation"] == "thing.compose"
        assert json.loads(archive.read(f"runs/{outcome.run_id}/events.jsonl"))["body"] == {"text": "hello"}
        assert archive.read(f"runs/{outcome.run_id}/artifacts/{artifact}") == b"\x00\x01" * 1_500_000
        assert all(name == "manifest.json" or name.startswith("runs/run_") for name in archive.namelist())


async def test_an_export_of_a_run_whose_space_is_gone_is_kept_among_what_belongs_to_no_space(bench: Bench) -> None:
    outcome = await bench.call("thing.compose")
    assert bench.database.read_one("SELECT space_id FROM runs WHERE id = ?", (outcome.run_id,))["space_id"] == A  # type: ignore[index]
    del bench.spaces.ceilings[A]
    artifact = (await bench.answer("run.export", run=outcome.run_id))["artifact"]["id"]
    (row,) = bench.database.read("SELECT space_id FROM artifacts WHERE id = ?", (artifact,))
    assert row["space_id"] == ""
    assert (await bench.answer("run.read_artifact", artifact=artifact, encoding="base64"))["content"]


@pytest.mark.parametrize("large", ["a file", "its records"])
async def test_an_export_that_grows_too_large_is_refused_and_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, large: str
) -> None:
    monkeypatch.setattr("mcp_spaces.runs.export.ARTIFACT_BYTES_MAX", 8 << 10)
    outcome = await bench.call("thing.compose")
    await bench.answer("run.export", run=outcome.run_id)
    if large == "a file":
        await keep(bench, outcome.run_id, os.urandom(16 << 10))
    else:
        for _ in range(16):
            await bench.journal.emit(outcome.run_id, "note", {"text": os.urandom(512).hex()})
    with pytest.raises(QuotaExceeded) as refused:
        await bench.call("run.export", run=outcome.run_id)
    assert "run_read_artifact" in refused.value.hint
    assert bench.temporary() == []


async def test_an_export_for_which_the_disk_has_no_room_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "blobs") as disk:
        async with open_bench(tmp_path) as bench:
            outcome = await bench.call("run.list")
            fill(disk)
            with pytest.raises(DiskFull):
                await bench.call("run.export", run=outcome.run_id)
            assert bench.temporary() == []


async def test_of_the_runs_of_an_export_one_at_a_time_is_in_memory(bench: Bench) -> None:
    class Events(list[EventView]):
        """A list that can be watched."""

    outcome = await bench.call("thing.compose")
    view = bench.runs.view(bench.runs.row(AGENT_A, outcome.run_id))
    watched: list[weakref.ref[Events]] = []

    def runs() -> Iterator[ExportedRun]:
        for number in range(4):
            assert sum(one() is not None for one in watched) <= 1
            events = Events([EventView(cursor=1, at=view.started_at, type="note", body={})])
            watched.append(weakref.ref(events))
            yield ExportedRun(view.model_copy(update={"id": f"run_{number}"}), events, ())
            del events

    path = bench.artifacts.spool()
    assert len(await write_zip(runs(), artifacts=bench.artifacts, path=path)) == 4
    path.unlink()


async def test_t02_foreign_runs_and_artifacts_are_as_if_they_were_not(bench: Bench) -> None:
    theirs = await bench.call("storage.upload", AGENT_B, path="a", content="CANARY")
    artifact = await keep(bench, theirs.run_id, b"CANARY", space_id=B)
    for caller in (AGENT_A, bound_to(AGENT_A, A), bound_to(AGENT_B, A)):
        texts = set()
        for run in (theirs.run_id, new_id("run")):
            for operation in ("run.get", "run.wait", "run.cancel", "run.export"):
                with pytest.raises(NotFound) as caught:
                    await bench.call(operation, caller, run=run)
                texts.add((caught.value.message, caught.value.hint))
        assert len(texts) == 1
        texts = set()
        for one in (artifact, new_id("art")):
            with pytest.raises(NotFound) as caught:
                await bench.call("run.read_artifact", caller, artifact=one)
            texts.add((caught.value.message, caught.value.hint))
        assert len(texts) == 1
        page = await bench.answer("run.list", caller, limit=100)
        assert theirs.run_id not in {run["id"] for run in page["runs"]}
        assert all(run["space"] != B for run in page["runs"])
        with pytest.raises(NotFound):
            await bench.call("run.list", caller, space=B)
    assert (await bench.answer("run.get", OPERATOR, run=theirs.run_id))["space"] == B


async def test_a_run_outside_of_spaces_is_seen_by_its_principal_but_not_through_a_bound_key(bench: Bench) -> None:
    outcome = await bench.call("run.list")
    assert (await bench.answer("run.get", run=outcome.run_id))["space"] is None
    for caller in (AGENT_B, bound_to(AGENT_A, A)):
        with pytest.raises(NotFound):
            await bench.call("run.get", caller, run=outcome.run_id)


async def test_what_is_no_run_id_is_refused(bench: Bench) -> None:
    for wrong in ("x" * 65, "", "run_\0"):
        with pytest.raises((InvalidInput, NotFound)):
            await bench.call("run.get", run=wrong)


async def test_a_filter_that_matches_rarely_gives_short_pages_and_misses_nothing(bench: Bench) -> None:
    await insert(bench, add_runs(1, space_id=A, principal_id="pr_a", operation="rare.one"))
    await insert(bench, add_runs(SCAN_MAX + 500, space_id=A, principal_id="pr_x"))
    await insert(bench, add_runs(1, space_id=A, principal_id="pr_a", operation="rare.one"))
    found: list[int] = []
    before, pages = 1 << 62, 0
    while True:
        page = bench.runs.page(
            AGENT_A, space_id=None, filters=Filters(operation="rare.one"), before=before, limit=10, besides=""
        )
        found += [row["seq"] for row in page.rows]
        pages += 1
        if page.next_before is None:
            break
        before = page.next_before
    assert len(found) == len(set(found)) == 2 and pages <= 3


async def test_the_cost_of_a_list_does_not_grow_with_the_number_of_runs(bench: Bench) -> None:
    """Counted in steps of SQLite's machine: time is the machine's."""
    steps: list[int] = []
    for total in (1_000, 8_000):
        have = bench.database.read("SELECT count(*) AS n FROM runs")[0]["n"]
        await insert(bench, add_runs(total - have, space_id=A, principal_id="pr_a"))
        counted = [0]

        def step(counted: list[int] = counted) -> None:
            counted[0] += 1

        bench.database._reader.set_progress_handler(step, 1)
        bench.runs.page(AGENT_A, space_id=None, filters=Filters(), before=1 << 62, limit=20, besides="")
        bench.database._reader.set_progress_handler(None, 1)
        steps.append(counted[0])
    assert 0 < steps[1] < steps[0] * 1.2


@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=lambda operation: operation.id)
def test_every_operation_has_an_example_that_is_valid(operation: AnyOperation) -> None:
    operation.input.model_validate(operation.example)
