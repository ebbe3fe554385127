"""The record against whoever can write to the files: K12 and K13 on the chain, K11 on rows that grant something."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from mcp_spaces.core.caller import Kind
from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.core.scope import Scope, covers
from mcp_spaces.errors import Conflict, NotFound, SpacesError, WrongState
from mcp_spaces.identity.model import Key, new_token
from mcp_spaces.identity.store import Identity
from mcp_spaces.runs.audit import Audit, AuditReport
from mcp_spaces.server.daemon import EXIT_REFUSED
from mcp_spaces.spaces.model import Space, SpaceRequest, SpaceState
from mcp_spaces.spaces.store import RuntimeStore, SpaceStore
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.database import ANCHOR_NAME, Database
from tests.security.app import ROOT, open_world, short_folder
from tests.storage.bench import AGENT_A, OPERATOR, SEALER, Bench, granted, open_bench

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


async def test_k13_an_older_copy_put_back_is_a_cut_tail(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with open_bench(tmp_path) as bench:
        await bench.upload("a")
    old = path.read_bytes()
    async with open_bench(tmp_path) as bench:
        await bench.upload("b")
    path.write_bytes(old)
    assert (await Audit(path, SEALER).verify_tail()).finding == "cut"


def command(*words: str, state: Path, ready_fd: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mcp_spaces", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=() if ready_fd is None else (ready_fd,),
        env={"PATH": os.environ["PATH"], "HOME": str(state.parent), "MCP_SPACES_STATE_DIR": str(state)},
    )


def accepted_once(state: Path) -> None:
    """`mcp-spaces serve --accept-rollback`, until it listens."""
    ready, tell = os.pipe()
    daemon = command("serve", "--accept-rollback", "--ready-fd", str(tell), state=state, ready_fd=tell)
    os.close(tell)
    assert os.read(ready, 1) == b"1", daemon.communicate(timeout=60)
    os.close(ready)
    daemon.terminate()
    daemon.communicate(timeout=60)
    assert daemon.returncode == 0


async def test_k13_no_daemon_starts_on_an_older_database_until_an_operator_takes_it() -> None:
    with short_folder() as folder:
        state = folder / "state"
        async with open_world(folder) as world:
            await world.space("first")
        old = (state / "state.db").read_bytes()
        async with open_world(folder) as world:
            await world.space("second")
        (state / "state.db").write_bytes(old)
        anchor = (state / ANCHOR_NAME).read_bytes()
        # What an MCP client spawns, and what a person runs: both say what to do, and leave the evidence.
        for words, code in ((["stdio"], 3), (["serve"], EXIT_REFUSED)):
            with command(*words, state=state) as process:
                _, told = process.communicate(timeout=90)
            assert process.returncode == code
            assert "The newest records are not the newest that there were" in told
            assert f"mcp-spaces serve --accept-rollback --state-dir {state}" in told
        assert (state / ANCHOR_NAME).read_bytes() == anchor
        assert (await Audit(state / "state.db", Sealer((state / "seal.key").read_bytes())).verify()).finding == "cut"
        await anyio.to_thread.run_sync(accepted_once, state)
        async with open_world(folder) as world:
            assert [one.name for one in (await world.govern("space.list")).spaces] == ["first"]
            assert (await world.govern("audit.verify")).intact
            row = world.row("SELECT body FROM audit WHERE kind = 'rollback_accepted'")
            assert row is not None
            assert json.loads(row["body"])["anchor"].startswith(f"{int(anchor[:20])}:")


@pytest.mark.parametrize("damage", ["gone", "empty", "damaged", "another row"])
async def test_k13_without_an_anchor_that_fits_no_daemon_starts(tmp_path: Path, damage: str) -> None:
    async with open_world(tmp_path) as world:
        await world.space("first")
    anchor = tmp_path / "state" / ANCHOR_NAME
    content = {"empty": "", "damaged": "nonsense", "another row": f"{2:020d} {'00' * 32}\n"}
    anchor.unlink()
    if damage in content:
        anchor.write_text(content[damage])
    for _ in range(2):
        with pytest.raises(WrongState, match="newest records"):
            async with open_world(tmp_path):
                pass
    async with open_world(tmp_path, accept_rollback=True):
        pass
    async with open_world(tmp_path) as world:
        assert world.count("SELECT count(*) FROM audit WHERE kind = 'rollback_accepted'") == 1


async def test_k13_an_anchor_that_lags_after_a_kill_and_a_new_directory_are_no_rollback(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.space("first")
        anchor = tmp_path / "state" / ANCHOR_NAME
        lagging = anchor.read_bytes()
        await world.space("second")
    anchor.write_bytes(lagging)
    async with open_world(tmp_path, accept_rollback=True) as world:
        assert world.count("SELECT count(*) FROM audit WHERE kind = 'rollback_accepted'") == 0


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


async def test_a_backup_holds_every_file_that_its_rows_name(bench: Bench, tmp_path: Path) -> None:
    for number in range(5):
        await bench.upload(f"f{number}", f"content {number}")
    target = tmp_path / "copies" / "state.db"
    target.parent.mkdir()
    made = await bench.answer("state.backup", OPERATOR, path=str(target), include_files=True)
    assert made["files_bytes"] == 45 and any("seal.key" in text for text in made["keep_as_well"])
    with closing(sqlite3.connect(target)) as connection:
        for tree, blob in connection.execute("SELECT namespace, blob FROM files"):
            assert (Path(made["files_path"]) / tree / blob[:2] / blob).stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict):
        await bench.call("state.backup", OPERATOR, path=str(target))
    without = await bench.answer("state.backup", OPERATOR, path=str(target) + "2")
    assert any("blobs" in text for text in without["keep_as_well"])


@dataclass
class Grants:
    """A closed database with principals, keys and spaces, and what they grant."""

    path: Path
    token: str
    scope: Scope
    space_id: str
    ceiling: Scope


@pytest.fixture
async def grants(tmp_path: Path) -> Grants:
    database = Database.open(tmp_path / "state.db", sealer=SEALER)
    clock = Clock()
    identity, spaces = Identity(database, clock), SpaceStore(database, RuntimeStore(database))
    await identity.ensure_defaults()
    scope = granted(own="ro", exports="ro:reports")
    principal = await identity.add("ci", kind=Kind.AGENT, scope=scope, policy="restrictive")
    made, space_id = new_token(), new_id("sp")
    await identity.add_key(
        Key(
            id=made.key_id,
            principal_id=principal.id,
            label="ci",
            secret_sha256=made.secret_sha256,
            spaces=(space_id,),
            scope=scope,
            operator=False,
            created_at=0,
            expires_at=None,
        )
    )
    space = Space(
        id=space_id,
        owner_id=principal.id,
        state=SpaceState.RUNNING,
        requested=SpaceRequest(name="work"),
        ceiling=scope,
        version=1,
        created_at=0,
        expires_at=None,
    )
    await spaces.add(space, most=10)
    database.close()
    tamper(tmp_path / "state.db", "PRAGMA journal_mode = DELETE")
    return Grants(tmp_path / "state.db", made.token, scope, space_id, scope)


async def test_k11_no_flipped_byte_gives_a_wider_permission_or_a_crash(grants: Grants) -> None:
    """On the pages that hold a key or a space: each byte in use at the page's beginning, where it says what is where,
    and every third of its rows, each of which is under one seal as a whole; and the file's header."""
    original = grants.path.read_bytes()
    pages = _pages(original, holding=(b'"secret_sha256"', b'"owner_id"'))
    assert len(pages) >= len(original) / 4096 / 100
    offsets = list(range(100))
    for page in pages:
        used = [at for at in range(page, page + 4096) if any(original[max(page, at - 2) : at + 3])]
        offsets += used[:200] + used[200::3]
    refused = 0
    for offset in offsets:
        damaged = bytearray(original)
        damaged[offset] ^= 1 << (offset % 8)
        grants.path.write_bytes(damaged)
        refused += not _grants_the_same_or_less(grants)
    assert refused > len(offsets) // 2


def _pages(content: bytes, *, holding: tuple[bytes, ...]) -> list[int]:
    starts = range(4096, len(content), 4096)
    return [start for start in starts if any(mark in content[start : start + 4096] for mark in holding)]


def _grants_the_same_or_less(grants: Grants) -> bool:
    """False when the damage was noticed. Anything but an error of ours, or a wider grant, fails the test."""
    try:
        database = Database.open(grants.path, sealer=SEALER)
    except SpacesError:
        return False
    try:
        clock = Clock()
        identity, spaces = Identity(database, clock), SpaceStore(database, RuntimeStore(database))
        caller = identity.authenticate(grants.token)
        assert covers(grants.scope, caller.scope) and not caller.operator
        assert caller.spaces == frozenset({grants.space_id}) and caller.policy.name == "restrictive"
        place = spaces.space(caller, grants.space_id)
        assert place.id == grants.space_id and covers(grants.ceiling, place.ceiling)
    except SpacesError:
        return False
    finally:
        database.close()
    return True
