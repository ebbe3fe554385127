"""The authorities of spaces that have one: made at the first need, kept with their keys sealed by the vault."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime

import anyio
from anyio.to_thread import run_sync

from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import WrongState
from mcp_spaces.network.authority import Authority
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Transaction
from mcp_spaces.vault.port import Again, Boxes

log = logging.getLogger(__name__)


class Authorities:
    def __init__(self, database: Database, boxes: Boxes, clock: Clock) -> None:
        self._database = database
        self._boxes = boxes
        self._clock = clock
        self._known: dict[str, Authority] = {}
        self._lock = anyio.Lock()
        boxes.on_rotation.append(_reseal)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    async def of(self, space_id: str) -> Authority:
        """Raises WrongState when the vault cannot be opened, and what storing raises."""
        async with self._lock:
            if space_id not in self._known:
                self._known[space_id] = await self._stored(space_id) or await self._made(space_id)
            return self._known[space_id]

    async def _stored(self, space_id: str) -> Authority | None:
        row = self._database.read_one("SELECT certificate FROM space_authorities WHERE space_id = ?", (space_id,))
        if row is None:
            return None
        certificate = bytes(row["certificate"])

        def stored() -> bytes | None:
            now = self._database.read_one("SELECT sealed FROM space_authorities WHERE space_id = ?", (space_id,))
            return None if now is None else bytes(now["sealed"])

        key = await self._boxes.unseal(stored, label=_label(space_id, certificate))
        with suppress(ValueError, TypeError):
            if key is not None:
                return Authority.read(certificate, key)
        # The row is not as we wrote it, or of another vault: nobody trusts a new one less.
        log.info("the authority of space %s cannot be opened: a new one is made", space_id)
        return None

    async def _made(self, space_id: str) -> Authority:
        made = await run_sync(Authority.new, space_id, self.now())
        sealed = await self._boxes.seal(made.key_bytes(), label=_label(space_id, made.certificate))

        def change(tx: Transaction) -> None:
            tx.execute(
                "INSERT INTO space_authorities (space_id, certificate, sealed) VALUES (?, ?, ?) ON CONFLICT (space_id)"
                " DO UPDATE SET certificate = excluded.certificate, sealed = excluded.sealed",
                (space_id, made.certificate, sealed),
            )

        await self._database.write(change)
        return made


def _reseal(tx: Transaction, again: Again) -> int:
    count = 0
    for row in tx.all("SELECT space_id, certificate, sealed FROM space_authorities"):
        try:
            sealed = again(bytes(row["sealed"]), label=_label(row["space_id"], bytes(row["certificate"])))
        except WrongState:
            continue
        tx.execute("UPDATE space_authorities SET sealed = ? WHERE space_id = ?", (sealed, row["space_id"]))
        count += 1
    return count


def _label(space_id: str, certificate: bytes) -> str:
    return f"authority|{space_id}|{certificate.hex()}"
