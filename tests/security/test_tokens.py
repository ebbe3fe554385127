"""Keys: what is stored of them, how long a wrong one takes, and what ends with one (T04, T05, T06)."""

from __future__ import annotations

import random
import re
import sys
import time
from functools import partial
from statistics import median

import anyio
import pytest

from mcp_spaces.core.active import ActiveCalls
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.ids import new_id
from mcp_spaces.core.journal import Run
from mcp_spaces.errors import Cancelled, SpacesError, TimedOut, Unauthenticated, WrongState
from mcp_spaces.identity.model import Key, secret_matches
from mcp_spaces.identity.store import Identity
from mcp_spaces.state.transaction import Transaction
from tests.folders import content_of, files_below
from tests.processes import processes
from tests.security.app import World, eventually
from tests.security.prepared import ABSENT, prepared
from tests.turns import cancelled_at, cancelled_everywhere

GUARD_S = 20.0
"""The promise is two seconds; a busy machine adds to it, and nothing else would end what is waited for."""


async def test_t04_what_the_database_holds_does_not_authenticate(world: World) -> None:
    made = await world.govern("key.create", label="stolen")
    public, secret = made.id.removeprefix("key_"), made.token.rpartition(made.id.removeprefix("key_") + "_")[2]
    row = world.row("SELECT body, mac FROM keys WHERE id = ?", made.id)
    assert row is not None
    (digest,) = re.findall(r"[0-9a-f]{64}", row["body"])
    for guess in (digest, digest[:43], digest[-43:], row["mac"].hex()[:43], "A" * 43):
        with pytest.raises(Unauthenticated):
            await world.app.authenticate(f"msp_{public}_{guess}")
    assert (await world.app.authenticate(made.token)).key_id == made.id
    everything = b"".join(map(content_of, files_below(world.folder / "state")))
    assert digest.encode() in everything
    assert secret.encode() not in everything and made.token.encode() not in everything


async def test_t04_a_forged_row_is_nobodys_key(world: World) -> None:
    mine, theirs = await world.govern("key.create", label="mine"), await world.govern("key.create", label="theirs")

    changes: list[tuple[str, tuple[object, ...]]] = []
    for column in ("body", "mac"):
        row = world.row(f"SELECT {column} FROM keys WHERE id = ?", mine.id)
        assert row is not None
        changes.append((f"UPDATE keys SET {column} = ? WHERE id = ?", (row[column], theirs.id)))
    # The hash of my secret under the other's id: the row's seal is over its id, too.
    for sql, parameters in changes:
        await world.database.write(partial(Transaction.execute, sql=sql, parameters=parameters))
        for token in (theirs.token, mine.token.replace(mine.id[4:], theirs.id[4:])):
            with pytest.raises((Unauthenticated, WrongState)):
                await world.app.authenticate(token)


async def test_t05_a_wrong_secret_takes_as_long_whatever_it_begins_with(world: World) -> None:
    made = await world.govern("key.create", label="one")
    head, secret = made.token[:31], made.token[31:]
    nearly = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    wrong = {"nearly": head + nearly, "nothing": head + "-" * 43, "unknown": f"msp_{ABSENT}_{secret}"}
    took: dict[str, list[float]] = {name: [] for name in wrong}
    for _ in range(400):
        for name, token in wrong.items():
            began = time.perf_counter()
            with pytest.raises(Unauthenticated):
                await world.app.authenticate(token)
            took[name].append(time.perf_counter() - began)
    middle = {name: median(times) for name, times in took.items()}
    assert middle["nearly"] == pytest.approx(middle["nothing"], rel=0.5, abs=50e-6)
    # That an id exists is no secret; it still must not stand out over a network.
    assert abs(middle["unknown"] - middle["nothing"]) < max(500e-6, middle["nothing"])


async def test_t05_no_wrong_secret_is_told_apart_before_all_of_it_was_compared(world: World) -> None:
    """Clocks are too coarse for this: what is looked at is which functions are called, an unknown key's included."""
    identity, made = world.use(Identity), await world.govern("key.create", label="one")
    head, secret = made.token[:31], made.token[31:]
    key = identity._key(made.id)
    assert key is not None and secret_matches(secret, key)

    def compared(secret: str, key: Key | None) -> list[str]:
        called: list[str] = []
        sys.setprofile(lambda _frame, event, what: called.append(what.__name__) if event == "c_call" else None)
        try:
            assert not secret_matches(secret, key)
        finally:
            sys.setprofile(None)
        return [name for name in called if "digest" in name or "sha256" in name]

    nearly, nothing, unknown = compared(secret[:-1] + "!", key), compared("-" * 43, key), compared(secret, None)
    assert nearly == nothing
    for steps in (nearly, unknown):
        assert [name for name in steps if name.lstrip("_") == "compare_digest"]
    # A token that cannot be one is answered in the same words as one whose key does not exist, or is another's.
    told = set()
    for token in ("", "msp_", f"msp_{ABSENT}_{secret}", f"{head}{'-' * 43}", made.token + "x"):
        with pytest.raises(Unauthenticated) as refused:
            identity.authenticate(token)
        told.add((refused.value.message, refused.value.hint))
    assert len(told) == 1


@pytest.mark.parametrize("ending", ["revoked", "expired", "narrowed"])
async def test_t06_a_call_ends_with_its_key_and_so_does_what_it_started(world: World, ending: str) -> None:
    mine = await prepared(world, "mine")
    made = await world.govern("key.create", label="one", expires_in_s=5 if ending == "expired" else 60)
    key = await world.app.authenticate(made.token)
    marker = f"sleep 98{random.randrange(10**6):06d}"
    ended: list[SpacesError] = []

    async def work() -> None:
        with pytest.raises(SpacesError) as stopped:
            await world.call("sandbox.shell", caller=key, space=mine.space, command=marker)
        ended.append(stopped.value)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await eventually(lambda: processes(marker) != [])
        if ending == "revoked":
            await world.govern("key.revoke", key=made.id)
        elif ending == "narrowed":
            await world.govern("principal.grant", principal="local-agent", scope={"operations": ["run.*", "space.*"]})
        await eventually(lambda: bool(ended), seconds=GUARD_S)
    assert isinstance(ended[0], Cancelled | TimedOut)
    await eventually(lambda: processes(marker) == [], seconds=GUARD_S)
    if ending != "narrowed":
        with pytest.raises(Unauthenticated):
            await world.app.authenticate(made.token)


async def test_t06_a_revocation_that_nobody_waits_for_ends_what_the_key_is_doing_all_the_same(world: World) -> None:
    async def attempt(suspension: int) -> bool:
        key = await world.key()
        run = Run(new_id("run"), "sandbox.shell", key.principal_id, None, 0.0)
        with world.use(ActiveCalls).entered(run, key, Effect.EXECUTES) as call:
            more = await cancelled_at(suspension, world.govern("key.revoke", key=key.key_id))
            # Changes are made in their order: what the call submitted is made by now.
            await world.database.write(lambda _: None)
            assert (call.cancelled_because != "") is not await world.app.still_valid(key)
        return more

    await cancelled_everywhere(attempt)
