"""The vault while the daemon runs, as other rooms ask it: what is known, what is opened, and for which use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio

from mcp_spaces.core.facts import SecretUse
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.redaction import MINIMUM_LENGTH
from mcp_spaces.core.scope import VaultGrant
from mcp_spaces.errors import Denied, WrongState
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Transaction
from mcp_spaces.vault import store
from mcp_spaces.vault.cipher import open_key, seal_key
from mcp_spaces.vault.codes import Codes
from mcp_spaces.vault.keeping import Keeping
from mcp_spaces.vault.keys import Keys
from mcp_spaces.vault.master_key import MasterKeys
from mcp_spaces.vault.model import MAIN_FIELD, NOT_CONFIDENTIAL, SEED, Bindings, Code, Entry, Opened, RawSecret, Use
from mcp_spaces.vault.port import Again
from mcp_spaces.vault.unlocking import Unlocking, no_such_secret
from mcp_spaces.vault.uses import Uses


class Vault:
    """Implements port.Secrets and port.Boxes. `keeping` and `keys` are the operator's part of it: what is stored, and
    under which keys. `wait` sleeps for so many seconds; tests bring their own time."""

    def __init__(
        self,
        database: Database,
        masters: MasterKeys,
        clock: Clock,
        *,
        wait: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.on_rotation: list[Callable[[Transaction, Again], int]] = []
        self.on_changed: list[Callable[[], None]] = []
        self._database = database
        self._unlocking = Unlocking(database, masters, clock, on_changed=self.on_changed)
        self._uses = Uses(database, clock)
        self._codes = Codes(self._unlocking, self._uses, database, clock, wait=wait)
        self.keeping = Keeping(self._unlocking, self._uses, database, clock)
        self.keys = Keys(self._unlocking, masters, database, clock, on_rotation=self.on_rotation)

    # ------------------------------------------------------------------------------------------- without opening

    async def find(self, path: str, *, scope: VaultGrant) -> Entry:
        unlocked = await self._unlocking.unlocked()
        # Looked up before it is judged, so that both ways to the same answer take the same time.
        entry = None if unlocked is None else unlocked.index.entries.get(path)
        if not scope.permits(path) or entry is None:
            raise no_such_secret()
        return entry

    async def entries(self, *, scope: VaultGrant) -> Sequence[Entry]:
        """What `scope` permits, by path."""
        unlocked = await self._unlocking.unlocked()
        known = {} if unlocked is None else unlocked.index.entries
        return [known[path] for path in sorted(known) if scope.permits(path)]

    async def bound_to(self, host: str, *, scope: VaultGrant) -> Sequence[Bindings]:
        if not scope.allow:
            return ()
        unlocked = await self._unlocking.unlocked()
        found = [] if unlocked is None else unlocked.index.bound_to(host)
        return [one.bindings for one in found if scope.permits(one.path)]

    async def last_use(self, path: str) -> Use | None:
        unlocked = await self._unlocking.unlocked()
        return None if unlocked is None else unlocked.index.uses.get(path)

    def versions(self, path: str) -> list[int]:
        return store.versions_of(self._database, path)

    # ---------------------------------------------------------------------------------------------- for one use

    async def open(
        self, path: str, *, scope: VaultGrant, purpose: SecretUse, run_id: str, origin: str | None = None
    ) -> Opened:
        entry = await self.find(path, scope=scope)
        if purpose is SecretUse.TOTP_FILL:
            raise Denied("A one-time seed is shown to nobody.", hint="Ask for a code.", rule="vault.seed")
        if purpose is SecretUse.RAW_READ:
            _check_raw_reads(scope)
        else:
            _check_origin(entry, origin)
        async with self._unlocking.held() as unlocked:
            entry = unlocked.current(entry)
            await self._uses.record(unlocked, entry, purpose, run_id)
            fields = unlocked.fields(self._database.read_one, entry, purpose)
            seal = unlocked.seal
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
                hint="browser_login takes one so short; the gateway does not.",
                rule="vault.too_short",
            )
        return RawSecret(path, name, opened.entry.version, opened.fingerprints[name], value)

    async def code(self, path: str, *, scope: VaultGrant, run_id: str, origin: str | None = None) -> Code:
        entry = await self.find(path, scope=scope)
        if origin is not None:
            _check_origin(entry, origin)
        return await self._codes.next(entry, run_id=run_id)

    # ------------------------------------------------------------------------------------- keys of other rooms

    async def seal(self, content: bytes, *, label: str) -> bytes:
        async with self._unlocking.held(create=True) as unlocked:
            return seal_key(content, label=label, data_key=unlocked.data_key, vault_id=unlocked.vault_id)

    async def unseal(self, stored: Callable[[], bytes | None], *, label: str) -> bytes | None:
        if await self._unlocking.unlocked() is None:
            return None
        async with self._unlocking.held() as unlocked:
            box = stored()
            try:
                return box and open_key(box, label=label, data_key=unlocked.data_key, vault_id=unlocked.vault_id)
            except WrongState:
                return None


def _check_origin(entry: Entry, origin: str | None) -> None:
    """Raises Denied for an origin that the entry is not bound to, and for none."""
    if origin is None or not entry.bindings.permits(origin):
        raise Denied(
            f"{entry.path} is not bound to this origin.",
            hint="A person can bind it: mcp-spaces vault update PATH --origins https://host",
            rule="vault.origins",
        )


def _check_raw_reads(scope: VaultGrant) -> None:
    """Raises Denied, whatever the path."""
    if not scope.allow_raw_reads:
        raise Denied(
            "Secrets are not shown as they are here.",
            hint="Use it unseen: {{vault:PATH}} in a header of an http:// request is filled in by the gateway, for the"
            " secret's own origins; or ask for a one-time code. A person can allow raw reads for a mount.",
            rule="scope.vault.allow_raw_reads",
        )
