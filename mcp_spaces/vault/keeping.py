"""Secrets are kept: stored, changed, restored and deleted, each change as a whole and in the audit log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import Conflict, NotFound, QuotaExceeded
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Transaction
from mcp_spaces.vault import store
from mcp_spaces.vault.cipher import damaged, seal_secret
from mcp_spaces.vault.model import ENTRIES_MAX, SEED, Entry, Upkeep
from mcp_spaces.vault.store import Index
from mcp_spaces.vault.unlocking import Unlocked, Unlocking, no_such_secret
from mcp_spaces.vault.uses import Uses
from mcp_spaces.vault.wanted import Wanted


class Keeping:
    """Raises also WrongState, everywhere: the vault cannot be opened, or was changed."""

    def __init__(self, unlocking: Unlocking, uses: Uses, database: Database, clock: Clock) -> None:
        self._unlocking = unlocking
        self._uses = uses
        self._database = database
        self._clock = clock

    async def put(self, wanted: Sequence[Wanted], *, run_id: str, action: str, new_only: bool = False) -> list[Entry]:
        """Store secrets, each as the next version of its path; all of them or none.

        Raises Conflict where `new_only` and a path is taken, QuotaExceeded.
        """

        def change(tx: Transaction, unlocked: Unlocked) -> tuple[Index, list[Entry]]:
            return self._stored(tx, unlocked, wanted, run_id=run_id, action=action, new_only=new_only)

        return await self._unlocking.change(change, create=True)

    async def amend(
        self,
        path: str,
        amended: Callable[[Entry, dict[str, str]], Wanted],
        *,
        run_id: str,
        action: str = "update",
        otherwise: Callable[[], Wanted] | None = None,
    ) -> Entry:
        """The next version, made by `amended` from the newest one; the first, made by `otherwise`, where there is none.

        Raises NotFound without `otherwise`, and what the two raise.
        """

        def change(tx: Transaction, unlocked: Unlocked) -> tuple[Index, list[Entry]]:
            entry = unlocked.index.entries.get(path)
            if entry is not None:
                wanted = amended(entry, _texts(tx, unlocked, entry))
            elif otherwise is not None:
                wanted = otherwise()
            else:
                raise no_such_secret()
            return self._stored(tx, unlocked, [wanted], run_id=run_id, action=action)

        (stored,) = await self._unlocking.change(change, create=otherwise is not None)
        return stored

    async def restore(self, path: str, version: int, *, run_id: str) -> Entry:
        """A version that is kept, again and whole: fields, label, kind and bindings, as the next one. Raises NotFound."""

        def change(tx: Transaction, unlocked: Unlocked) -> tuple[Index, list[Entry]]:
            newest = unlocked.index.entries.get(path)
            if newest is None:
                raise no_such_secret()
            kept = store.read_version(tx, path, version)
            if kept is None:
                raise NotFound(
                    f"{path} has no version {version}.",
                    hint=f"Those that are kept: mcp-spaces vault describe {path}",
                )
            if kept.id != newest.id:
                raise damaged()
            fields = _texts(tx, unlocked, kept)
            again = Wanted(kept.model_copy(update={"updated_at": self._clock.now()}), fields, sets_seed=SEED in fields)
            return self._stored(tx, unlocked, [again], run_id=run_id, action="restore")

        (stored,) = await self._unlocking.change(change)
        return stored

    async def delete(self, path: str, *, run_id: str) -> None:
        """All versions go for good, from the log and the freed pages too (threat V13). Raises NotFound."""

        def change(tx: Transaction, unlocked: Unlocked) -> tuple[Index, None]:
            if path not in unlocked.index.entries:
                raise no_such_secret()
            index = unlocked.index.copy()
            index.generation += 1
            index.uses = {name: use for name, use in index.uses.items() if name != path}
            index.remove(path)
            store.remove_entry(tx, path)
            store.put_index(tx, index, unlocked.seal)
            content = {"action": "delete", "path": path}
            store.note(tx, index, at=self._clock.now(), run_id=run_id, content=content)
            return index, None

        await self._unlocking.change(change)
        await self._database.empty_log()

    def _stored(
        self,
        tx: Transaction,
        unlocked: Unlocked,
        wanted: Sequence[Wanted],
        *,
        run_id: str,
        action: str,
        new_only: bool = False,
    ) -> tuple[Index, list[Entry]]:
        index, stored, seal = unlocked.index.copy(), [], unlocked.seal
        index.generation += 1
        if len(index.entries.keys() | {one.entry.path for one in wanted}) > ENTRIES_MAX:
            raise QuotaExceeded(f"The vault holds at most {ENTRIES_MAX:,} secrets.", hint="Delete some first.")
        for one in wanted:
            entry = _numbered(one.entry, before=index.entries.get(one.entry.path), new_only=new_only)
            sealed = seal_secret(one.fields, entry=entry, data_key=unlocked.data_key, vault_id=unlocked.vault_id)
            mac = store.mac_of(seal, entry)
            store.put_entry(tx, entry, mac=mac, sealed=sealed, key_id=unlocked.data_key.id)
            index.put(entry, mac)
            stored.append(entry)
        store.put_index(tx, index, seal)
        seeds = {one.entry.path for one in wanted if one.sets_seed}
        for entry in stored:
            begun = {"codes": "begin anew"} if entry.path in seeds else {}
            content = {"action": action, "path": entry.path, "version": entry.version, **begun}
            store.note(tx, index, at=self._clock.now(), run_id=run_id, content=content)
        if seeds:
            self._uses.begin_codes(tx, index, seeds)
        return index, stored


def _texts(tx: Transaction, unlocked: Unlocked, entry: Entry) -> dict[str, str]:
    return {name: value.reveal() for name, value in unlocked.fields(tx.one, entry, Upkeep.UPDATE).items()}


def _numbered(entry: Entry, *, before: Entry | None, new_only: bool) -> Entry:
    if before is None:
        return entry
    if new_only:
        raise Conflict(f"{entry.path} is there already.", hint="Choose another prefix, or delete it first.")
    return entry.model_copy(update={"id": before.id, "version": before.version + 1, "created_at": before.created_at})
