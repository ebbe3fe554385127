"""What other rooms keep in boxes of the vault, while the vault is locked and while it gets another key."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync

from mcp_spaces.browser.store import BrowserStore
from mcp_spaces.errors import WrongState
from mcp_spaces.network.authorities import Authorities
from mcp_spaces.state.transaction import Transaction
from mcp_spaces.vault.master_record import Source
from mcp_spaces.vault.port import Again
from tests.vault.rig import MemoryKeyring, Rig, open_rig

PROFILE = {"cookies": [{"name": "session", "value": "abc"}], "origins": []}

Look = Callable[[], Awaitable[object]]


def add_space(tx: Transaction) -> None:
    tx.execute("INSERT INTO principals VALUES ('pr_one', 'one', '', x'')")
    tx.execute(
        "INSERT INTO spaces (id, name, owner_id, state, body, mac) VALUES ('sp_one', 'one', 'pr_one', '', '', x'')"
    )


async def of_a_profile(rig: Rig) -> Look:
    store = BrowserStore(rig.database, rig.vault, rig.time.clock)
    if not store.profiles("sp_one"):
        await rig.database.write(add_space)
        await store.keep_profile("sp_one", "work", PROFILE)

    async def look() -> object:
        return await store.profile("sp_one", "work")

    return look


async def of_an_authority(rig: Rig) -> Look:
    async def look() -> object:
        # Not the one that is known since it was made.
        return (await Authorities(rig.database, rig.vault, rig.time.clock).of("sp_one")).certificate

    if not rig.database.read("SELECT 1 FROM space_authorities"):
        await rig.database.write(add_space)
        await look()
    return look


@pytest.fixture(params=[of_a_profile, of_an_authority])
def looking(request: pytest.FixtureRequest) -> Callable[[Rig], Awaitable[Look]]:
    of: Any = request.param
    return of  # type: ignore[no-any-return]


async def test_a_vault_that_is_locked_makes_nobody_begin_anew(
    tmp_path: Path, looking: Callable[[Rig], Awaitable[Look]]
) -> None:
    """Once it is open again, that would be put over what is there."""
    keyring = MemoryKeyring()
    async with open_rig(tmp_path, source=Source.KEYRING, keyring=keyring) as rig:
        before = await (await looking(rig))()
    keyring.locked = True
    async with open_rig(tmp_path, keyring=keyring) as rig:
        look = await looking(rig)
        with pytest.raises(WrongState, match="vault is locked"):
            await look()
        keyring.locked = False
        assert await look() == before


async def test_what_is_looked_at_while_a_rotation_is_under_way_opens(
    tmp_path: Path, looking: Callable[[Rig], Awaitable[Look]]
) -> None:
    sealing, go_on = threading.Event(), threading.Event()

    def slowly(_: Transaction, __: Again) -> int:
        sealing.set()
        go_on.wait()
        return 0

    async with open_rig(tmp_path) as rig:
        look = await looking(rig)
        before, found = await look(), []
        rig.vault.on_rotation.append(slowly)

        async def look_meanwhile() -> None:
            found.append(await look())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: rig.vault.keys.rotate(run_id="run_test"))
            await run_sync(sealing.wait)
            tasks.start_soon(look_meanwhile)
            await anyio.wait_all_tasks_blocked()
            go_on.set()
        assert found == [before]
