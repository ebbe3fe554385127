"""The vault's own keys are changed: a new data key under every box, a new master key over the data key."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
from anyio.to_thread import run_sync

from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import SpacesError, WrongState
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Transaction
from mcp_spaces.vault import store
from mcp_spaces.vault.cipher import DataKey, open_key, seal_key
from mcp_spaces.vault.master_key import MasterKeys
from mcp_spaces.vault.master_record import MasterRecord, Source
from mcp_spaces.vault.port import Again
from mcp_spaces.vault.store import Index
from mcp_spaces.vault.unlocking import Unlocking, no_vault


class Keys:
    """`on_rotation`: the rooms with boxes of their own, as port.Boxes says."""

    def __init__(
        self,
        unlocking: Unlocking,
        masters: MasterKeys,
        database: Database,
        clock: Clock,
        *,
        on_rotation: Sequence[Callable[[Transaction, Again], int]],
    ) -> None:
        self._unlocking = unlocking
        self._masters = masters
        self._database = database
        self._clock = clock
        self._on_rotation = on_rotation

    async def rotate(self, *, run_id: str) -> int:
        """A new data key, and every box again under it, in one transaction; returns how many boxes there are.

        Raises NotFound where there is no vault yet, WrongState.
        """
        async with self._unlocking.held(absent=no_vault) as unlocked:
            master = await run_sync(self._masters.load, unlocked.record)
            vault_id, old, fresh = unlocked.vault_id, unlocked.data_key, DataKey.new()

            def again(box: bytes, *, label: str) -> bytes:
                content = open_key(box, label=label, data_key=old, vault_id=vault_id)
                return seal_key(content, label=label, data_key=fresh, vault_id=vault_id)

            def change(tx: Transaction) -> tuple[Index, int]:
                store.put_key(tx, fresh, master=master, vault_id=vault_id, at=self._clock.now())
                index, boxes = store.reseal(tx, unlocked.index, old=old, new=fresh, vault_id=vault_id)
                boxes += sum(room(tx, again) for room in self._on_rotation)
                tx.execute("DELETE FROM vault_keys WHERE id <> ?", (fresh.id,))
                content = {"action": "rotate", "boxes": boxes}
                store.note(tx, index, at=self._clock.now(), run_id=run_id, content=content)
                return index, boxes

            with anyio.CancelScope(shield=True):
                index, boxes = await self._database.write(change)
                unlocked.index, unlocked.data_key = index, fresh
        await self._database.empty_log()
        return boxes

    async def rekey(self, source: Source | None, *, run_id: str) -> MasterRecord:
        """A new master key. The database says in one transaction which of the two counts (threat V16).

        Raises NotFound where there is no vault yet, WrongState.
        """
        async with self._unlocking.held(absent=no_vault) as unlocked:
            chosen = source or unlocked.record.source
            await self._unlocking.check_database()
            try:
                await self._unlocking.settle(unlocked)
            except WrongState:
                # The key that counts may be only the staged one, which staging another there would write over.
                if chosen is unlocked.record.source:
                    raise
            staged = await run_sync(lambda: self._masters.stage(chosen, before=unlocked.record))
            content = {"action": "rekey", "source": chosen}

            def change(tx: Transaction) -> None:
                self._unlocking.seal_under(tx, staged, unlocked)
                store.note(tx, unlocked.index, at=self._clock.now(), run_id=run_id, content=content)

            with anyio.CancelScope(shield=True):
                await self._database.write(change)
                unlocked.record = staged.record
                try:
                    await self._unlocking.settle(unlocked)
                except WrongState as problem:
                    raise WrongState(
                        f"The new master key counts, but is not in its place yet: {problem.message}",
                        hint="Mend that and restart the daemon; until then keep everything as it is. Nothing is lost.",
                    ) from None
        await self._database.empty_log()
        return staged.record

    def where(self, source: Source) -> str:
        return self._masters.where(source)

    def whereabouts(self) -> str | None:
        """Where the master key is; None where there is no vault. Does not open it."""
        row = store.read_keys(self._database)
        return None if row is None else self._masters.where(row.record.source)

    async def locked_by(self) -> str | None:
        """Why the master key that is found now opens nothing, for the operator alone; None: it opens, or there is no
        vault."""
        row = store.read_keys(self._database)
        if row is None:
            return None
        try:
            store.data_key_of(row, await run_sync(self._masters.load, row.record))
        except SpacesError as problem:
            return f"{problem.message} {problem.hint}"
        return None
