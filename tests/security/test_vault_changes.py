"""Secrets that change in the very moment in which they are asked for (T09)."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from mcp_spaces.core.facts import SecretUse
from mcp_spaces.errors import NotFound
from mcp_spaces.vault.model import Kind
from mcp_spaces.vault.wanted import amended
from tests.vault.rig import EVERYTHING, SEED_80_BITS, open_rig

PATH, ORIGIN = "prod/crm", "https://crm.example"


@pytest.mark.parametrize("asked", ["password", "code"])
@pytest.mark.parametrize("change", ["deleted", "bound elsewhere", "another in its place"])
async def test_t09_a_secret_that_is_taken_away_while_it_is_asked_for_is_not_given(
    tmp_path: Path, asked: str, change: str
) -> None:
    async with open_rig(tmp_path) as rig:

        async def store(password: str) -> None:
            await rig.put(PATH, kind=Kind.LOGIN, origins=(ORIGIN,), password=password, totp=SEED_80_BITS)

        await store("correct horse")

        async def take_away() -> None:
            if change != "bound elsewhere":
                await rig.vault.keeping.delete(PATH, run_id="run_test")
            else:
                metadata = {"origins": ("https://other.example",)}
                await rig.vault.keeping.amend(
                    PATH,
                    lambda before, fields: amended(before, fields, given={}, metadata=metadata, now=rig.time.now),
                    run_id="run_test",
                )

        async def ask() -> None:
            if asked == "code":
                await rig.vault.code(PATH, scope=EVERYTHING, run_id="run_test", origin=ORIGIN)
            else:
                purpose = SecretUse.GATEWAY_INJECT
                await rig.vault.open(PATH, scope=EVERYTHING, purpose=purpose, run_id="run_test", origin=ORIGIN)

        async def ask_in_vain() -> None:
            with pytest.raises(NotFound):
                await ask()

        # Who changes it holds the vault when the other one has found it, and judged where it may go.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take_away)
            if change == "another in its place":
                tasks.start_soon(store, "battery staple")
            tasks.start_soon(ask_in_vain)
