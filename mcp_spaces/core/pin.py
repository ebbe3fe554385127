"""The operator's PIN: what a program that runs as the operator does not know (threat T21).

Kept as Argon2id (RFC 9106, its second recommended choice: 64 MiB, 3 passes, 4 lanes) in a sealed row. Wrong ones are
counted there too, so that a restart forgets none; after a few each further one has to wait.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from typing import Final

from pydantic import BaseModel, ConfigDict

from mcp_spaces.core.ids import Clock
from mcp_spaces.core.stretching import argon2id
from mcp_spaces.errors import Busy, Denied, InvalidInput, PinNeeded
from mcp_spaces.state.database import Database
from mcp_spaces.state.sealed import seal, unseal
from mcp_spaces.state.transaction import Transaction

TABLE = "pins"
ROW: Final = "operator"
CHARACTERS_MIN, CHARACTERS_MAX = 6, 128
SALT_BYTES, HASH_BYTES = 16, 32
ITERATIONS, LANES, MEMORY_KIB = 3, 4, 64 * 1024
FREE_MISTAKES = 5
WAIT_MAX_S = 900.0
"""After FREE_MISTAKES in a row each further attempt waits: 1 s, 2 s, 4 s … and never longer than this."""


class KeptPin(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    salt: str
    hash: str
    mistakes: int = 0
    """Wrong ones in a row."""
    mistaken_at: float = 0.0


class Pin:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    def is_set(self) -> bool:
        return self._kept() is not None

    async def check(self, given: str | None) -> None:
        """Raises PinNeeded (none was given), Denied (a wrong one) or Busy (too many wrong ones), if a PIN is set."""
        async with self._one_at_a_time:
            kept = self._kept()
            if kept is None:
                return
            if given is None:
                raise PinNeeded(
                    "The operator's PIN is needed for this.", hint="Repeat the command on a terminal: it asks for it."
                )
            wait_s = min(kept.mistaken_at - self._clock.now(), 0.0) + _wait_s(kept.mistakes)
            if wait_s > 0:
                raise Busy(f"There were {kept.mistakes} wrong PINs in a row.", hint=f"Wait {wait_s:.0f} s.")
            if await asyncio.to_thread(_is_same, given, kept):
                if kept.mistakes:
                    await self._keep(kept.model_copy(update={"mistakes": 0}))
                return
            await self._keep(kept.model_copy(update={"mistakes": kept.mistakes + 1, "mistaken_at": self._clock.now()}))
        raise Denied("That is not the operator's PIN.", hint="Try again.", rule="pin")

    async def change(self, pin: str) -> None:
        """From now on it is this one. Raises InvalidInput."""
        if not CHARACTERS_MIN <= len(pin) <= CHARACTERS_MAX:
            raise InvalidInput(
                f"A PIN has {CHARACTERS_MIN} to {CHARACTERS_MAX} characters.",
                hint="Digits, letters, a phrase: anything.",
            )
        salt = secrets.token_bytes(SALT_BYTES)
        derived = await asyncio.to_thread(_derived, pin, salt)
        # A guess that is being compared would write back what it had read.
        async with self._one_at_a_time:
            await self._keep(KeptPin(salt=salt.hex(), hash=derived.hex()))

    async def clear(self) -> None:
        def change(tx: Transaction) -> None:
            tx.execute("DELETE FROM pins")

        async with self._one_at_a_time:
            await self._database.write(change)

    def _kept(self) -> KeptPin | None:
        """Raises WrongState where it was changed outside: then nothing that needs it is done."""
        rows = self._database.read("SELECT id, body, mac FROM pins WHERE id = ?", (ROW,))
        return unseal(self._database.sealer, TABLE, rows[0], KeptPin) if rows else None

    async def _keep(self, kept: KeptPin) -> None:
        body, mac = seal(self._database.sealer, TABLE, ROW, kept)

        def change(tx: Transaction) -> None:
            tx.execute("INSERT OR REPLACE INTO pins (id, body, mac) VALUES (?, ?, ?)", (ROW, body, mac))

        await self._database.write(change)


def _wait_s(mistakes: int) -> float:
    # Beyond some hundred doublings there is no such number.
    doublings = min(mistakes - FREE_MISTAKES, 30)
    return 0.0 if doublings < 0 else min(2.0**doublings, WAIT_MAX_S)


def _is_same(given: str, kept: KeptPin) -> bool:
    return hmac.compare_digest(_derived(given, bytes.fromhex(kept.salt)), bytes.fromhex(kept.hash))


def _derived(pin: str, salt: bytes) -> bytes:
    return argon2id(pin, salt=salt, length=HASH_BYTES, iterations=ITERATIONS, lanes=LANES, memory_kib=MEMORY_KIB)
