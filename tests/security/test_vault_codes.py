"""One-time codes and the seeds that they come from (V17–V20)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from mcp_spaces.core.facts import SecretUse
from mcp_spaces.errors import Busy, Denied, WrongState
from mcp_spaces.vault.model import Entry
from mcp_spaces.vault.totp import parse_seed
from mcp_spaces.vault.wanted import Wanted, amended
from tests.security.app import open_world
from tests.security.vaults import CANARY
from tests.vault.rig import EVERYTHING, SEED_80_BITS, Time, open_rig


async def test_v17_a_one_time_seed_is_shown_to_nobody(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.govern("vault.set", path="prod/crm", kind="login", password=CANARY, totp=SEED_80_BITS)
        with pytest.raises(Denied, match="shown to nobody"):
            await world.govern("vault.get", path="prod/crm", field="totp")
        view = await world.govern("vault.describe", path="prod/crm")
        assert view.fields == ["password", "totp"]
    async with open_rig(tmp_path / "state") as rig:
        await rig.login("prod/crm")
        with pytest.raises(Denied, match="shown to nobody"):
            await rig.vault.open("prod/crm", scope=EVERYTHING, purpose=SecretUse.TOTP_FILL, run_id="run_x", origin=None)
        assert await rig.vault.last_use("prod/crm") is None
        for purpose in SecretUse:
            try:
                opened = await rig.vault.open(
                    "prod/crm", scope=EVERYTHING, purpose=purpose, run_id="run_x", origin="https://x.example"
                )
            except Denied:
                continue
            assert opened.field("totp") is None
            assert "totp" not in opened.fields


async def test_v18_no_code_is_given_out_twice(tmp_path: Path) -> None:
    time = Time(now=1_800_000_000.0)
    async with open_rig(tmp_path, time=time) as rig:
        await rig.login("prod/crm")
        first, second = await rig.code("prod/crm"), await rig.code("prod/crm")
        assert first != second
        assert time.waited == [30.0]
    async with open_rig(tmp_path, time=time) as rig:
        assert await rig.code("prod/crm") not in (first, second)


async def test_v18_callers_at_the_same_time_get_different_codes(tmp_path: Path) -> None:
    time = Time(now=1_800_000_001.0)
    codes: list[str] = []
    busy: list[Busy] = []
    async with open_rig(tmp_path, time=time) as rig:
        await rig.login("prod/crm")

        async def ask() -> None:
            try:
                codes.append(await rig.code("prod/crm"))
            except Busy as error:
                busy.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(ask)
    assert len(set(codes)) == len(codes) >= 3
    assert len(codes) + len(busy) == 8


async def test_v18_a_code_that_is_nearly_over_is_not_given_out(tmp_path: Path) -> None:
    time = Time(now=1_800_000_000.0 + 27.5)
    async with open_rig(tmp_path, time=time) as rig:
        await rig.login("prod/crm")
        code = await rig.vault.code("prod/crm", scope=EVERYTHING, run_id="run_x")
        assert time.waited == [2.5]
        seed = parse_seed(SEED_80_BITS)
        assert code.value.reveal() == seed.code(seed.step_at(1_800_000_030))
        assert code.ends_at - time.now == 30


async def test_v18_a_code_that_was_over_before_its_caller_woke_up_is_not_given_out(tmp_path: Path) -> None:
    class Suspended(Time):
        """The machine sleeps at the first wait, and longer than that."""

        async def wait(self, seconds: float) -> None:
            await super().wait(seconds + 70 * (not self.waited))

    time = Suspended()
    async with open_rig(tmp_path, time=time) as rig:
        await rig.login("prod/crm")
        await rig.code("prod/crm")
        late = await rig.vault.code("prod/crm", scope=EVERYTHING, run_id="run_x")
        assert len(time.waited) == 1 and late.ends_at > time.now
        seed = parse_seed(SEED_80_BITS)
        assert late.value.reveal() == seed.code(seed.step_at(time.now))


async def test_v19_k14_a_clock_that_went_backwards_gives_no_code(tmp_path: Path) -> None:
    time = Time()
    async with open_rig(tmp_path, time=time) as rig:
        await rig.login("prod/crm")
        await rig.login("prod/other")
        first = await rig.code("prod/crm")
        for back_s in (3, 40, 86_400):
            time.now -= back_s
            for path in ("prod/crm", "prod/other"):
                with pytest.raises(WrongState, match="clock went backwards"):
                    await rig.code(path)
            time.now += back_s
    time.now -= 60
    async with open_rig(tmp_path, time=time) as rig:
        with pytest.raises(WrongState, match="clock went backwards"):
            await rig.code("prod/other")
        time.now += 86_400 * 365
        assert await rig.code("prod/crm") != first


def seed_of(period_s: int) -> str:
    return f"otpauth://totp/x?secret={SEED_80_BITS}&period={period_s}"


@pytest.mark.parametrize(("before_s", "after_s"), [(30, 60), (60, 30)])
@pytest.mark.parametrize("way", ["set", "update"])
async def test_v18_a_seed_of_another_period_gives_codes_at_once_and_none_twice(
    tmp_path: Path, way: str, before_s: int, after_s: int
) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.login("prod/crm", totp=seed_of(before_s))
        await rig.code("prod/crm")
        if way == "set":
            await rig.login("prod/crm", totp=seed_of(after_s))
        else:
            await rig.vault.keeping.amend("prod/crm", setting(seed_of(after_s)), run_id="run_x")
        codes = [await rig.code("prod/crm") for _ in range(3)]
        assert len(set(codes)) == 3
        assert rig.time.waited == [after_s, after_s]
    async with open_rig(tmp_path, time=rig.time) as rig:
        assert await rig.code("prod/crm") not in codes


def setting(seed: str) -> Callable[[Entry, dict[str, str]], Wanted]:
    return lambda before, fields: amended(before, fields, given={"totp": seed}, metadata={}, now=before.updated_at)


async def test_v18_what_changes_beside_the_seed_brings_no_code_back(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.login("prod/crm")
        first = await rig.code("prod/crm")
        await rig.vault.keeping.amend(
            "prod/crm",
            lambda before, fields: amended(before, fields, given={"password": "x" * 9}, metadata={}, now=0.0),
            run_id="run_x",
        )
        assert await rig.code("prod/crm") != first
        assert rig.time.waited == [30.0]


async def test_v19_after_a_clock_that_was_ahead_the_operator_sets_the_seed_again(tmp_path: Path) -> None:
    time = Time()
    async with open_rig(tmp_path, time=time) as rig:
        for path in ("prod/crm", "prod/other"):
            await rig.login(path)
        await rig.code("prod/crm")
        time.now += 86_400 * 365
        for path in ("prod/crm", "prod/other"):
            await rig.code(path)
        time.now -= 86_400 * 365
    async with open_rig(tmp_path, time=time) as rig:
        with pytest.raises(WrongState, match="clock went backwards") as refused:
            await rig.code("prod/crm")
        assert "mcp-spaces vault update prod/crm --totp" in refused.value.hint
        await rig.vault.keeping.amend("prod/crm", setting(SEED_80_BITS), run_id="run_operator")
        await rig.code("prod/crm")
        # One seed says nothing of another: whose code of next year was given out, it would be given out twice.
        with pytest.raises(WrongState, match="clock went backwards"):
            await rig.code("prod/other")
        row = rig.database.read_one("SELECT body FROM audit WHERE run_id = 'run_operator'")
        assert row is not None
        assert json.loads(row["body"])["codes"] == "begin anew"
    async with open_rig(tmp_path, time=time) as rig:
        await rig.vault.keeping.amend("prod/other", setting(SEED_80_BITS), run_id="run_operator")
        for path in ("prod/crm", "prod/other"):
            await rig.code(path)


def test_v20_classic_seeds_of_80_bits_are_accepted() -> None:
    import pyotp

    seed = parse_seed(SEED_80_BITS)
    assert len(seed.key) == 10
    # RFC 4226's way to a code, step by step, as a second opinion.
    assert seed.code(1) == "996554"
    assert len(pyotp.random_base32()) == 32
