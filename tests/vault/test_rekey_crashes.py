"""A master key is changed, and everything ends at one instant of it: stage, commit, settle (threat V16)."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio
import pytest

from mcp_spaces.core.facts import SecretUse
from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import SpacesError, WrongState
from mcp_spaces.state.transaction import Transaction
from mcp_spaces.vault.given_keys import Given
from mcp_spaces.vault.master_key import MasterKeys, Staged
from mcp_spaces.vault.master_record import MasterRecord, Source
from tests.browser.rigs import eventually
from tests.vault.rig import EVERYTHING, MemoryKeyring, Rig, Time, open_rig

GIVEN = Given(passphrase="twelve is enough", next_passphrase="another long phrase")
SOURCES = (Source.FILE, Source.KEYRING, Source.PASSPHRASE)


class Killed(BaseException):
    """Nothing in this process goes on: what is on the disk and in the keyring is all that is left."""


class EndsBeforeTheCommit(MasterKeys):
    def stage(self, source: Source, *, before: MasterRecord | None) -> Staged:
        super().stage(source, before=before)
        raise Killed


class EndsBeforeSettling(MasterKeys):
    settled = 0

    def settle(self, record: MasterRecord) -> MasterRecord:
        # The first is that of the opening, the second that of the key which is to be replaced.
        self.settled += 1
        if self.settled == 3:
            raise Killed
        return super().settle(record)


class EndsAfterSettling(MasterKeys):
    settled = 0

    def settle(self, record: MasterRecord) -> MasterRecord:
        self.settled += 1
        done = super().settle(record)
        if self.settled == 3:
            raise Killed
        return done


async def read(rig: Rig) -> str:
    opened = await rig.vault.open("prod/x", scope=EVERYTHING, purpose=SecretUse.RAW_READ, run_id="run_test")
    value = opened.field()
    assert value is not None
    return value.reveal()


@pytest.mark.parametrize("before", SOURCES)
@pytest.mark.parametrize("after", SOURCES)
@pytest.mark.parametrize("ends", [EndsBeforeTheCommit, EndsBeforeSettling, EndsAfterSettling])
async def test_v16_whatever_instant_of_a_rekey_is_the_last_one_key_opens_the_vault(
    tmp_path: Path, ends: Callable[..., MasterKeys], before: Source, after: Source
) -> None:
    keyring = MemoryKeyring()
    async with open_rig(tmp_path, source=before, given=GIVEN, keyring=keyring) as rig:
        await rig.put("prod/x", value="canary value")
    old = kept_keys(tmp_path, keyring)
    async with open_rig(tmp_path, given=GIVEN, keyring=keyring, make=ends) as rig:
        await read(rig)
        with pytest.raises(Killed):
            await rig.vault.keys.rekey(after, run_id="run_test")
    async with open_rig(tmp_path, given=GIVEN, keyring=keyring) as rig:
        assert await read(rig) == "canary value"
    committed = ends is not EndsBeforeTheCommit
    if committed:
        now = kept_keys(tmp_path, keyring)
        assert set(old).isdisjoint(now)
        assert len(now) == (0 if after is Source.PASSPHRASE else 1)
    # And once more, over whatever the first try left.
    changed = Given(passphrase=GIVEN.next_passphrase, next_passphrase="a third long phrase")
    given = changed if committed and after is Source.PASSPHRASE else GIVEN
    async with open_rig(tmp_path, given=given, keyring=keyring) as rig:
        await rig.vault.keys.rekey(after, run_id="run_test")
    given = replace(given, passphrase=given.next_passphrase)
    async with open_rig(tmp_path, given=given, keyring=keyring) as rig:
        assert await read(rig) == "canary value"
    assert len(kept_keys(tmp_path, keyring)) == (0 if after is Source.PASSPHRASE else 1)


def kept_keys(folder: Path, keyring: MemoryKeyring) -> list[str]:
    """Those in files and in the keyring, under whatever name."""
    return [*(file.read_text().strip() for file in folder.glob("master.key*")), *keyring.kept.values()]


async def test_v16_a_file_that_cannot_be_put_in_its_place_is_never_written_over(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/x", value="canary value")
        in_the_way = tmp_path / "master.key"
        in_the_way.unlink()
        in_the_way.mkdir()
        with pytest.raises(WrongState, match="not in its place yet"):
            await rig.vault.keys.rekey(None, run_id="run_test")
        key = tmp_path / "master.key.next"
        counts = key.read_text()
        for _ in range(2):
            with pytest.raises(WrongState, match="cannot be put into"):
                await rig.vault.keys.rekey(None, run_id="run_test")
        assert key.read_text() == counts
        assert await read(rig) == "canary value"
    in_the_way.rmdir()
    async with open_rig(tmp_path) as rig:
        assert await read(rig) == "canary value"
    assert in_the_way.read_text() == counts


async def test_v16_a_keyring_that_refuses_the_last_step_is_never_written_over(tmp_path: Path) -> None:
    keyring = MemoryKeyring()
    async with open_rig(tmp_path, source=Source.KEYRING, keyring=keyring) as rig:
        await rig.put("prod/x", value="canary value")
        keyring.refused = "in_test"
        with pytest.raises(WrongState, match="not in its place yet"):
            await rig.vault.keys.rekey(None, run_id="run_test")
        staged = keyring.kept["mcp-spaces", "in_test.next"]
        with pytest.raises(WrongState, match="keyring refused"):
            await rig.vault.keys.rekey(None, run_id="run_test")
        assert keyring.kept["mcp-spaces", "in_test.next"] == staged
    async with open_rig(tmp_path, keyring=keyring) as rig:
        # Opened all the same: the key is there, only not in its place.
        assert await read(rig) == "canary value"
    keyring.refused = None
    async with open_rig(tmp_path, keyring=keyring) as rig:
        assert await read(rig) == "canary value"
    assert keyring.kept == {("mcp-spaces", "in_test"): staged}


async def test_a_vault_leaves_a_keyring_that_is_gone_while_it_is_still_open(tmp_path: Path) -> None:
    keyring = MemoryKeyring()
    async with open_rig(tmp_path, source=Source.KEYRING, keyring=keyring) as rig:
        await rig.put("prod/x", value="canary value")
        keyring.locked = True
        await rig.vault.keys.rekey(Source.FILE, run_id="run_test")
    async with open_rig(tmp_path, keyring=keyring) as rig:
        assert await read(rig) == "canary value"
        assert keyring.kept
    keyring.locked = False
    async with open_rig(tmp_path, keyring=keyring) as rig:
        assert await read(rig) == "canary value"
    assert keyring.kept == {}


async def test_every_former_key_goes_once_the_keyring_that_held_them_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keyring = MemoryKeyring()
    async with open_rig(tmp_path, source=Source.KEYRING, keyring=keyring) as rig:
        await rig.put("prod/x", value="canary value")
        keyring.refused = "in_test"
        with pytest.raises(WrongState, match="not in its place yet"):
            await rig.vault.keys.rekey(None, run_id="run_test")
        keyring.locked = True
        for _ in range(2):
            await rig.vault.keys.rekey(Source.FILE, run_id="run_test")
        former = list(keyring.kept.values())
        assert len(former) == 2 and "is still in the OS keyring" in caplog.text
    keyring.locked = False
    async with open_rig(tmp_path, keyring=keyring) as rig:
        assert await read(rig) == "canary value"
        await rig.vault.keys.rekey(None, run_id="run_test")
    assert keyring.kept == {}
    assert not [one for one in former if one in caplog.text]


@dataclass
class Impatient(Time):
    """Takes the call back while its change is being written."""

    caller: anyio.CancelScope | None = None

    @property
    def clock(self) -> Clock:
        loop = asyncio.get_running_loop()

        def now() -> float:
            if self.caller is not None and threading.current_thread() is not threading.main_thread():
                loop.call_soon_threadsafe(self.caller.cancel)
            return self.now

        return Clock(now=now)


@pytest.mark.parametrize("change", ["rotate", "rekey", "put", "first put"])
async def test_v16_a_change_that_nobody_waits_for_is_made_all_the_same(tmp_path: Path, change: str) -> None:
    time = Impatient()
    async with open_rig(tmp_path, time=time) as rig:
        if change != "first put":
            await rig.put("prod/x", value="another value")
        with anyio.CancelScope() as caller:
            time.caller = caller
            if change == "rotate":
                await rig.vault.keys.rotate(run_id="run_test")
            elif change == "rekey":
                await rig.vault.keys.rekey(None, run_id="run_test")
            else:
                await rig.put("prod/x", value="another value")
        time.caller = None
        assert caller.cancel_called
        if change != "first put":
            assert await read(rig) == "another value"
        await rig.put("prod/x", value="canary value")
        assert not (tmp_path / "master.key.next").exists()
        await rig.vault.keys.rekey(None, run_id="run_test")
    async with open_rig(tmp_path) as rig:
        assert await read(rig) == "canary value"


@pytest.mark.parametrize(("before", "after"), [(Source.FILE, Source.KEYRING), (Source.KEYRING, Source.FILE)])
async def test_what_is_another_key_by_now_is_left(tmp_path: Path, before: Source, after: Source) -> None:
    """Somebody puts back the key of an older database, while this one still remembers one to be removed."""
    keyring, other = MemoryKeyring(), "ab" * 32
    async with open_rig(tmp_path, source=before, keyring=keyring) as rig:
        await rig.put("prod/x", value="canary value")
    async with open_rig(tmp_path, keyring=keyring, make=EndsBeforeSettling) as rig:
        await read(rig)
        with pytest.raises(Killed):
            await rig.vault.keys.rekey(after, run_id="run_test")
    if before is Source.FILE:
        (tmp_path / "master.key").write_text(other)
    else:
        keyring.kept["mcp-spaces", "in_test"] = other
    async with open_rig(tmp_path, keyring=keyring) as rig:
        assert await read(rig) == "canary value"
    assert other in kept_keys(tmp_path, keyring)


async def test_v16_a_vault_that_was_changed_on_the_disk_loses_no_key(tmp_path: Path) -> None:
    """The one of before opens the backup that has to come back."""
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/x", value="canary value")
    async with open_rig(tmp_path, make=EndsBeforeSettling) as rig:
        await read(rig)
        with pytest.raises(Killed):
            await rig.vault.keys.rekey(None, run_id="run_test")
        await rig.database.write(lambda tx: tx.execute("UPDATE vault_entries SET mac = zeroblob(32)"))
    keys = kept_keys(tmp_path, MemoryKeyring())
    async with open_rig(tmp_path) as rig:
        with pytest.raises(WrongState, match="damaged or changed"):
            await read(rig)
    assert len(keys) == 2 and kept_keys(tmp_path, MemoryKeyring()) == keys


async def test_a_key_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/x", value="canary value")
        for _ in range(2):
            await rig.vault.keys.rekey(None, run_id="run_test")
            (row,) = rig.database.read("SELECT body FROM vault_master")
            assert MasterRecord.model_validate_json(row["body"]).previous is None


class OpensSlowly(MasterKeys):
    opening = threading.Event()
    goes_on = threading.Event()

    def settle(self, record: MasterRecord) -> MasterRecord:
        if not self.opening.is_set():
            self.opening.set()
            self.goes_on.wait()
        return super().settle(record)


async def test_what_is_stored_while_the_vault_is_opened_for_another_is_in_its_list(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/x", value="canary value")
    async with open_rig(tmp_path, make=OpensSlowly) as rig:
        stored = anyio.Event()

        async def look() -> None:
            await rig.vault.entries(scope=EVERYTHING)

        async def store() -> None:
            await rig.put("prod/y", value="another value")
            stored.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await anyio.to_thread.run_sync(OpensSlowly.opening.wait)
            tasks.start_soon(store)
            # It waits for its turn; without one it would be through by itself.
            await eventually(lambda: stored.is_set() or rig.vault._unlocking._lock.statistics().tasks_waiting > 0)
            OpensSlowly.goes_on.set()
        assert [one.path for one in await rig.vault.entries(scope=EVERYTHING)] == ["prod/x", "prod/y"]


def fail_to_write(tx: Transaction) -> None:
    """As SQLite does at a disk that fails: the transaction is over."""
    tx.execute("ROLLBACK")
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
    raise error


@pytest.mark.parametrize("change", ["first put", "rekey"])
async def test_v16_no_key_is_staged_where_the_database_accepts_no_changes(tmp_path: Path, change: str) -> None:
    """It may have kept the last change, which it said it had not, and the key that was staged for that counts then."""
    async with open_rig(tmp_path) as rig:
        if change == "rekey":
            await rig.put("prod/x", value="canary value")
        before = kept_keys(tmp_path, MemoryKeyring())
        with pytest.raises(SpacesError):
            await rig.database.write(fail_to_write)
        changing = partial(rig.vault.keys.rekey, None, run_id="run_test")
        with pytest.raises(WrongState, match="accepts no changes"):
            await (changing() if change == "rekey" else rig.put("prod/x", value="canary value"))
        assert kept_keys(tmp_path, MemoryKeyring()) == before
