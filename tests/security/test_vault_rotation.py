"""A rotation of the vault's key does not make true what was changed on the disk (V10)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_spaces.core.facts import SecretUse
from mcp_spaces.errors import WrongState
from mcp_spaces.state.transaction import Transaction
from tests.vault.rig import EVERYTHING, Rig, open_rig


def _scribble_version(tx: Transaction) -> None:
    tx.execute("UPDATE vault_versions SET body = 'no JSON' WHERE path = 'prod/a'")


def _rebind_version(tx: Transaction) -> None:
    tx.execute("UPDATE vault_versions SET body = replace(body, 'https://a.example', 'https://b.example')")


def _renumber_version(tx: Transaction) -> None:
    tx.execute("UPDATE vault_versions SET version = 7 WHERE path = 'prod/b' AND version = 1")


def _other_key(tx: Transaction) -> None:
    (row,) = tx.all("SELECT master_id, wrapped FROM vault_keys")
    tx.execute("INSERT INTO vault_keys VALUES ('dk_other', ?, ?, 0)", (row["master_id"], row["wrapped"]))
    tx.execute("UPDATE vault_versions SET key_id = 'dk_other' WHERE path = 'prod/a'")


def _rebind_entry(tx: Transaction) -> None:
    """Both of it, as one who can write to the database, and has no key, would."""
    _rebind_version(tx)
    tx.execute("UPDATE vault_entries SET body = replace(body, 'https://a.example', 'https://b.example')")


def _rebind_entry_alone(tx: Transaction) -> None:
    tx.execute("UPDATE vault_entries SET body = replace(body, 'https://a.example', 'https://b.example')")


def _roll_back_entry(tx: Transaction) -> None:
    (row,) = tx.all("SELECT body FROM vault_versions WHERE path = 'prod/b' AND version = 1")
    tx.execute("UPDATE vault_entries SET version = 1, body = ? WHERE path = 'prod/b'", (row["body"],))


def _change_mac(tx: Transaction) -> None:
    tx.execute("UPDATE vault_entries SET mac = zeroblob(32) WHERE path = 'prod/a'")


def _remove_entry(tx: Transaction) -> None:
    tx.execute("DELETE FROM vault_entries WHERE path = 'prod/a'")


def _add_entry(tx: Transaction) -> None:
    (row,) = tx.all("SELECT body, mac FROM vault_entries WHERE path = 'prod/a'")
    body = json.dumps(json.loads(row["body"]) | {"path": "open/a"})
    tx.execute("INSERT INTO vault_entries VALUES ('open/a', 1, ?, ?)", (body, row["mac"]))


async def shown(rig: Rig, path: str) -> str:
    opened = await rig.vault.open(path, scope=EVERYTHING, purpose=SecretUse.RAW_READ, run_id="run_x")
    value = opened.field()
    assert value is not None
    return value.reveal()


@pytest.mark.parametrize(
    "change",
    [
        _scribble_version,
        _rebind_version,
        _renumber_version,
        _other_key,
        _rebind_entry,
        _rebind_entry_alone,
        _roll_back_entry,
        _change_mac,
        _remove_entry,
        _add_entry,
    ],
    ids=lambda one: one.__name__,
)
async def test_v10_what_was_changed_on_the_disk_is_not_sealed_anew(
    tmp_path: Path, change: Callable[[Transaction], None]
) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value="first value", origins=("https://a.example",))
        await rig.put("prod/b", value="old value")
        await rig.put("prod/b", value="second value")
        await rig.database.write(change)
        with pytest.raises(WrongState, match="damaged or changed"):
            await rig.vault.keys.rotate(run_id="run_x")
        # Nothing was sealed under a key that is not there, and what is in memory is still under the one that is.
        assert await shown(rig, "prod/b") == "second value"


async def test_v10_an_entry_of_before_is_not_sealed_anew_with_all_that_belonged_to_it(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value="first value", origins=("https://old.example",))
        (old,) = rig.database.read("SELECT version, body, mac FROM vault_entries")
        await rig.put("prod/a", value="second value", origins=("https://new.example",))
        await rig.database.write(
            lambda tx: tx.execute(
                "UPDATE vault_entries SET version = ?, body = ?, mac = ?", (old["version"], old["body"], old["mac"])
            )
        )
        with pytest.raises(WrongState, match="damaged or changed"):
            await rig.vault.keys.rotate(run_id="run_x")
        assert await shown(rig, "prod/a") == "second value"


async def test_v10_what_a_rotation_sealed_is_proven_as_before(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value="first value")
        await rig.put("prod/b", value="old value")
        await rig.put("prod/b", value="second value")
        assert await rig.vault.keys.rotate(run_id="run_x") == 3
        assert [await shown(rig, path) for path in ("prod/a", "prod/b")] == ["first value", "second value"]
        await rig.put("prod/c", value="third value")
    for _ in range(2):
        async with open_rig(tmp_path) as rig:
            values = [await shown(rig, path) for path in ("prod/a", "prod/b", "prod/c")]
            assert values == ["first value", "second value", "third value"]
            await rig.vault.keys.rotate(run_id="run_x")
