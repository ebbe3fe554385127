"""What is kept of a secret beside its value: when it was first stored, its uses, its place in the audit log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_spaces.errors import Conflict, QuotaExceeded, WrongState
from mcp_spaces.vault import keeping
from mcp_spaces.vault.store import AUDIT_KIND
from tests.security.app import open_world
from tests.vault.rig import Rig, Time, open_rig


def changes_of(rig: Rig, path: str) -> list[dict[str, object]]:
    """What the audit log says of a path but for its uses, from the first change on."""
    rows = rig.database.read("SELECT body FROM audit WHERE kind = ? ORDER BY seq", (AUDIT_KIND,))
    bodies = [json.loads(row["body"]) for row in rows]
    return [body for body in bodies if body.get("path") == path and body["action"] != "use"]


async def test_a_next_version_is_as_old_as_the_first(tmp_path: Path) -> None:
    time = Time()
    async with open_rig(tmp_path, time=time) as rig:
        first = await rig.put("prod/a", value="first")
        time.now += 100
        second = await rig.put("prod/a", value="second")
    assert (second.id, second.created_at, second.updated_at) == (first.id, first.created_at, first.created_at + 100)


async def test_a_secret_that_is_made_again_was_never_used(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.login("prod/a")
        await rig.login("prod/b")
        await rig.code("prod/a")
        await rig.code("prod/b")
        await rig.vault.keeping.delete("prod/a", run_id="run_test")
        await rig.login("prod/a")
        assert await rig.vault.last_use("prod/a") is None
        assert await rig.vault.last_use("prod/b") is not None


async def test_a_delete_stands_in_the_audit_log(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value="x")
        await rig.vault.keeping.delete("prod/a", run_id="run_test")
        assert [body["action"] for body in changes_of(rig, "prod/a")] == ["set", "delete"]


async def test_a_seed_that_is_restored_begins_anew_and_that_stands_in_the_audit_log(tmp_path: Path) -> None:
    time = Time()
    async with open_rig(tmp_path, time=time) as rig:
        await rig.login("prod/a")
        await rig.put("prod/b", value="x")
        await rig.code("prod/a")
        for path in ("prod/a", "prod/b"):
            await rig.vault.keeping.restore(path, 1, run_id="run_test")
        # The clock is right, somebody says who sets a seed: whatever code was given before, this one is of now.
        await rig.code("prod/a")
        assert time.waited == []
        assert changes_of(rig, "prod/a")[-1].get("codes") == "begin anew"
        assert "codes" not in changes_of(rig, "prod/b")[-1]


async def test_a_vault_may_be_full_to_the_last_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "ENTRIES_MAX", 2)
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value="x")
        await rig.put("prod/b", value="x")
        await rig.put("prod/b", value="changed")
        with pytest.raises(QuotaExceeded):
            await rig.put("prod/c", value="x")


async def test_an_import_replaces_no_secret(tmp_path: Path) -> None:
    export = tmp_path / "export.csv"
    async with open_world(tmp_path) as world:
        export.write_text("title,username,password\nmail,ann,first password\n")
        (path,) = (await world.govern("vault.import", file=str(export), prefix="moved")).paths
        export.write_text("title,username,password\nmail,ann,second password\nnews,ann,third password\n")
        with pytest.raises(Conflict, match=path):
            await world.govern("vault.import", file=str(export), prefix="moved")
        assert [entry.path for entry in (await world.govern("vault.list")).secrets] == [path]
        assert (await world.govern("vault.describe", path=path)).version == 1


async def test_v10_a_version_of_a_secret_that_was_deleted_is_not_restored_into_its_namesake(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value="what was deleted")
        (old,) = rig.database.read("SELECT * FROM vault_versions WHERE path = 'prod/a'")
        await rig.vault.keeping.delete("prod/a", run_id="run_test")
        for value in ("first", "second"):
            await rig.put("prod/a", value=value)
        columns = ", ".join(f"{name} = ?" for name in old.keys())  # noqa: SIM118 - a row is no mapping
        await rig.database.write(
            lambda tx: tx.execute(f"UPDATE vault_versions SET {columns} WHERE version = 1", tuple(old))
        )
        with pytest.raises(WrongState, match="damaged or changed"):
            await rig.vault.keeping.restore("prod/a", 1, run_id="run_test")
