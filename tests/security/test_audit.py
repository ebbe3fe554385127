"""K12: the record against whoever can write to its file."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from mcp_spaces.errors import NotFound
from mcp_spaces.runs.audit import Audit, AuditReport
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.database import ANCHOR_NAME
from tests.storage.bench import AGENT_A, OPERATOR, SEALER, Bench, open_bench

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as opened:
        yield opened


@pytest.fixture
async def chain(tmp_path: Path) -> Path:
    """A closed database with twenty runs, so forty rows."""
    async with open_bench(tmp_path) as bench:
        for number in range(20):
            await bench.upload(f"f{number}")
    return tmp_path / "state.db"


def tamper(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


async def verified(path: Path) -> AuditReport:
    return await Audit(path, SEALER).verify()


async def test_k12_an_untouched_chain_is_intact(chain: Path) -> None:
    report = await verified(chain)
    assert (report.intact, report.rows, report.open_runs, report.finding) == (True, 40, 0, None)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET body = replace(body, 'succeeded', 'denied') WHERE seq = 12",
        "UPDATE audit SET at = at + 1 WHERE seq = 12",
        "UPDATE audit SET kind = 'intent' WHERE seq = 12",
        "UPDATE audit SET run_id = 'run_x' WHERE seq = 12",
        "UPDATE audit SET mac = zeroblob(32) WHERE seq = 12",
        "UPDATE audit SET mac = x'00' WHERE seq = 12",
    ],
)
async def test_k12_an_edited_row_is_found(chain: Path, change: str) -> None:
    tamper(chain, change)
    report = await verified(chain)
    assert (report.intact, report.finding, report.broken_seq) == (False, "edited", 12)


@pytest.mark.parametrize(
    "change",
    [
        "mac = 'text'",
        "mac = NULL",
        "kind = NULL",
        "run_id = 7",
        "body = x'00'",
        "at = 'noon'",
        "at = NULL",
        "seq = 'x'",
    ],
)
async def test_k12_a_table_that_was_replaced_by_one_that_takes_anything_is_told_and_not_tripped_over(
    chain: Path, change: str
) -> None:
    tamper(
        chain,
        "CREATE TABLE loose (seq, at, kind, run_id, body, mac)",
        "INSERT INTO loose SELECT seq, at, kind, run_id, body, mac FROM audit",
        "DROP TABLE audit",
        "ALTER TABLE loose RENAME TO audit",
        f"UPDATE audit SET {change} WHERE seq = 12",
    )
    report = await verified(chain)
    assert (report.intact, report.broken_seq) == (False, 12) and report.finding in ("edited", "missing", "unreadable")


async def test_k12_a_deleted_row_is_found_also_when_the_rest_is_renumbered(chain: Path) -> None:
    tamper(chain, "DELETE FROM audit WHERE seq = 12")
    report = await verified(chain)
    assert (report.finding, report.broken_seq) == ("missing", 12)
    tamper(chain, *(f"UPDATE audit SET seq = {seq - 1} WHERE seq = {seq}" for seq in range(13, 41)))
    report = await verified(chain)
    assert (report.finding, report.broken_seq) == ("edited", 12)


async def test_k12_reordered_rows_are_found(chain: Path) -> None:
    tamper(
        chain,
        "UPDATE audit SET seq = 1000 WHERE seq = 12",
        "UPDATE audit SET seq = 12 WHERE seq = 13",
        "UPDATE audit SET seq = 13 WHERE seq = 1000",
    )
    report = await verified(chain)
    assert (report.finding, report.broken_seq) == ("edited", 12)


@pytest.mark.parametrize("left", [39, 20, 1, 0])
async def test_k12_a_cut_tail_is_found_by_the_anchor(chain: Path, left: int) -> None:
    tamper(chain, f"DELETE FROM audit WHERE seq > {left}")
    for report in (await verified(chain), await Audit(chain, SEALER).verify_tail()):
        assert (report.intact, report.finding, report.broken_seq) == (False, "cut", left + 1)
        assert "40" in report.meaning


async def test_k12_an_added_row_is_found_without_the_key(chain: Path) -> None:
    tamper(chain, "INSERT INTO audit SELECT 41, at, kind, run_id, body, mac FROM audit WHERE seq = 40")
    assert ((await verified(chain)).finding, (await verified(chain)).broken_seq) == ("edited", 41)


async def test_k12_a_chain_written_anew_under_another_key_is_found(chain: Path) -> None:
    report = await Audit(chain, Sealer(b"x" * 32)).verify()
    assert (report.finding, report.broken_seq) == ("edited", 1)


async def test_k12_a_missing_or_damaged_anchor_is_said(chain: Path) -> None:
    anchor = chain.parent / ANCHOR_NAME
    for content in (b"", b"nonsense", b"\xff" * 86, b"1" * 85 + b"\n"):
        anchor.write_bytes(content)
        assert (await verified(chain)).finding == "anchor"
    anchor.unlink()
    assert (await verified(chain)).finding == "anchor"


async def test_k12_an_anchor_that_lags_after_a_kill_is_fine(chain: Path) -> None:
    for seq in (39, 38, 37):
        with closing(sqlite3.connect(chain)) as connection:
            mac = connection.execute("SELECT mac FROM audit WHERE seq = ?", (seq,)).fetchone()[0]
        (chain.parent / ANCHOR_NAME).write_text(f"{seq:020d} {mac.hex()}\n")
        assert (await verified(chain)).intact
        assert (await Audit(chain, SEALER).verify_tail(2)).intact
    (chain.parent / ANCHOR_NAME).write_text(f"{0:020d} {'00' * 32}\n")
    assert (await Audit(chain, SEALER).verify_tail(2)).intact
    (chain.parent / ANCHOR_NAME).write_text(f"{37:020d} {'00' * 32}\n")
    assert (await Audit(chain, SEALER).verify_tail(2)).finding == "anchor"


async def test_k12_where_nothing_was_recorded_no_anchor_is_missed(tmp_path: Path) -> None:
    async with open_bench(tmp_path):
        pass
    (tmp_path / ANCHOR_NAME).unlink()
    assert (await verified(tmp_path / "state.db")).intact


async def test_k12_an_outcome_without_its_intent_is_found(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        await bench.database.write(lambda tx: tx.append_audit(at=1.0, kind="outcome", run_id="run_x", body="{}"))
    report = await verified(tmp_path / "state.db")
    assert (report.finding, report.broken_seq) == ("unpaired", 1)


async def test_k12_the_tail_alone_finds_what_is_wrong_with_it(chain: Path) -> None:
    tamper(chain, "UPDATE audit SET body = '{}' WHERE seq = 38")
    assert (await Audit(chain, SEALER).verify_tail(10)).broken_seq == 38
    assert (await Audit(chain, SEALER).verify_tail(2)).intact


async def test_the_operator_verifies_a_chain_that_is_in_use(bench: Bench) -> None:
    await bench.upload("a")
    report = await bench.answer("audit.verify", OPERATOR)
    # Its own intent stands there already.
    assert report["intact"] and report["rows"] == 3 and report["open_runs"] == 1
    page = await bench.answer("audit.list", OPERATOR, limit=2)
    assert [row["kind"] for row in page["rows"]] == ["intent", "outcome"] and page["next_cursor"]
    rest = await bench.answer("audit.list", OPERATOR, cursor=page["next_cursor"])
    assert rest["rows"][0]["seq"] == page["rows"][-1]["seq"] - 1
    for operation in ("audit.verify", "audit.list", "state.backup", "state.describe"):
        with pytest.raises(NotFound):
            await bench.call(operation, AGENT_A)


async def test_k12_rows_that_were_edited_into_nonsense_can_still_be_listed(bench: Bench) -> None:
    await bench.upload("a")
    await bench.database.write(lambda tx: tx.execute("UPDATE audit SET body = 'no JSON' WHERE seq = 1"))
    page = await bench.answer("audit.list", OPERATOR)
    assert page["rows"][-1]["body"] == "no JSON"
    assert not (await bench.answer("audit.verify", OPERATOR))["intact"]
