"""Where the vault's master key is, and why it cannot be had, is the operator's alone to know."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_spaces.errors import WrongState
from tests.security.app import open_world
from tests.security.vaults import mounted, world_with


async def test_only_the_operator_is_told_of_the_file_that_keeps_the_vault_locked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(tmp_path) as world:
        await world_with(world, prod__crm="a-secret-value")
        space = await mounted(world, allow=["prod"])
    key = world.database.path.parent / "master.key"
    key.chmod(0o644)
    async with open_world(tmp_path) as world:
        with pytest.raises(WrongState) as agents:
            await world.call("vault.list", space=space)
        runs = await world.call("run.list", space=space)
        with pytest.raises(WrongState) as operators:
            await world.govern("vault.list")
    assert agents.value.message == "The vault is locked: its master key cannot be had."
    assert str(tmp_path) not in f"{agents.value.hint} {runs}"
    assert f"{key} is not a file that only this user can read." in operators.value.message
    assert operators.value.hint.startswith(f"Run: chmod 600 {key}")
    assert f"{key} is not a file" in caplog.text


async def test_only_the_operator_is_told_of_the_file_that_no_vault_can_be_made_with(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        (world.database.path.parent / "master.key.next").mkdir()
        with pytest.raises(WrongState) as refused:
            await world.govern("vault.set", path="prod/api", kind="value", value="a-secret-value")
    assert refused.value.message.startswith("The vault's master key cannot be kept. /")
    assert "master.key.next cannot be written: Is a directory." in refused.value.message
