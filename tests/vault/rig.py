"""A real vault over a real database, with a time and a keyring of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mcp_spaces.core.ids import Clock
from mcp_spaces.core.scope import VaultGrant
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.database import Database
from mcp_spaces.vault.given_keys import Given
from mcp_spaces.vault.master_key import MasterKeys
from mcp_spaces.vault.master_record import Source
from mcp_spaces.vault.model import Bindings, Entry, Kind
from mcp_spaces.vault.service import Vault
from mcp_spaces.vault.wanted import wanted_entry

SEALER = Sealer(b"k" * 32)
SEED_80_BITS = "JBSWY3DPEHPK3PXP"
NOTHING_GIVEN = Given()
EVERYTHING = VaultGrant(allow=("*",), allow_raw_reads=True)


@dataclass
class Time:
    """Passes only when somebody waits, or when the test says so."""

    now: float = 1_800_000_000.0
    waited: list[float] = field(default_factory=list)

    async def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now)


@dataclass
class MemoryKeyring:
    kept: dict[tuple[str, str], str] = field(default_factory=dict)
    locked: bool = False
    refused: str | None = None
    """A name under which nothing is stored."""

    def get_password(self, service: str, name: str) -> str | None:
        self._check()
        return self.kept.get((service, name))

    def set_password(self, service: str, name: str, password: str) -> None:
        self._check()
        if name == self.refused:
            raise RuntimeError("refused; the password is hunter2")
        self.kept[service, name] = password

    def delete_password(self, service: str, name: str) -> None:
        self._check()
        del self.kept[service, name]

    def _check(self) -> None:
        if self.locked:
            raise RuntimeError("locked; the password is hunter2")


@dataclass
class Rig:
    vault: Vault
    database: Database
    time: Time
    folder: Path

    async def put(self, path: str, *, kind: Kind = Kind.VALUE, origins: tuple[str, ...] = (), **fields: str) -> Entry:
        wanted = wanted_entry(path, kind, fields, label=None, bindings=Bindings(origins=origins), now=self.time.now)
        (entry,) = await self.vault.keeping.put([wanted], run_id="run_test", action="set")
        return entry

    async def login(self, path: str, *, totp: str = SEED_80_BITS) -> Entry:
        return await self.put(path, kind=Kind.LOGIN, username="ann", password="correct horse", totp=totp)

    async def code(self, path: str) -> str:
        return (await self.vault.code(path, scope=EVERYTHING, run_id="run_test")).value.reveal()


@asynccontextmanager
async def open_rig(
    folder: Path,
    *,
    time: Time | None = None,
    given: Given = NOTHING_GIVEN,
    source: Source | None = Source.FILE,
    keyring: MemoryKeyring | None = None,
    make: Callable[..., MasterKeys] = MasterKeys,
) -> AsyncIterator[Rig]:
    """Opening a folder again is a restart."""
    time = time or Time()
    database = Database.open(folder / "state.db", sealer=SEALER)
    masters = make(folder, instance_id="in_test", given=given, preferred=source, keyring=lambda: keyring)
    try:
        yield Rig(Vault(database, masters, time.clock, wait=time.wait), database, time, folder)
    finally:
        database.close()
