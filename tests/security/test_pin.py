"""The operator's PIN: what asks for it, who cannot guess it, and that nothing else keeps it (T21)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.operation import Audience, never
from mcp_spaces.core.pin import FREE_MISTAKES, WAIT_MAX_S, Pin
from mcp_spaces.errors import ApprovalNeeded, Busy, Denied, InvalidInput, NotFound, PinNeeded, SpacesError, WrongState
from mcp_spaces.state.transaction import Transaction
from tests.cli.commands import MAIN, environment, on_a_terminal
from tests.cli.served import served
from tests.folders import content_of, files_below
from tests.security.app import ROOT, World, open_world
from tests.security.lines import ENVELOPE, line_to
from tests.security.prepared import prepared

PIN = "seven seas"
WRONG = "eight seas"
PUSH: dict[str, Any] = {"runtime": "main", "command": "git push origin main"}
BINDINGS = {"origins": ["https://elsewhere.example"]}


async def waiting(world: World, space: str) -> str:
    """The id of an approval that an agent asked for."""
    with pytest.raises(ApprovalNeeded) as asked:
        await world.call("sandbox.shell", space=space, **PUSH)
    return asked.value.approval_id


async def guarded(world: World) -> dict[str, dict[str, Any]]:
    """An input for each operation that asks for the PIN."""
    at = await prepared(world, "work")
    await world.govern("vault.set", path="prod/one", kind="value", value="a value")
    return {
        "approval.grant": {"approval": await waiting(world, at.space)},
        "principal.grant": {"principal": "local-agent", "policy": "permissive"},
        "space.create": {"name": "wide", "policy": {"preset": "permissive"}},
        "space.update": {"space": at.space, "patch": {"mounts": {"network": {"mode": "open"}}}},
        "vault.get": {"path": "prod/one", "field": "value"},
        "vault.update": {"path": "prod/one", **BINDINGS},
        "vault.restore": {"path": "prod/one", "version": 1},
        "pin.set": {"new": "something else"},
        "pin.clear": {},
    }


async def typed(world: World, pin: str | None, operation: str, **arguments: Any) -> Any:
    return (await world.app.pipeline.call(world.operator, operation, arguments, pin=pin)).output


async def refused(world: World, pin: str | None, operation: str, **arguments: Any) -> SpacesError:
    with pytest.raises(SpacesError) as told:
        await typed(world, pin, operation, **arguments)
    return told.value


async def test_t21_what_widens_approves_or_shows_a_secret_asks_for_the_pin(world: World) -> None:
    inputs = await guarded(world)
    assert set(inputs) == {one.id for one in CATALOGUE if one.needs_pin is not never}
    await world.govern("pin.set", new=PIN)
    for operation, arguments in inputs.items():
        missing = await refused(world, None, operation, **arguments)
        assert isinstance(missing, PinNeeded) and missing.hint
        wrong = await refused(world, WRONG, operation, **arguments)
        assert isinstance(wrong, Denied) and wrong.rule == "pin"
        # The right one, which also begins the count of wrong ones anew.
        await world.use(Pin).check(PIN)
    assert await world.call("run.list", space=inputs["space.update"]["space"])
    for operation, arguments in inputs.items():
        pin = "something else" if operation == "pin.clear" else PIN
        assert await typed(world, pin, operation, **arguments)
    await world.govern("principal.grant", principal="local-agent", policy="standard")


async def test_t21_what_changes_nothing_that_may_be_reached_does_not_ask(world: World) -> None:
    inputs = await guarded(world)
    await world.govern("pin.set", new=PIN)
    await world.govern("space.create", name="plain")
    await world.govern("space.update", space="plain", patch={"labels": {"ticket": "1"}})
    await world.govern("vault.update", path="prod/one", label="The one")
    await world.govern("approval.deny", approval=inputs["approval.grant"]["approval"])
    # An agent stays within what it was given, and was never asked.
    await world.space("its-own", policy={"preset": "restrictive"})


async def test_t21_the_pin_makes_nobody_an_operator(world: World) -> None:
    inputs = await guarded(world)
    await world.govern("pin.set", new=PIN)
    for operation in (one for one in CATALOGUE if one.needs_pin is not never and one.audience is Audience.OPERATOR):
        with pytest.raises(NotFound):
            await world.app.pipeline.call(world.agent, operation.id, inputs[operation.id], pin=PIN)


async def test_t21_guesses_are_counted_over_restarts_and_wait_longer_and_longer(tmp_path: Path) -> None:
    now = [1_000_000.0]
    clock = Clock(now=lambda: now[0])
    async with open_world(tmp_path, clock=clock) as world:
        await world.govern("pin.set", new=PIN)
        for _ in range(FREE_MISTAKES):
            assert isinstance(await refused(world, WRONG, "pin.clear"), Denied)
    async with open_world(tmp_path, clock=clock) as world:
        # Neither a wrong nor the right one is looked at before its time.
        for pin in (WRONG, PIN):
            assert isinstance(await refused(world, pin, "pin.clear"), Busy)
        now[0] += 1.01
        assert isinstance(await refused(world, WRONG, "pin.clear"), Denied)
        now[0] += 1.01
        assert isinstance(await refused(world, PIN, "pin.clear"), Busy)
        for _ in range(12):
            now[0] += WAIT_MAX_S
            assert isinstance(await refused(world, WRONG, "pin.clear"), Denied)
        # A clock that is set back makes nobody wait longer than the longest wait.
        now[0] -= 100_000
        assert (await refused(world, PIN, "pin.clear")).hint == f"Wait {WAIT_MAX_S:.0f} s."
        now[0] += 100_000 + WAIT_MAX_S
        await typed(world, PIN, "principal.grant", principal="local-agent")
        # The right one begins the count anew.
        assert isinstance(await refused(world, WRONG, "pin.clear"), Denied)
        await typed(world, PIN, "pin.clear")


async def test_t21_a_program_that_guesses_for_weeks_locks_nobody_out_for_good(tmp_path: Path) -> None:
    now = [1_000_000.0]
    async with open_world(tmp_path, clock=Clock(now=lambda: now[0])) as world:
        await world.govern("pin.set", new=PIN)
        await refused(world, WRONG, "pin.clear")
        pins = world.use(Pin)
        kept = pins._kept()
        assert kept is not None
        await pins._keep(kept.model_copy(update={"mistakes": 100_000}))
        assert (await refused(world, PIN, "pin.clear")).hint == f"Wait {WAIT_MAX_S:.0f} s."
        now[0] += WAIT_MAX_S
        await typed(world, PIN, "pin.clear")


async def test_t21_guesses_at_the_same_time_are_counted_one_by_one(tmp_path: Path) -> None:
    told: list[SpacesError] = []
    async with open_world(tmp_path, clock=Clock(now=lambda: 1_000_000.0)) as world:
        await world.govern("pin.set", new=PIN)

        async def guess() -> None:
            told.append(await refused(world, WRONG, "pin.clear"))

        async with anyio.create_task_group() as guesses:
            for _ in range(FREE_MISTAKES * 3):
                guesses.start_soon(guess)
    assert sum(isinstance(one, Denied) for one in told) == FREE_MISTAKES


async def test_t21_a_guess_that_is_under_way_brings_no_old_pin_back(world: World) -> None:
    pin = world.use(Pin)
    await pin.change(PIN)

    async def guess() -> None:
        with pytest.raises(Denied):
            await pin.check(WRONG)

    async with anyio.create_task_group() as guesses:
        guesses.start_soon(guess)
        await anyio.lowlevel.checkpoint()  # it is being compared now
        await pin.clear()
    assert not pin.is_set()


async def test_t21_a_pin_that_was_changed_outside_opens_nothing(world: World) -> None:
    await world.govern("pin.set", new=PIN)
    row = world.row("SELECT body FROM pins")
    assert row is not None
    forged = row["body"].replace('"mistakes":0', '"mistakes":-9')
    assert forged != row["body"]
    await world.database.write(partial(Transaction.execute, sql="UPDATE pins SET body = ?", parameters=(forged,)))
    for pin in (None, PIN, WRONG):
        assert isinstance(await refused(world, pin, "pin.clear"), WrongState)


async def test_t21_the_pin_is_kept_nowhere(world: World) -> None:
    await world.govern("pin.set", new=PIN)
    await refused(world, WRONG, "principal.grant", principal="local-agent")
    await typed(world, PIN, "principal.grant", principal="local-agent")
    everything = b"".join(map(content_of, files_below(world.folder / "state")))
    for text in (PIN, WRONG):
        assert text.encode() not in everything
        assert text.encode().hex().encode() not in everything


@pytest.mark.parametrize("pin", ["12345", "x" * 129])
async def test_t21_a_pin_is_neither_short_nor_endless(world: World, pin: str) -> None:
    with pytest.raises(InvalidInput):
        await world.govern("pin.set", new=pin)
    assert not world.use(Pin).is_set()


async def test_t21_over_the_sockets_the_pin_stands_beside_the_arguments() -> None:
    async with served() as house:
        state = house.world.folder / "state"
        await house.world.govern("pin.set", new=PIN)
        wanted = {"name": "pin_clear", "arguments": {}}
        async with line_to(state) as agent, line_to(state, operator=True) as operator:
            beside = {**ENVELOPE, "mcp-spaces/pin": PIN}
            assert "Unknown tool" in (await agent.ask("tools/call", **wanted, _meta=beside))["error"]["message"]
            nothing = await operator.ask("tools/call", **wanted)
            assert nothing["result"]["_meta"]["mcp-spaces/error"]["code"] == "pin_needed"
            no_text = await operator.ask("tools/call", **wanted, _meta={**ENVELOPE, "mcp-spaces/pin": 7})
            assert no_text["result"]["_meta"]["mcp-spaces/error"]["code"] == "invalid_input"
            assert house.world.use(Pin).is_set()
            cleared = await operator.ask("tools/call", **wanted, _meta=beside)
            assert cleared["result"]["structuredContent"]["is_set"] is False


async def test_t21_a_terminal_is_asked_and_a_program_is_refused() -> None:
    async with served() as house:
        at = await prepared(house.world, "work")
        approval = await waiting(house.world, at.space)
        state = house.world.folder / "state"
        await on_a_terminal("pin", "set", state_dir=state, types=[PIN, PIN])
        assert house.world.use(Pin).is_set()
        # A program has no terminal, and what it writes to standard input is not asked for.
        program = await anyio.run_process(
            [*MAIN, "approve", approval, "--json"],
            input=f"{PIN}\n".encode(),
            check=False,
            env=environment(state),
            cwd=ROOT,
            start_new_session=True,
        )
        assert program.returncode == 1
        assert b'"pin_needed"' in program.stdout
        assert "not the operator's PIN" in await on_a_terminal("approve", approval, state_dir=state, types=[WRONG])
        seen = await on_a_terminal("approve", approval, state_dir=state, types=[PIN])
        assert "PIN: " in seen and PIN not in seen
        assert (await house.world.call("sandbox.shell", space=at.space, **PUSH)).exit_code is not None
