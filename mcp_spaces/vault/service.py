"""The vault while the daemon runs: opened at its first use, one change at a time, every use recorded before it counts."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import anyio
from anyio.to_thread import run_sync

from mcp_spaces.core.facts import SecretUse
from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.core.redaction import MINIMUM_LENGTH
from mcp_spaces.core.scope import VaultGrant
from mcp_spaces.errors import Busy, Conflict, Denied, NotFound, QuotaExceeded, SpacesError, WrongState
from mcp_spaces.state.database import Database, Transaction
from mcp_spaces.vault import store
from mcp_spaces.vault.cipher import DataKey, IndexSeal, damaged, open_key, open_secret, seal_key, seal_secret
from mcp_spaces.vault.master_key import MasterKeys, MasterRecord, Source, Staged
from mcp_spaces.vault.model import (
    ENTRIES_MAX,
    MAIN_FIELD,
    NOT_CONFIDENTIAL,
    SEED,
    Bindings,
    Code,
    Entry,
    Opened,
    Purpose,
    RawSecret,
    SecretValue,
    Upkeep,
    Use,
)
from mcp_spaces.vault.port import Again
from mcp_spaces.vault.store import Index
from mcp_spaces.vault.totp import Seed, parse_seed

log = logging.getLogger(__name__)

T = TypeVar("T")

CODE_SECONDS_MIN = 3
"""A code that ends sooner is not given out: it would be over before it is typed."""
STEPS_AHEAD_MAX = 2
"""Callers that wait for a later step of the same secret; more of them are told to come back."""
CLOCK_SLACK_S = 2.0


@dataclass(slots=True)
class _Open:
    vault_id: str
    record: MasterRecord
    data_key: DataKey
    index: Index

    @property
    def seal(self) -> IndexSeal:
        return IndexSeal(self.data_key)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A secret as somebody gave it: everything of an entry but what the vault itself adds.

    `sets_seed`: a one-time seed is among what was given now, be it the one of before.
    """

    entry: Entry
    fields: Mapping[str, str]
    sets_seed: bool = False


