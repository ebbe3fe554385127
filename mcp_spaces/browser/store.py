"""Rows of browser runtimes: their options, and profiles with what a browser remembers, sealed."""

from __future__ import annotations

import json
import logging

from mcp_spaces.browser.model import BrowserOptions
from mcp_spaces.browser.port import StorageState
from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import QuotaExceeded, WrongState
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Transaction
from mcp_spaces.vault.port import Again, Boxes

log = logging.getLogger(__name__)

PROFILE_BYTES_MAX = 16 << 20
"""Cookies, local storage and IndexedDB of one profile, as JSON."""
PROFILES_MAX = 100
"""Of one space."""


class BrowserStore:
    def __init__(self, database: Database, boxes: Boxes, clock: Clock) -> None:
        self._database = database
        self._boxes = boxes
        self._clock = clock
        boxes.on_rotation.append(_reseal)

    # Options

    async def set_options(self, runtime_id: str, options: BrowserOptions) -> None:
        await self._database.write(
            lambda tx: tx.execute(
                "INSERT INTO browsers (runtime_id, options) VALUES (?, ?)"
                " ON CONFLICT (runtime_id) DO UPDATE SET options = excluded.options",
                (runtime_id, options.model_dump_json()),
            )
        )

    def options(self, runtime_id: str) -> BrowserOptions:
        """Those of a runtime without any are the defaults."""
        row = self._database.read_one("SELECT options FROM browsers WHERE runtime_id = ?", (runtime_id,))
        return BrowserOptions() if row is None else BrowserOptions.model_validate_json(row["options"])

    # Profiles

    def profiles(self, space_id: str) -> list[str]:
        rows = self._database.read("SELECT name FROM browser_profiles WHERE space_id = ? ORDER BY name", (space_id,))
        return [str(row["name"]) for row in rows]

    async def profile(self, space_id: str, name: str) -> StorageState | None:
        """None for one that is new, and for one that no longer opens: whoever uses it logs in again.

        Raises WrongState where the vault cannot be opened: what would be begun anew might be put over what is there.
        """

        def stored() -> bytes | None:
            row = self._database.read_one(
                "SELECT sealed FROM browser_profiles WHERE space_id = ? AND name = ?", (space_id, name)
            )
            return None if row is None else bytes(row["sealed"])

        if stored() is None:
            return None
        content = await self._boxes.unseal(stored, label=_label(space_id, name))
        if content is None:
            log.warning("profile %s of %s does not open, and is begun anew", name, space_id)
            return None
        state: StorageState = json.loads(content)
        return state

    async def keep_profile(self, space_id: str, name: str, state: StorageState) -> None:
        """Raises QuotaExceeded."""
        content = json.dumps(dict(state), separators=(",", ":")).encode()
        names = self.profiles(space_id)
        if len(content) > PROFILE_BYTES_MAX or (name not in names and len(names) >= PROFILES_MAX):
            raise QuotaExceeded(
                f"A profile has at most {PROFILE_BYTES_MAX >> 20} MiB, and a space {PROFILES_MAX} profiles.",
                hint="Delete a profile, or what the sites stored in it.",
            )
        sealed = await self._boxes.seal(content, label=_label(space_id, name))
        now = self._clock.now()
        await self._database.write(
            lambda tx: tx.execute(
                "INSERT INTO browser_profiles (space_id, name, sealed, updated_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (space_id, name) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at",
                (space_id, name, sealed, now),
            )
        )

    async def forget_profile(self, space_id: str, name: str) -> None:
        """Idempotent."""
        await self._database.write(
            lambda tx: tx.execute("DELETE FROM browser_profiles WHERE space_id = ? AND name = ?", (space_id, name))
        )


def _reseal(tx: Transaction, again: Again) -> int:
    count = 0
    for row in tx.all("SELECT space_id, name, sealed FROM browser_profiles"):
        try:
            sealed = again(bytes(row["sealed"]), label=_label(row["space_id"], row["name"]))
        except WrongState:
            # It did not open before, and is begun anew when somebody uses it.
            continue
        tx.execute(
            "UPDATE browser_profiles SET sealed = ? WHERE space_id = ? AND name = ?",
            (sealed, row["space_id"], row["name"]),
        )
        count += 1
    return count


def _label(space_id: str, name: str) -> str:
    return f"browser profile {space_id}/{name}"
