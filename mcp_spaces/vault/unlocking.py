"""The vault unlocked: its keys and its list, in memory from its first use on. One change at a time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import anyio
from anyio.to_thread import run_sync

from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.errors import NotFound, SpacesError, WrongState
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Transaction
from mcp_spaces.vault import store
from mcp_spaces.vault.cipher import DataKey, IndexSeal, open_secret
from mcp_spaces.vault.master_key import MasterKeys, Staged
from mcp_spaces.vault.master_record import MasterRecord
from mcp_spaces.vault.model import Entry, Purpose, SecretValue
from mcp_spaces.vault.store import Index

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class Unlocked:
    """What is in memory. Whoever changes a part of it holds the vault, and has written it to the database before."""

    vault_id: str
    record: MasterRecord
    data_key: DataKey
    index: Index

    @property
    def seal(self) -> IndexSeal:
        return IndexSeal(self.data_key)

    def current(self, entry: Entry) -> Entry:
        """The entry as it is now that the vault is held. Raises NotFound: deleted meanwhile, or another one."""
        now = self.index.entries.get(entry.path)
        if now is None or (now.id, now.bindings) != (entry.id, entry.bindings):
            raise no_such_secret()
        return now

    def fields(self, one: store.AskOne, entry: Entry, purpose: Purpose) -> Mapping[str, SecretValue]:
        """What the box of this version holds; `one` asks the database, or the transaction. Raises WrongState."""
        sealed = store.read_box(one, entry)
        return open_secret(sealed, entry=entry, data_key=self.data_key, vault_id=self.vault_id, purpose=purpose)


def no_such_secret() -> NotFound:
    return NotFound(
        "No such secret here.", hint="vault_list shows what may be used; vault_request_entry asks a person for one."
    )


def no_vault() -> NotFound:
    return NotFound("There is no vault yet.", hint="The first secret makes it: mcp-spaces vault set")


class Unlocking:
    """All methods raise WrongState where the vault cannot be opened, or was changed. `on_changed` as port.Secrets says."""

    def __init__(
        self, database: Database, masters: MasterKeys, clock: Clock, *, on_changed: Sequence[Callable[[], None]]
    ) -> None:
        self._database = database
        self._masters = masters
        self._clock = clock
        self._on_changed = on_changed
        self._lock = anyio.Lock()
        self._unlocked: Unlocked | None = None

    async def unlocked(self) -> Unlocked | None:
        """To look at. None where there is no vault yet."""
        if self._unlocked is None:
            async with self._lock:
                return await self._unlock()
        return self._unlocked

    @asynccontextmanager
    async def held(
        self, *, create: bool = False, absent: Callable[[], NotFound] = no_such_secret
    ) -> AsyncIterator[Unlocked]:
        """For as long as nobody else may change it. Raises `absent` where there is no vault yet, unless `create`."""
        async with self._lock:
            unlocked = await (self._created() if create else self._unlock())
            if unlocked is None:
                raise absent()
            yield unlocked

    async def change(self, change: Callable[[Transaction, Unlocked], tuple[Index, T]], *, create: bool = False) -> T:
        """One transaction, which gives the list as it is after it. Raises as `held` does, and what `change` raises."""
        async with self.held(create=create) as unlocked:
            # A change happens even when its caller gives up, and then memory has to follow.
            with anyio.CancelScope(shield=True):
                index, result = await self._database.write(lambda tx: change(tx, unlocked))
                unlocked.index = index
                for told in self._on_changed:
                    told()
            return result

    async def check_database(self) -> None:
        """Before a key is staged: one that accepts no changes may have kept the last, which it said it had not, and then
        the key that was staged for that is the one that counts. Raises WrongState."""
        await self._database.write(lambda _: None)

    async def settle(self, unlocked: Unlocked) -> None:
        """Raises WrongState: the key that counts is still only beside its place, where it is found."""
        settled = await run_sync(self._masters.settle, unlocked.record)
        if settled != unlocked.record:
            await self._database.write(lambda tx: store.put_master(tx, settled, vault_id=unlocked.vault_id))
            unlocked.record = settled

    def seal_under(self, tx: Transaction, staged: Staged, unlocked: Unlocked) -> None:
        """From this transaction on the staged master key is the one that counts."""
        at = self._clock.now()
        store.put_master(tx, staged.record, vault_id=unlocked.vault_id)
        store.put_key(tx, unlocked.data_key, master=staged.master, vault_id=unlocked.vault_id, at=at)

    async def _unlock(self) -> Unlocked | None:
        """None where there is no vault yet. The lock is held."""
        if self._unlocked is None:
            row = store.read_keys(self._database)
            if row is None:
                return None
            try:
                master = await run_sync(self._masters.load, row.record)
            except SpacesError as problem:
                raise _without_key("The vault is locked: its master key cannot be had.", problem) from None
            data_key = store.data_key_of(row, master)
            index = store.read_index(self._database, IndexSeal(data_key))
            unlocked = Unlocked(row.vault_id, row.record, data_key, index)
            try:
                await self.settle(unlocked)
            except SpacesError as problem:
                log.error("the vault's master key is not in its place yet: %s %s", problem.message, problem.hint)
            self._unlocked = unlocked
        return self._unlocked

    async def _created(self) -> Unlocked:
        unlocked = await self._unlock()
        if unlocked is not None:
            return unlocked
        await self.check_database()
        try:
            source = await run_sync(self._masters.choose)
            staged = await run_sync(lambda: self._masters.stage(source, before=None))
        except SpacesError as problem:
            raise _without_key(_NOT_KEPT, problem) from None
        fresh = Unlocked(new_id("va"), staged.record, DataKey.new(), Index())

        def change(tx: Transaction) -> None:
            self.seal_under(tx, staged, fresh)
            store.put_index(tx, fresh.index, fresh.seal)
            tx.append_audit(at=self._clock.now(), kind=store.AUDIT_KIND, run_id="", body='{"generation":0}')

        with anyio.CancelScope(shield=True):
            await self._database.write(change)
            try:
                await self.settle(fresh)
            except SpacesError as problem:
                raise _without_key(_NOT_KEPT, problem) from None
            self._unlocked = fresh
        return fresh


_NOT_KEPT = "The vault's master key cannot be kept."


def _without_key(message: str, problem: SpacesError) -> WrongState:
    """Where keys are kept is not every agent's business."""
    log.error("the vault's master key: %s %s", problem.message, problem.hint)
    told = WrongState(message, hint="The operator finds the reason with `mcp-spaces doctor`, or in the daemon's log.")
    told.for_operator = WrongState(f"{message} {problem.message}", hint=problem.hint)
    return told
