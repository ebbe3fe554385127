"""One-time codes: none is given out twice, none that is nearly over, none by a clock that went backwards."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from mcp_spaces.core.facts import SecretUse
from mcp_spaces.core.ids import Clock
from mcp_spaces.errors import Busy, WrongState
from mcp_spaces.state.database import Database
from mcp_spaces.vault.model import SEED, Code, Entry, SecretValue
from mcp_spaces.vault.totp import Seed, parse_seed
from mcp_spaces.vault.unlocking import Unlocking
from mcp_spaces.vault.uses import Uses

CODE_SECONDS_MIN = 3
"""A code that ends sooner is not given out: it would be over before it is typed."""
STEPS_AHEAD_MAX = 2
"""Callers that wait for a later step of the same secret; more of them are told to come back."""
CLOCK_SLACK_S = 2.0


class Codes:
    def __init__(
        self,
        unlocking: Unlocking,
        uses: Uses,
        database: Database,
        clock: Clock,
        *,
        wait: Callable[[float], Awaitable[None]],
    ) -> None:
        self._unlocking = unlocking
        self._uses = uses
        self._database = database
        self._clock = clock
        self._wait = wait

    async def next(self, entry: Entry, *, run_id: str) -> Code:
        """A code that was not given out before; waits for the next step where it has to (threat V18).

        Raises NotFound, WrongState (no seed, or a clock that went backwards) or Busy (too many wait already).
        """
        if SEED not in entry.fields:
            raise WrongState(
                f"{entry.path} has no one-time seed.",
                hint=f"A person can add one: mcp-spaces vault update {entry.path} --totp",
            )
        while True:
            seed, step = await self._take_step(entry, run_id)
            while (early := step * seed.period_s - self._clock.now()) > 0:
                await self._wait(early)
            ends_at = float((step + 1) * seed.period_s)
            if self._clock.now() < ends_at:
                code = SecretValue(seed.code(step), name=f"{entry.path}#code")
                return Code(entry, code, seed.period_s, ends_at)

    async def _take_step(self, entry: Entry, run_id: str) -> tuple[Seed, int]:
        async with self._unlocking.held() as unlocked:
            entry = unlocked.current(entry)
            fields = unlocked.fields(self._database.read_one, entry, SecretUse.TOTP_FILL)
            seed = parse_seed(fields[SEED].reveal())
            now, current = self._clock.now(), seed.step_at(self._clock.now())
            if now < unlocked.index.latest_use - CLOCK_SLACK_S:
                raise _clock_went_back(entry.path)
            last = unlocked.index.uses.get(entry.path)
            free_at = 0.0 if last is None or last.code_ends_at is None else last.code_ends_at
            soon = current + ((current + 1) * seed.period_s - now < CODE_SECONDS_MIN)
            step = max(soon, math.ceil(free_at / seed.period_s))
            if step > current + 2 * STEPS_AHEAD_MAX:
                raise _clock_went_back(entry.path)
            if step > current + STEPS_AHEAD_MAX:
                raise Busy("Others wait for the next codes of this secret.", hint="Try again in a minute.")
            ends_at = float((step + 1) * seed.period_s)
            await self._uses.record(unlocked, entry, SecretUse.TOTP_FILL, run_id, code_ends_at=ends_at)
            return seed, step


def _clock_went_back(path: str) -> WrongState:
    return WrongState(
        "The clock went backwards since a secret was last used; codes would be wrong or given out twice.",
        hint="Set the clock right (timedatectl), then repeat. Where it is right by now and was ahead before, the operator"
        f" sets the seed again: mcp-spaces vault update {path} --totp",
    )
