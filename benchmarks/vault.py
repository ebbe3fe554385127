"""A secret shown and a one-time code, through the whole pipeline: three commits each, for intent, use and outcome."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio

from benchmarks import in_process
from benchmarks.daemons import state_directory
from benchmarks.measure import WARM_UP, Line, Series, Target, timed
from benchmarks.pipeline import bare_database, commits
from mcp_spaces.app import App
from mcp_spaces.core.ids import Clock

CALLS = 300
MID_STEP = 1_800_000_010.0
"""Time stands still, so that no code has to wait for its step."""


def lines() -> Iterator[Line]:
    with state_directory() as state:
        shown, codes, baseline = anyio.run(_measured, state)
    for what, ours in (("vault.get, with its records", shown), ("vault.totp, with its records", codes)):
        yield Line(
            what=what,
            unit="ms",
            ours=ours,
            baseline=baseline,
            against="3 commits of SQLite, WAL and FULL",
            targets=[Target(3)],
        )


async def _measured(state: Path) -> tuple[Series, Series, Series]:
    async with in_process.app(state, clock=Clock(now=lambda: MID_STEP)) as app:
        for number in range(WARM_UP + CALLS):
            fields = {"username": "ann", "password": "correct horse", "totp": "JBSWY3DPEHPK3PXP"}
            await app.pipeline.call(app.operator(), "vault.set", {"path": f"prod/a{number}", "kind": "login", **fields})
        shown = await _each(app, "vault.get")
        codes = await _each(app, "vault.totp")
        with closing(bare_database(state / "bare.db")) as bare:
            baseline = [timed(lambda: commits(bare, 3)) for _ in range(CALLS)]
    return Series(shown), Series(codes), Series(baseline)


async def _each(app: App, operation_id: str) -> list[float]:
    """One call for each secret, the first few to warm up."""
    caller, taken = app.operator(), []
    for number in range(WARM_UP + CALLS):
        started = time.perf_counter()
        await app.pipeline.call(caller, operation_id, {"path": f"prod/a{number}"})
        taken.append((time.perf_counter() - started) * 1000)
    return taken[WARM_UP:]
