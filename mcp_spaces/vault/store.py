"""The vault's rows. Everything here runs inside one transaction of the writer, or reads."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from mcp_spaces.core.journal import encode
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.database import Database
from mcp_spaces.state.sealed import seal, unseal
from mcp_spaces.state.transaction import Row, Transaction
from mcp_spaces.vault.cipher import (
    TALLY_MODULUS,
    DataKey,
    IndexSeal,
    MasterKey,
    damaged,
    open_secret,
    seal_secret,
    unwrap,
    wrap,
)
from mcp_spaces.vault.master_record import MasterRecord
from mcp_spaces.vault.model import VERSIONS_KEPT, Entry, Upkeep, Use

AUDIT_KIND = "vault"
USES = "vault_uses"


@dataclass(slots=True)
class Index:
    """The list of entries as it was proven when the vault was opened, kept up to date since: memory is the truth.

    A row that changes on the disk meanwhile is noticed at the next start, and grants nothing until then.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    macs: dict[str, bytes] = field(default_factory=dict)
    uses: dict[str, Use] = field(default_factory=dict)
    latest_use: float = 0.0
    """Of all entries, in seconds since 1970: the clock was that far once."""
    generation: int = 0
    tally: int = 0
    _by_host: dict[str, list[Entry]] | None = None
    """Made when it is first asked for; "" are those with patterns."""

    def bound_to(self, host: str) -> list[Entry]:
        """Asked for each request of a sandbox, so not by going through them all."""
        if self._by_host is None:
            self._by_host = defaultdict(list)
            for entry in self.entries.values():
                for name in {*entry.bindings.hosts, *([""] if entry.bindings.origin_patterns else [])}:
                    self._by_host[name].append(entry)
        candidates = {one.path: one for name in (host, "") for one in self._by_host.get(name, ())}
        return [one for one in candidates.values() if one.bindings.names(host)]

    def put(self, entry: Entry, mac: bytes) -> None:
        self.remove(entry.path)
        self._by_host = None
        self.entries[entry.path], self.macs[entry.path] = entry, mac
        self.tally = (self.tally + _number(mac)) % TALLY_MODULUS

    def remove(self, path: str) -> None:
        self._by_host = None
        if self.entries.pop(path, None) is not None:
            self.tally = (self.tally - _number(self.macs.pop(path))) % TALLY_MODULUS

    def copy(self) -> Index:
        return Index(dict(self.entries), dict(self.macs), self.uses, self.latest_use, self.generation, self.tally)


def _number(mac: bytes) -> int:
    return int.from_bytes(mac, "big")


@dataclass(frozen=True, slots=True)
class KeyRow:
    vault_id: str
    record: MasterRecord
    key_id: str
    wrapped: bytes


def read_keys(database: Database) -> KeyRow | None:
    """None where there is no vault yet. Raises WrongState for rows that are none of ours."""
    master = database.read_one("SELECT vault_id, body FROM vault_master")
    if master is None:
        return None
    keys = database.read("SELECT id, wrapped FROM vault_keys")
    try:
        record = MasterRecord.model_validate_json(master["body"])
    except ValidationError:
        raise damaged() from None
    if len(keys) != 1:
        raise damaged()
    return KeyRow(master["vault_id"], record, keys[0]["id"], bytes(keys[0]["wrapped"]))


def read_index(database: Database, seal: IndexSeal) -> Index:
    """All of it, proven: every row, their number, and that no older list was put in its place.

    Raises WrongState.
    """
    index = Index()
    for row in database.read("SELECT path, version, body, mac FROM vault_entries"):
        entry = _proven_entry(row, seal)
        index.put(entry, bytes(row["mac"]))
    stored = database.read_one("SELECT generation, mac FROM vault_index")
    if stored is None:
        raise damaged()
    index.generation = stored["generation"]
    expected = seal.of_list(generation=index.generation, count=len(index.entries), tally=index.tally)
    last = database.read_one("SELECT body FROM audit WHERE kind = 'vault' ORDER BY seq DESC LIMIT 1")
    # The audit log is chained and anchored outside of the database: it knows which list is the newest.
    if bytes(stored["mac"]) != expected or last is None:
        raise damaged()
    if _generation_in(last["body"]) != index.generation:
        raise damaged()
    for row in database.read("SELECT path AS id, body, mac FROM vault_uses"):
        use = index.uses[row["id"]] = unseal(database.sealer, USES, row, Use)
        index.latest_use = max(index.latest_use, use.last_used_at)
    return index


def _generation_in(body: str) -> object:
    """What a row of the audit log says; None where it is none of ours."""
    try:
        noted = json.loads(body)
    except ValueError:
        return None
    return noted.get("generation") if isinstance(noted, dict) else None


def _proven_entry(row: Row, seal: IndexSeal) -> Entry:
    try:
        entry = Entry.model_validate_json(row["body"])
        expected = seal.of_entry(row["path"], row["version"], row["body"])
    except (ValidationError, TypeError, AttributeError, UnicodeError):
        raise damaged() from None
    if bytes(row["mac"]) != expected or (entry.path, entry.version) != (row["path"], row["version"]):
        raise damaged()
    return entry


AskOne = Callable[[str, Sequence[object]], Row | None]


def read_box(one: AskOne, entry: Entry) -> bytes:
    """That of an entry's current version. Raises WrongState."""
    row = one("SELECT sealed FROM vault_versions WHERE path = ? AND version = ?", (entry.path, entry.version))
    if row is None:
        raise damaged()
    return bytes(row["sealed"])