class Vault:
    """Implements port.Secrets and port.Boxes. `wait` sleeps for so many seconds; tests bring their own time."""

    def __init__(
        self,
        database: Database,
        masters: MasterKeys,
        clock: Clock,
        *,
        wait: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._database = database
        self._masters = masters
        self._clock = clock
        self._wait = wait
        self._lock = anyio.Lock()
        self._open: _Open | None = None
        self.on_rotation: list[Callable[[Transaction, Again], int]] = []

    # ------------------------------------------------------------------------------------------------- reading

    async def find(self, path: str, *, scope: VaultGrant) -> Entry:
        opened = await self._opened()
        # Looked up before it is judged, so that both ways to the same answer take the same time.
        entry = None if opened is None else opened.index.entries.get(path)
        if not scope.permits(path) or entry is None:
            raise no_such_secret()
        return entry

    async def entries(self, *, scope: VaultGrant) -> Sequence[Entry]:
        """What `scope` permits, by path."""
        opened = await self._opened()
        known = {} if opened is None else opened.index.entries
        return [known[path] for path in sorted(known) if scope.permits(path)]

    async def bound_to(self, host: str, *, scope: VaultGrant) -> Sequence[Bindings]:
        if not scope.allow:
            return ()
        opened = await self._opened()
        found = [] if opened is None else opened.index.bound_to(host)
        return [one.bindings for one in found if scope.permits(one.path)]

    async def last_use(self, path: str) -> Use | None:
        opened = await self._opened()
        return None if opened is None else opened.index.uses.get(path)

    def versions(self, path: str) -> list[int]:
        return store.versions_of(self._database, path)

    async def open(
        self, path: str, *, scope: VaultGrant, purpose: SecretUse, run_id: str, origin: str | None = None
    ) -> Opened:
        entry = await self.find(path, scope=scope)
        if purpose is SecretUse.TOTP_FILL:
            raise Denied("A one-time seed is shown to nobody.", hint="Ask for a code.", rule="vault.seed")
        if purpose is SecretUse.RAW_READ:
            check_raw_reads(scope)
        else:
            check_origin(entry, origin)
        async with self._lock:
            opened = await self._needed()
            entry = _current(opened, entry)
            await self._store_use(opened, entry, purpose, run_id)
            fields = self._fields(opened, entry, purpose)
            seal = opened.seal
        shown = {name: value for name, value in fields.items() if name != SEED}
        return Opened(entry, shown, {name: seal.fingerprint(value) for name, value in shown.items()})

    async def read_raw(self, path: str, field: str | None, *, scope: VaultGrant, run_id: str) -> RawSecret:
        entry = await self.find(path, scope=scope)
        name = field or MAIN_FIELD[entry.kind]
        if name == SEED:
            raise Denied("A one-time seed is shown to nobody.", hint="vault_totp gives a code.", rule="vault.seed")
        if name not in entry.fields:
            raise WrongState(f"{path} has no field {name}.", hint=f"It has: {', '.join(entry.fields)}.")
        opened = await self.open(path, scope=scope, purpose=SecretUse.RAW_READ, run_id=run_id)
        value = opened.field(name)
        if value is None:
            raise WrongState(f"{path} has no field {name} any more.", hint="vault_describe shows what it has.")
        if name not in NOT_CONFIDENTIAL and len(value) < MINIMUM_LENGTH:
            raise Denied(
                f"This secret has fewer than {MINIMUM_LENGTH} characters, too few to be kept out of other answers.",
                hint="Use it at the gateway or in the browser.",
                rule="vault.too_short",
            )
        return RawSecret(path, name, opened.entry.version, opened.fingerprints[name], value)

    async def code(self, path: str, *, scope: VaultGrant, run_id: str, origin: str | None = None) -> Code:
        """A one-time code that was not given out before; waits for the next step where it has to (threat V18).

        Raises NotFound, Denied, WrongState (no seed, or a clock that went backwards) or Busy (too many wait already).
        """
        entry = await self.find(path, scope=scope)
        if origin is not None:
            check_origin(entry, origin)
        if SEED not in entry.fields:
            raise WrongState(f"{path} has no one-time seed.", hint="A person can add one: mcp-spaces vault update")
        while True:
            seed, step = await self._take_step(entry, run_id)
            while (early := step * seed.period_s - self._clock.now()) > 0:
                await self._wait(early)
            ends_at = float((step + 1) * seed.period_s)
            if self._clock.now() < ends_at:
                code = SecretValue(seed.code(step), name=f"{path}#code")
                return Code(entry, code, seed.period_s, ends_at)

    async def _take_step(self, entry: Entry, run_id: str) -> tuple[Seed, int]:
        async with self._lock:
            opened = await self._needed()
            entry = _current(opened, entry)
            seed = parse_seed(self._fields(opened, entry, SecretUse.TOTP_FILL)[SEED].reveal())
            now, current = self._clock.now(), seed.step_at(self._clock.now())
            if now < opened.index.latest_use - CLOCK_SLACK_S:
                raise _clock_went_back(entry.path)
            last = opened.index.uses.get(entry.path)
            free_at = 0.0 if last is None or last.code_ends_at is None else last.code_ends_at
            soon = current + ((current + 1) * seed.period_s - now < CODE_SECONDS_MIN)
            step = max(soon, math.ceil(free_at / seed.period_s))
            if step > current + 2 * STEPS_AHEAD_MAX:
                raise _clock_went_back(entry.path)
            if step > current + STEPS_AHEAD_MAX:
                raise Busy("Others wait for the next codes of this secret.", hint="Try again in a minute.")
            ends_at = float((step + 1) * seed.period_s)
            await self._store_use(opened, entry, SecretUse.TOTP_FILL, run_id, code_ends_at=ends_at)
            return seed, step

    # ------------------------------------------------------------------------------------------------ changing

    async def put(
        self,
        wanted: Sequence[Wanted],
        *,
        run_id: str,
        action: str,
        new_only: bool = False,
    ) -> list[Entry]:
        """Store secrets, each as the next version of its path; all of them or none.

        Raises Conflict where `new_only` and a path is taken, QuotaExceeded, WrongState.
        """

        def change(tx: Transaction, opened: _Open) -> tuple[Index, list[Entry]]:
            return self._stored(tx, opened, wanted, run_id=run_id, action=action, new_only=new_only)

        return await self._change(change, create=True)

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

        def change(tx: Transaction, opened: _Open) -> tuple[Index, list[Entry]]:
            entry = opened.index.entries.get(path)
            if entry is not None:
                wanted = amended(entry, self._texts(tx, opened, entry))
            elif otherwise is not None:
                wanted = otherwise()
            else:
                raise no_such_secret()
            return self._stored(tx, opened, [wanted], run_id=run_id, action=action)

        (stored,) = await self._change(change, create=otherwise is not None)
        return stored

    async def restore(self, path: str, version: int, *, run_id: str) -> Entry:
        """A version that is kept, again and whole: fields, label, kind and bindings, as the next one. Raises NotFound."""

        def change(tx: Transaction, opened: _Open) -> tuple[Index, list[Entry]]:
            newest = opened.index.entries.get(path)
            if newest is None:
                raise no_such_secret()
            kept = store.read_version(tx, path, version)
            if kept is None:
                raise NotFound(
                    f"{path} has no version {version}.",
                    hint=f"Those that are kept: mcp-spaces vault describe --path {path}",
                )
            if kept.id != newest.id:
                raise damaged()
            fields = self._texts(tx, opened, kept)
            again = Wanted(kept.model_copy(update={"updated_at": self._clock.now()}), fields, sets_seed=SEED in fields)
            return self._stored(tx, opened, [again], run_id=run_id, action="restore")

        (stored,) = await self._change(change)
        return stored

    async def delete(self, path: str, *, run_id: str) -> None:
        """All versions go for good, from the log and the freed pages too (threat V13). Raises NotFound."""

        def change(tx: Transaction, opened: _Open) -> tuple[Index, None]:
            if path not in opened.index.entries:
                raise no_such_secret()
            index = opened.index.copy()
            index.generation += 1
            index.uses = {name: use for name, use in index.uses.items() if name != path}
            index.remove(path)
            store.remove_entry(tx, path)
            store.put_index(tx, index, opened.seal)
            self._note(tx, run_id, index, action="delete", path=path)
            return index, None

        await self._change(change)
        await self._database.empty_log()

    async def rotate(self, *, run_id: str) -> int:
        """A new data key, and every box again under it, in one transaction; returns how many boxes there are."""
        async with self._lock:
            opened = await self._needed()
            master = await run_sync(self._masters.load, opened.record)
            fresh = DataKey.new()

            def again(box: bytes, *, label: str) -> bytes:
                content = open_key(box, label=label, data_key=opened.data_key, vault_id=opened.vault_id)
                return seal_key(content, label=label, data_key=fresh, vault_id=opened.vault_id)

            def change(tx: Transaction) -> tuple[Index, int]:
                store.put_key(tx, fresh, master=master, vault_id=opened.vault_id, at=self._clock.now())
                index, boxes = store.reseal(tx, opened.index, old=opened.data_key, new=fresh, vault_id=opened.vault_id)
                boxes += sum(room(tx, again) for room in self.on_rotation)
                tx.execute("DELETE FROM vault_keys WHERE id <> ?", (fresh.id,))
                self._note(tx, run_id, index, action="rotate", boxes=boxes)
                return index, boxes

            with anyio.CancelScope(shield=True):
                index, boxes = await self._database.write(change)
                opened.index, opened.data_key = index, fresh
        await self._database.empty_log()
        return boxes

    async def rekey(self, source: Source | None, *, run_id: str) -> MasterRecord:
        """A new master key. The database says in one transaction which of the two counts (threat V16)."""
        async with self._lock:
            opened = await self._needed()
            chosen = source or opened.record.source
            try:
                await self._settle(opened)
            except WrongState:
                # The key that counts may be only the staged one, which staging another there would write over.
                if chosen is opened.record.source:
                    raise
            staged = await run_sync(lambda: self._masters.stage(chosen, before=opened.record))

            def change(tx: Transaction) -> None:
                self._seal_under(tx, staged, opened)
                self._note(tx, run_id, opened.index, action="rekey", source=chosen)

            with anyio.CancelScope(shield=True):
                await self._database.write(change)
                opened.record = staged.record
                try:
                    await self._settle(opened)
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

    # ------------------------------------------------------------------------------------- keys of other rooms

    async def seal(self, content: bytes, *, label: str) -> bytes:
        async with self._lock:
            opened = await self._created()
            return seal_key(content, label=label, data_key=opened.data_key, vault_id=opened.vault_id)

    async def unseal(self, box: bytes, *, label: str) -> bytes:
        async with self._lock:
            opened = await self._opening()
            if opened is None:
                raise damaged()
            return open_key(box, label=label, data_key=opened.data_key, vault_id=opened.vault_id)

    # ------------------------------------------------------------------------------------------------- within

    def _stored(
        self,
        tx: Transaction,
        opened: _Open,
        wanted: Sequence[Wanted],
        *,
        run_id: str,
        action: str,
        new_only: bool = False,
    ) -> tuple[Index, list[Entry]]:
        index, stored, seal = opened.index.copy(), [], opened.seal
        index.generation += 1
        for one in wanted:
            entry = _numbered(one.entry, before=index.entries.get(one.entry.path), new_only=new_only)
            sealed = seal_secret(one.fields, entry=entry, data_key=opened.data_key, vault_id=opened.vault_id)
            mac = store.mac_of(seal, entry)
            store.put_entry(tx, entry, mac=mac, sealed=sealed, key_id=opened.data_key.id)
            index.put(entry, mac)
            stored.append(entry)
        if len(index.entries) > ENTRIES_MAX:
            raise QuotaExceeded(f"The vault holds at most {ENTRIES_MAX:,} secrets.", hint="Delete some first.")
        store.put_index(tx, index, seal)
        seeds = {one.entry.path for one in wanted if one.sets_seed}
        for entry in stored:
            begun = {"codes": "begin anew"} if entry.path in seeds else {}
            self._note(tx, run_id, index, action=action, path=entry.path, version=entry.version, **begun)
        if seeds:
            self._begin_codes(tx, index, seeds)
        return index, stored

    def _begin_codes(self, tx: Transaction, index: Index, paths: set[str]) -> None:
        """A person who sets a seed says that the clock is right: no use was later than now, whatever a wrong clock
        said. Codes of other seeds still are not given out twice."""
        now = self._clock.now()
        index.uses, index.latest_use = dict(index.uses), min(index.latest_use, now)
        for path, use in index.uses.items():
            ends_at = None if path in paths else use.code_ends_at
            told = use.model_copy(update={"last_used_at": min(use.last_used_at, now), "code_ends_at": ends_at})
            if told != use:
                index.uses[path] = told
                store.put_use(tx, self._database.sealer, path, told)

    def _fields(
        self, opened: _Open, entry: Entry, purpose: Purpose, *, one: store.AskOne | None = None
    ) -> Mapping[str, SecretValue]:
        key_id, sealed = store.read_box(one or self._database.read_one, entry)
        if key_id != opened.data_key.id:
            raise damaged()
        return open_secret(sealed, entry=entry, data_key=opened.data_key, vault_id=opened.vault_id, purpose=purpose)

    def _texts(self, tx: Transaction, opened: _Open, entry: Entry) -> dict[str, str]:
        fields = self._fields(opened, entry, Upkeep.UPDATE, one=tx.one)
        return {name: value.reveal() for name, value in fields.items()}

    async def _store_use(
        self, opened: _Open, entry: Entry, purpose: SecretUse, run_id: str, *, code_ends_at: float | None = None
    ) -> None:
        last, now = opened.index.uses.get(entry.path), self._clock.now()
        use = Use(
            last_used_at=now,
            purpose=purpose,
            version=entry.version,
            run_id=run_id,
            uses=1 if last is None else last.uses + 1,
            code_ends_at=code_ends_at if code_ends_at is not None or last is None else last.code_ends_at,
        )

        def change(tx: Transaction) -> None:
            store.put_use(tx, self._database.sealer, entry.path, use)
            self._note(tx, run_id, opened.index, action="use", path=entry.path, version=entry.version, purpose=purpose)

        with anyio.CancelScope(shield=True):
            await self._database.write(change)
            opened.index.uses[entry.path] = use
            opened.index.latest_use = max(opened.index.latest_use, now)

    def _note(self, tx: Transaction, run_id: str, index: Index, **content: object) -> None:
        store.note(tx, at=self._clock.now(), run_id=run_id, generation=index.generation, content=content)

    async def _change(self, change: Callable[[Transaction, _Open], tuple[Index, T]], *, create: bool = False) -> T:
        async with self._lock:
            opened = await (self._created() if create else self._needed())
            # A change happens even when its caller gives up, and then memory has to follow.
            with anyio.CancelScope(shield=True):
                index, result = await self._database.write(lambda tx: change(tx, opened))
                opened.index = index
            return result

    async def _opened(self) -> _Open | None:
        """None where there is no vault yet."""
        if self._open is None:
            async with self._lock:
                return await self._opening()
        return self._open

    async def _needed(self) -> _Open:
        """Raises NotFound where there is no vault yet. The lock is held."""
        opened = await self._opening()
        if opened is None:
            raise no_such_secret()
        return opened

    async def _opening(self) -> _Open | None:
        if self._open is None:
            row = store.read_keys(self._database)
            if row is None:
                return None
            try:
                master = await run_sync(self._masters.load, row.record)
            except SpacesError as problem:
                # Where keys are kept is not every agent's business.
                log.error("the vault's master key: %s %s", problem.message, problem.hint)
                raise WrongState(
                    "The vault is locked: its master key cannot be had.",
                    hint="The operator finds the reason in the daemon's log.",
                ) from None
            data_key = store.data_key_of(row, master)
            index = store.read_index(self._database, IndexSeal(data_key))
            opened = _Open(row.vault_id, row.record, data_key, index)
            try:
                await self._settle(opened)
            except SpacesError as problem:
                log.error("the vault's master key is not in its place yet: %s %s", problem.message, problem.hint)
            self._open = opened
        return self._open

    async def _created(self) -> _Open:
        opened = await self._opening()
        if opened is not None:
            return opened
        source = await run_sync(self._masters.choose)
        staged = await run_sync(lambda: self._masters.stage(source, before=None))
        fresh = _Open(new_id("va"), staged.record, DataKey.new(), Index())

        def change(tx: Transaction) -> None:
            self._seal_under(tx, staged, fresh)
            store.put_index(tx, fresh.index, fresh.seal)
            tx.append_audit(at=self._clock.now(), kind=store.AUDIT_KIND, run_id="", body='{"generation":0}')

        with anyio.CancelScope(shield=True):
            await self._database.write(change)
            await self._settle(fresh)
            self._open = fresh
        return fresh

    async def _settle(self, opened: _Open) -> None:
        """Raises WrongState: the key that counts is still only beside its place, where it is found."""
        settled = await run_sync(self._masters.settle, opened.record)
        if settled != opened.record:
            await self._database.write(lambda tx: store.put_master(tx, settled, vault_id=opened.vault_id))
            opened.record = settled

    def _seal_under(self, tx: Transaction, staged: Staged, opened: _Open) -> None:
        store.put_master(tx, staged.record, vault_id=opened.vault_id)
        store.put_key(tx, opened.data_key, master=staged.master, vault_id=opened.vault_id, at=self._clock.now())


EVERYTHING = VaultGrant(allow=("*",), allow_raw_reads=True)


def no_such_secret() -> NotFound:
    return NotFound(
        "No such secret here.", hint="vault_list shows what may be used; vault_request_entry asks a person for one."
    )


def check_origin(entry: Entry, origin: str | None) -> None:
    """Raises Denied for an origin that the entry is not bound to, and for none."""
    if origin is None or not entry.bindings.permits(origin):
        raise Denied(
            f"{entry.path} is not bound to this origin.",
            hint="A person can bind it: mcp-spaces vault update PATH --origins https://host",
            rule="vault.origins",
        )


def _clock_went_back(path: str) -> WrongState:
    return WrongState(
        "The clock went backwards since a secret was last used; codes would be wrong or given out twice.",
        hint="Set the clock right (timedatectl), then repeat. Where it is right by now and was ahead before, the operator"
        f" sets the seed again: mcp-spaces vault update {path} --totp",
    )


def check_raw_reads(scope: VaultGrant) -> None:
    """Raises Denied, whatever the path."""
    if not scope.allow_raw_reads:
        raise Denied(
            "Secrets are not shown as they are here.",
            hint="Use it unseen: {{vault:PATH}} in a request header is filled in by the gateway, for the secret's own"
            " origins; or ask for a one-time code. A person can allow raw reads for a mount.",
            rule="scope.vault.allow_raw_reads",
        )


def _current(opened: _Open, entry: Entry) -> Entry:
    """The entry as it is now that the lock is held. Raises NotFound: deleted meanwhile, or another one."""
    now = opened.index.entries.get(entry.path)
    if now is None or (now.id, now.bindings) != (entry.id, entry.bindings):
        raise no_such_secret()
    return now


def _numbered(entry: Entry, *, before: Entry | None, new_only: bool) -> Entry:
    if before is None:
        return entry
    if new_only:
        raise Conflict(f"{entry.path} is there already.", hint="Choose another prefix, or delete it first.")
    return entry.model_copy(update={"id": before.id, "version": before.version + 1, "created_at": before.created_at})
