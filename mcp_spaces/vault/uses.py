"""When a secret was last used: on the disk, in the audit log and in the run, before the use counts."""

from __future__ import annotations

import anyio

from mcp_spaces.core.facts import SecretUse
from mcp_spaces.core.ids import Clock
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Transaction
from mcp_spaces.vault import store
from mcp_spaces.vault.model import Entry, Use
from mcp_spaces.vault.store import Index
from mcp_spaces.vault.unlocking import Unlocked


class Uses:
    """Whoever calls holds the vault."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def record(
        self, unlocked: Unlocked, entry: Entry, purpose: SecretUse, run_id: str, *, code_ends_at: float | None = None
    ) -> None:
        """`code_ends_at`: a code is given out that is over then, in seconds since 1970."""
        last, now = unlocked.index.uses.get(entry.path), self._clock.now()
        use = Use(
            last_used_at=now,
            purpose=purpose,
            version=entry.version,
            run_id=run_id,
            uses=1 if last is None else last.uses + 1,
            code_ends_at=code_ends_at if code_ends_at is not None or last is None else last.code_ends_at,
        )
        content = {"action": "use", "path": entry.path, "version": entry.version, "purpose": purpose}

        def change(tx: Transaction) -> None:
            store.put_use(tx, self._database.sealer, entry.path, use)
            store.note(tx, unlocked.index, at=self._clock.now(), run_id=run_id, content=content)

        with anyio.CancelScope(shield=True):
            await self._database.write(change)
            unlocked.index.uses[entry.path] = use
            unlocked.index.latest_use = max(unlocked.index.latest_use, now)

    def begin_codes(self, tx: Transaction, index: Index, paths: set[str]) -> None:
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