def read_version(tx: Transaction, path: str, version: int) -> Entry | None:
    """What was known of a kept version; its box says whether that is true. Raises WrongState."""
    row = tx.one("SELECT path, version, body FROM vault_versions WHERE path = ? AND version = ?", (path, version))
    return None if row is None else _kept_entry(row)


def _kept_entry(row: Row) -> Entry:
    try:
        entry = Entry.model_validate_json(row["body"])
    except ValidationError:
        raise damaged() from None
    if (entry.path, entry.version) != (row["path"], row["version"]):
        raise damaged()
    return entry


def versions_of(database: Database, path: str) -> list[int]:
    rows = database.read("SELECT version FROM vault_versions WHERE path = ? ORDER BY version DESC", (path,))
    return [row["version"] for row in rows]


def mac_of(seal: IndexSeal, entry: Entry) -> bytes:
    return seal.of_entry(entry.path, entry.version, entry.model_dump_json())


def put_entry(tx: Transaction, entry: Entry, *, mac: bytes, sealed: bytes, key_id: str) -> None:
    """A new entry, or the next version of one; versions beyond the last ten go."""
    body = entry.model_dump_json()
    tx.execute(
        "INSERT INTO vault_entries (path, version, body, mac) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (path) DO UPDATE SET version = excluded.version, body = excluded.body, mac = excluded.mac",
        (entry.path, entry.version, body, mac),
    )
    tx.execute(
        "INSERT INTO vault_versions (path, version, key_id, body, sealed, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (entry.path, entry.version, key_id, body, sealed, entry.updated_at),
    )
    tx.execute(
        "DELETE FROM vault_versions WHERE path = ? AND version <= ?", (entry.path, entry.version - VERSIONS_KEPT)
    )


def remove_entry(tx: Transaction, path: str) -> None:
    tx.execute("DELETE FROM vault_entries WHERE path = ?", (path,))


def put_index(tx: Transaction, index: Index, seal: IndexSeal) -> None:
    mac = seal.of_list(generation=index.generation, count=len(index.entries), tally=index.tally)
    tx.execute(
        "INSERT INTO vault_index (id, generation, mac) VALUES (1, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET generation = excluded.generation, mac = excluded.mac",
        (index.generation, mac),
    )


def put_master(tx: Transaction, record: MasterRecord, *, vault_id: str) -> None:
    tx.execute(
        "INSERT INTO vault_master (id, vault_id, body) VALUES (1, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        (vault_id, record.model_dump_json()),
    )


def put_key(tx: Transaction, data_key: DataKey, *, master: MasterKey, vault_id: str, at: float) -> None:
    tx.execute(
        "INSERT INTO vault_keys (id, master_id, wrapped, created_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET master_id = excluded.master_id, wrapped = excluded.wrapped",
        (data_key.id, master.id, wrap(data_key, master=master, vault_id=vault_id), at),
    )


def data_key_of(row: KeyRow, master: MasterKey) -> DataKey:
    return unwrap(row.wrapped, key_id=row.key_id, master=master, vault_id=row.vault_id)


def put_use(tx: Transaction, sealer: Sealer, path: str, use: Use) -> None:
    body, mac = seal(sealer, USES, path, use)
    tx.execute(
        "INSERT INTO vault_uses (path, body, mac) VALUES (?, ?, ?)"
        " ON CONFLICT (path) DO UPDATE SET body = excluded.body, mac = excluded.mac",
        (path, body, mac),
    )


def note(tx: Transaction, index: Index, *, at: float, run_id: str, content: Mapping[str, object]) -> None:
    """What happened to which path, in the audit log and among the run's events. Never a value."""
    tx.append_audit(at=at, kind=AUDIT_KIND, run_id=run_id, body=encode({**content, "generation": index.generation}))
    tx.execute(
        "INSERT INTO events (run_id, at, type, body) VALUES (?, ?, ?, ?)", (run_id, at, "vault", encode(content))
    )


def reseal(tx: Transaction, index: Index, *, old: DataKey, new: DataKey, vault_id: str) -> tuple[Index, int]:
    """Every box again, under the new key, and every MAC; returns the list and the number of boxes. Raises WrongState."""
    boxes = tx.all("SELECT path, version, key_id, body, sealed FROM vault_versions")
    for row in boxes:
        entry = _kept_entry(row)
        if row["key_id"] != old.id:
            raise damaged()
        opened = open_secret(
            bytes(row["sealed"]), entry=entry, data_key=old, vault_id=vault_id, purpose=Upkeep.ROTATION
        )
        fields = {name: value.reveal() for name, value in opened.items()}
        tx.execute(
            "UPDATE vault_versions SET key_id = ?, sealed = ? WHERE path = ? AND version = ?",
            (new.id, seal_secret(fields, entry=entry, data_key=new, vault_id=vault_id), entry.path, entry.version),
        )
    before, seal = IndexSeal(old), IndexSeal(new)
    fresh = Index(uses=index.uses, latest_use=index.latest_use, generation=index.generation + 1)
    for row in tx.all("SELECT path, version, body, mac FROM vault_entries"):
        # What is sealed anew is what was sealed before: a row that was changed meanwhile is none of ours.
        entry = _proven_entry(row, before)
        if entry != index.entries.get(entry.path):
            raise damaged()
        mac = seal.of_entry(row["path"], row["version"], row["body"])
        tx.execute("UPDATE vault_entries SET mac = ? WHERE path = ?", (mac, row["path"]))
        fresh.put(entry, mac)
    if len(fresh.entries) != len(index.entries):
        raise damaged()
    put_index(tx, fresh, seal)
    return fresh, len(boxes)
