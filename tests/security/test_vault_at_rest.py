"""The vault on the disk: boxes, lists, what is left over, and the keys (V10–V16)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from mcp_spaces.core.facts import SecretUse
from mcp_spaces.core.redaction import encodings
from mcp_spaces.errors import WrongState
from mcp_spaces.vault.cipher import DataKey, IndexSeal, open_secret, seal_secret
from mcp_spaces.vault.given_keys import Given
from mcp_spaces.vault.master_record import Source
from mcp_spaces.vault.model import Bindings, Kind
from mcp_spaces.vault.passphrase import Stretching
from mcp_spaces.vault.wanted import wanted_entry
from tests.folders import content_of, files_below
from tests.security.app import open_world, short_folder
from tests.security.daemons import nursery
from tests.security.lines import line_to
from tests.security.vaults import CANARY
from tests.vault.rig import EVERYTHING, SEED_80_BITS, Rig, open_rig

ROOT = Path(__file__).resolve().parents[2]


def raw_files(folder: Path) -> bytes:
    return b"\n".join(map(content_of, files_below(folder)))


async def changed_while_stopped(folder: Path, change: Callable[[Any], None]) -> None:
    import sqlite3

    connection = sqlite3.connect(folder / "state.db")
    try:
        change(connection)
        connection.commit()
    finally:
        connection.close()


def _swap(connection: Any) -> None:
    a, b = (
        connection.execute("SELECT sealed FROM vault_versions WHERE path = ?", (path,)).fetchone()[0]
        for path in ("prod/a", "prod/b")
    )
    connection.execute("UPDATE vault_versions SET sealed = ? WHERE path = 'prod/a'", (b,))
    connection.execute("UPDATE vault_versions SET sealed = ? WHERE path = 'prod/b'", (a,))


def _roll_back_box(connection: Any) -> None:
    old = connection.execute("SELECT sealed FROM vault_versions WHERE path = 'prod/c' AND version = 1").fetchone()[0]
    connection.execute("UPDATE vault_versions SET sealed = ? WHERE path = 'prod/c' AND version = 2", (old,))


def _roll_back_row(connection: Any) -> None:
    body = connection.execute("SELECT body FROM vault_versions WHERE path = 'prod/c' AND version = 1").fetchone()[0]
    connection.execute("UPDATE vault_entries SET version = 1, body = ? WHERE path = 'prod/c'", (body,))


def _delete_row(connection: Any) -> None:
    connection.execute("DELETE FROM vault_entries WHERE path = 'prod/b'")


def _delete_box(connection: Any) -> None:
    connection.execute("DELETE FROM vault_versions WHERE path = 'prod/a'")


def _rebind(connection: Any) -> None:
    connection.execute("UPDATE vault_entries SET body = replace(body, 'https://a.example', 'https://b.example')")


def _rename(connection: Any) -> None:
    connection.execute("PRAGMA foreign_keys = OFF")
    for table in ("vault_entries", "vault_versions"):
        connection.execute(f"UPDATE {table} SET path = 'open/a', body = replace(body, 'prod/a', 'open/a')"
                           " WHERE path = 'prod/a'")  # fmt: skip


@pytest.mark.parametrize("change", [{"origins": ["https://evil.example"]}, {"kind": "api_key"}, {"version": 1}])
async def test_v10_a_version_that_was_changed_on_the_disk_is_not_restored(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    async with open_rig(tmp_path) as rig:
        for value in ("first value", "second value", "third value"):
            await rig.put("prod/a", value=value, origins=("https://a.example",))
        (row,) = rig.database.read("SELECT body FROM vault_versions WHERE version = 2")
        entry = json.loads(row["body"])
        entry |= {"bindings": {**entry["bindings"], **change}} if "origins" in change else change
        body = json.dumps(entry)
        await rig.database.write(lambda tx: tx.execute("UPDATE vault_versions SET body = ? WHERE version = 2", (body,)))
        with pytest.raises(WrongState, match="damaged or changed"):
            await rig.vault.keeping.restore("prod/a", 2, run_id="run_x")
        assert await shown(rig, "prod/a") == "third value"
        assert (await rig.vault.keeping.restore("prod/a", 1, run_id="run_x")).version == 4
        assert await shown(rig, "prod/a") == "first value"


def _scribble(connection: Any) -> None:
    connection.execute("UPDATE audit SET body = 'no JSON' WHERE kind = 'vault'")


def _scribble_key(connection: Any) -> None:
    connection.execute("UPDATE vault_keys SET wrapped = zeroblob(60)")


def _cut_key(connection: Any) -> None:
    connection.execute("UPDATE vault_keys SET wrapped = x'00'")


def _empty(connection: Any) -> None:
    connection.execute("UPDATE audit SET body = '[]' WHERE kind = 'vault'")


@pytest.mark.parametrize(
    "change",
    [
        _swap,
        _roll_back_box,
        _roll_back_row,
        _delete_row,
        _delete_box,
        _rebind,
        _rename,
        _scribble,
        _scribble_key,
        _cut_key,
        _empty,
    ],
    ids=lambda one: one.__name__,
)
async def test_v10_rows_that_were_swapped_rolled_back_or_removed_open_nothing(
    tmp_path: Path, change: Callable[[Any], None]
) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value="one" + CANARY, origins=("https://a.example",))
        await rig.put("prod/b", value="two" + CANARY)
        await rig.put("prod/c", value="old" + CANARY)
        await rig.put("prod/c", value="new" + CANARY)
    await changed_while_stopped(tmp_path, change)
    async with open_rig(tmp_path) as rig:
        with pytest.raises(WrongState, match="changed outside") as refused:
            await open_all(rig, "prod/a", "prod/c", "prod/b", "open/a")
        assert CANARY not in str(refused.value)


async def open_all(rig: Rig, *paths: str) -> None:
    for path in paths:
        await rig.vault.open(path, scope=EVERYTHING, purpose=SecretUse.RAW_READ, run_id="run_x")


@pytest.mark.parametrize("number", ["its own", "the newest"])
async def test_v10_an_older_copy_of_the_whole_vault_is_noticed(tmp_path: Path, number: str) -> None:
    """Every MAC in it is right; the audit log knows a newer list (threat K13)."""
    tables = ("vault_entries", "vault_versions", "vault_index")
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value="leaked" + CANARY)
        old = {table: [tuple(row) for row in rig.database.read(f"SELECT * FROM {table}")] for table in tables}
        await rig.put("prod/a", value="fresh" + CANARY)
        newest = rig.database.read("SELECT generation FROM vault_index")[0]["generation"]

    def restore(connection: Any) -> None:
        for table in tables:
            connection.execute(f"DELETE FROM {table}")
            for row in old[table]:
                connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        if number == "the newest":
            connection.execute("UPDATE vault_index SET generation = ?", (newest,))

    await changed_while_stopped(tmp_path, restore)
    async with open_rig(tmp_path) as rig:
        with pytest.raises(WrongState, match="changed outside"):
            await rig.vault.entries(scope=EVERYTHING)


async def test_v10_a_secret_that_is_set_again_after_its_deletion_is_another_one(tmp_path: Path) -> None:
    """Same path, same version: an old box must not fit."""
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value="old" + CANARY)
        old = rig.database.read("SELECT sealed FROM vault_versions")[0]["sealed"]
        await rig.vault.keeping.delete("prod/a", run_id="run_x")
        await rig.put("prod/a", value="new" + CANARY)
    await changed_while_stopped(tmp_path, lambda one: one.execute("UPDATE vault_versions SET sealed = ?", (old,)))
    async with open_rig(tmp_path) as rig:
        with pytest.raises(WrongState):
            await rig.vault.open("prod/a", scope=EVERYTHING, purpose=SecretUse.RAW_READ, run_id="run_x")


def test_v10_parts_of_an_entry_do_not_run_into_each_other() -> None:
    seal = IndexSeal(DataKey.new())
    assert seal.of_entry("prod/a", 12, "{}") != seal.of_entry("prod/a1", 2, "{}")


def test_v11_no_nonce_is_used_twice() -> None:
    wanted = wanted_entry("prod/a", Kind.VALUE, {"value": "x"}, label=None, bindings=Bindings(), now=0)
    key = DataKey.new()
    nonces = {seal_secret({"value": "x"}, entry=wanted.entry, data_key=key, vault_id="va")[:12] for _ in range(100_000)}
    assert len(nonces) == 100_000


def test_v11_every_part_of_what_a_box_belongs_to_counts() -> None:
    wanted = wanted_entry(
        "prod/a", Kind.VALUE, {"value": CANARY}, label=None, bindings=Bindings(origins=("https://a.example",)), now=0
    )
    key, entry = DataKey.new(), wanted.entry
    box = seal_secret(wanted.fields, entry=entry, data_key=key, vault_id="va_1")
    opened = open_secret(box, entry=entry, data_key=key, vault_id="va_1", purpose=SecretUse.RAW_READ)
    assert opened["value"].reveal() == CANARY
    others = [
        entry.model_copy(update=change)
        for change in (
            {"id": "vs_other"}, {"path": "prod/b"}, {"kind": Kind.API_KEY}, {"version": 2},
            {"bindings": Bindings(origins=("https://b.example",))}, {"bindings": Bindings()},
        )
    ]  # fmt: skip
    attempts = [(box, other, key, "va_1") for other in others]
    attempts += [(box, entry, key, "va_2"), (box, entry, DataKey(key.id, os.urandom(32)), "va_1")]
    attempts += [(box, entry, DataKey("dk_other", key.key), "va_1"), (box[:20], entry, key, "va_1")]
    attempts += [(box[:index] + bytes([box[index] ^ 1]) + box[index + 1 :], entry, key, "va_1") for index in range(40)]
    for sealed, other, data_key, vault_id in attempts:
        with pytest.raises(WrongState):
            open_secret(sealed, entry=other, data_key=data_key, vault_id=vault_id, purpose=SecretUse.RAW_READ)


async def test_v12_no_file_of_the_state_directory_holds_a_secret_in_any_form(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.govern("vault.set", path="prod/api", kind="login", password=CANARY, totp=SEED_80_BITS)
        await world.govern("vault.get", path="prod/api")
        await world.govern("vault.totp", path="prod/api")
        await world.govern("vault.update", path="prod/api", notes=CANARY)
        await world.govern("vault.rotate")
        found = raw_files(tmp_path / "state")
        forms = [form.encode() for secret in (CANARY, SEED_80_BITS) for form in encodings(secret)]
        forms += [CANARY.encode("utf-16-le"), CANARY.encode("latin-1")]
        assert [form for form in forms if form in found] == []


async def test_v13_what_was_deleted_is_in_no_file_not_even_sealed(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        for number in range(20):
            await rig.put(f"prod/other{number}", value=CANARY * 20)
        await rig.put("prod/a", value=CANARY * 50)
        box = bytes(rig.database.read("SELECT sealed FROM vault_versions WHERE path = 'prod/a'")[0]["sealed"])
        assert box[:200] in raw_files(tmp_path)
        await rig.vault.keeping.delete("prod/a", run_id="run_x")
        left = raw_files(tmp_path)
        assert [start for start in range(0, len(box) - 32, 32) if box[start : start + 32] in left] == []


async def test_v13_after_a_rotation_boxes_of_the_old_key_are_in_no_file(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value=CANARY)
        box, wrapped = (
            bytes(rig.database.read(f"SELECT {column} FROM {table}")[0][column])
            for table, column in (("vault_versions", "sealed"), ("vault_keys", "wrapped"))
        )
        assert await rig.vault.keys.rotate(run_id="run_x") == 1
        left = raw_files(tmp_path)
        assert box not in left
        assert wrapped not in left
        assert await shown(rig, "prod/a") == CANARY


async def test_v13_after_a_rekey_what_the_old_master_key_opens_is_in_no_file(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value=CANARY)
        wrapped = bytes(rig.database.read("SELECT wrapped FROM vault_keys")[0]["wrapped"])
        assert wrapped in raw_files(tmp_path)
        await rig.vault.keys.rekey(None, run_id="run_x")
        assert wrapped not in raw_files(tmp_path)
        assert await shown(rig, "prod/a") == CANARY


async def shown(rig: Rig, path: str) -> str:
    opened = await rig.vault.open(path, scope=EVERYTHING, purpose=SecretUse.RAW_READ, run_id="run_x")
    field = opened.field()
    assert field is not None
    return field.reveal()


V14 = """
import os, resource
from pathlib import Path
from mcp_spaces.server.private_process import keep_private
from mcp_spaces.vault.given_keys import taken_from
key = os.environ["MCP_SPACES_MASTER_KEY"]
assert key.encode() in Path("/proc/self/environ").read_bytes()
given = taken_from(os.environ)
assert given.key == key
assert "MCP_SPACES_MASTER_KEY" not in os.environ
assert key.encode() not in Path("/proc/self/environ").read_bytes()
assert key.encode() not in Path("/proc/self/cmdline").read_bytes()
keep_private()
import ctypes
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
print("clean", flush=True)
os.abort()
"""


def test_v14_the_master_key_is_in_no_environment_command_line_or_core(tmp_path: Path) -> None:
    environment = {**os.environ, "MCP_SPACES_MASTER_KEY": "5e" * 32, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", V14], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("clean\n", -6), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_v14_a_daemon_does_not_keep_in_its_environment_what_it_was_given_there() -> None:
    given = {
        "MCP_SPACES_MASTER_KEY": "5e" * 32, "MCP_SPACES_NEXT_MASTER_KEY": "6f" * 32,
        "MCP_SPACES_PASSPHRASE": "a phrase of mine", "MCP_SPACES_NEXT_PASSPHRASE": "the next phrase of mine",
    }  # fmt: skip
    with short_folder() as folder:
        kept = {"PATH": os.environ["PATH"], "HOME": str(folder), "MCP_SPACES_STATE_DIR": str(folder / "state")}
        ready, tell = os.pipe()
        command = [sys.executable, "-m", "mcp_spaces", "serve", "--ready-fd", str(tell)]
        with subprocess.Popen(command, cwd=ROOT, env={**kept, **given}, pass_fds=(tell,)) as daemon:
            os.close(tell)
            try:
                assert os.read(ready, 1) == b"1"
                shown = b"".join(Path(f"/proc/{daemon.pid}/{name}").read_bytes() for name in ("environ", "cmdline"))
            except PermissionError:
                # Nobody but root may look.
                shown = str(folder).encode()
            finally:
                os.close(ready)
                daemon.terminate()
        assert str(folder).encode() in shown
        assert [name for name, value in given.items() if value.encode() in shown] == []


def of_process(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


async def test_v14_a_daemon_writes_no_core() -> None:
    with short_folder() as folder:
        async with nursery() as daemons:
            pid = await daemons.running(folder / "state")
            assert re.search(r"Max core file size +0 +0 ", of_process(pid, "limits"))
            await daemons.stop(pid)


@pytest.mark.parametrize(
    "weaker", [{"memory_kib": 19 * 1024 - 1}, {"iterations": 1}, {"lanes": 0}, {"salt": "00" * 15}, {"salt": "zz" * 16}]
)
async def test_v15_weak_stretching_is_refused_wherever_it_comes_from(tmp_path: Path, weaker: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Stretching(**{"salt": "00" * 16, **weaker})
    phrase = Given(passphrase="long enough for this")
    async with open_rig(tmp_path, source=Source.PASSPHRASE, given=phrase) as rig:
        await rig.put("prod/a", value=CANARY)
        stored = json.loads(rig.database.read("SELECT body FROM vault_master")[0]["body"])
        assert stored["stretching"]["memory_kib"] == 64 * 1024
    stored["stretching"] |= weaker
    await changed_while_stopped(
        tmp_path, lambda one: one.execute("UPDATE vault_master SET body = ?", (json.dumps(stored),))
    )
    async with open_rig(tmp_path, source=None, given=phrase) as rig:
        with pytest.raises(WrongState):
            await rig.vault.entries(scope=EVERYTHING)


async def test_v16_a_kill_while_keys_change_leaves_every_secret_readable() -> None:
    """Twelve kills at random instants of `rekey` and `rotate`."""
    chance = Random(16)
    with short_folder() as folder:
        state = folder / "state"
        async with nursery() as daemons:
            pid = await daemons.running(state)
            async with line_to(state, operator=True) as line:
                for number in range(8):
                    said = await line.call("vault.set", path=f"prod/a{number}", kind="value", value=f"{CANARY}{number}")
                    assert said.code is None
            for round_number in range(12):
                operation = ("vault.rekey", "vault.rotate")[round_number % 2]
                async with anyio.create_task_group() as tasks:

                    async def change(operation: str = operation) -> None:
                        try:
                            async with line_to(state, operator=True) as line:
                                while True:
                                    await line.call(operation)
                        except Exception:
                            return

                    tasks.start_soon(change)
                    # The instant of the kill is what varies; nothing is waited for.
                    await anyio.sleep(0.02 + chance.random() * 0.05)
                    os.kill(pid, 9)
                await daemons.gone()
                pid = await daemons.running(state)
                async with line_to(state, operator=True) as line:
                    for number in (0, 7):
                        said = await line.call("vault.get", path=f"prod/a{number}")
                        assert said.content["value"] == f"{CANARY}{number}"
                assert not list(state.glob("master.key.*"))
            await daemons.stop(pid)
