"""Which secrets a path, a rule and a scope name (V01–V08): each case is named after its line in docs/threat-model.md."""

from __future__ import annotations

import os
import time as clocks
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from mcp_spaces.core.scope import VaultGrant, VaultPrefix
from mcp_spaces.errors import InvalidInput, NotFound
from mcp_spaces.vault.model import PATH, VaultPath
from tests.security.app import open_world
from tests.security.vaults import CANARY, mounted, refusal, world_with
from tests.vault.rig import SEED_80_BITS, open_rig

PATHS = TypeAdapter(VaultPath)
PREFIXES = TypeAdapter(VaultPrefix)

BAD_PATHS = [
    "", "/", "prod/", "/prod", "prod//crm", "prod/./crm", "prod/../admin", "prod/crm/../admin", "..", ".", "prod/.crm",
    "prod\\crm", "prod/crm\n", "\nprod/crm", "prod/crm ", " prod/crm", "prod/crm\0", "prod/cr m", "prod/%2e%2e/admin",
    "prod/crm#token", "prod/crm?x", "a/b/c/d/e/f/g/h/i", "a" * 64, "prod/" + "b" * 64, "-prod", "_prod",
]  # fmt: skip
LOOK_ALIKES = [
    "PROD/CRM", "Prod/crm", "prod/caf\u00e9", "prod/cafe\u0301", "\uff50\uff52\uff4f\uff44/crm", "prod/\u0433rm",
    "prod/crm\u200b", "prod\u2215crm", "prod/crm\u202e", "pr\u00f8d/crm", "prod/\u0661", "prod/crm\ud800",
]  # fmt: skip


@pytest.mark.parametrize("path", BAD_PATHS, ids=repr)
def test_v01_a_path_that_is_not_plain_is_refused_and_never_bent(path: str) -> None:
    with pytest.raises(ValidationError):
        PATHS.validate_python(path)


@given(st.text(max_size=40) | st.from_regex(PATH, fullmatch=True) | st.text("ab./-_\n", max_size=20))
def test_v01_what_the_grammar_lets_through_has_no_second_reading(path: str) -> None:
    try:
        kept = PATHS.validate_python(path)
    except ValidationError:
        return
    assert kept == path
    assert path.isascii()
    assert path == path.lower()
    assert os.path.normpath(path) == path
    assert 1 <= len(path.split("/")) <= 8


@given(st.lists(st.sampled_from(["a", "b", "ab", "a-b", "a.b"]), min_size=1, max_size=4).map("/".join), st.data())
def test_v02_a_rule_matches_exactly_the_paths_that_begin_with_its_segments(rule: str, data: st.DataObject) -> None:
    segments = st.lists(st.sampled_from(["a", "b", "ab", "a-b", "a.b"]), min_size=1, max_size=5)
    path = data.draw(segments.map("/".join))
    begins = path.split("/")[: len(rule.split("/"))] == rule.split("/")
    assert VaultGrant(allow=(rule,)).permits(path) == begins
    assert VaultGrant(allow=("*",), deny=(rule,)).permits(path) == (not begins)


@pytest.mark.parametrize("path", LOOK_ALIKES, ids=ascii)
async def test_v03_look_alikes_are_refused_in_secrets_and_in_rules(tmp_path: Path, path: str) -> None:
    for grammar in (PATHS, PREFIXES):
        with pytest.raises(ValidationError):
            grammar.validate_python(path)


async def test_v03_a_look_alike_gets_into_neither_the_vault_nor_a_mount(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        for path in LOOK_ALIKES:
            for call in (
                world.govern("vault.set", path=path, kind="value", value=CANARY),
                world.govern("principal.grant", principal="local-agent", scope={"vault": {"allow": [path]}}),
                world.call("space.create", name="work", mounts={"vault": {"allow": [path]}}),
            ):
                with pytest.raises(InvalidInput):
                    await call


RULES = st.lists(st.sampled_from(["*", "a", "b", "a/a", "a/b", "a/a/b", "ab"]), max_size=4).map(tuple)


# What random rules seldom are: each level denies something inside of what both allow.
@example(("*",), (), ("*",), ("a/a",), "a/a")
@example(("*",), ("a/a",), ("*",), (), "a/a/b")
@example(("a",), ("a/b",), ("a",), ("a/a",), "a/b")
@example(("a",), ("a/b",), ("a",), ("a/a",), "a/a/b")
@given(RULES, RULES, RULES, RULES, st.sampled_from(["a", "a/a", "a/b", "a/a/b", "a/a/b/c", "ab", "b", "b/a"]))
def test_v04_deny_wins_and_a_lower_level_only_narrows(
    allow: tuple[str, ...], deny: tuple[str, ...], lower_allow: tuple[str, ...], lower_deny: tuple[str, ...], path: str
) -> None:
    from mcp_spaces.core.scope import Scope, narrow

    upper = Scope(vault=VaultGrant(allow=allow, deny=deny))
    lower = Scope(vault=VaultGrant(allow=lower_allow, deny=lower_deny))
    both = narrow(upper, lower).vault
    assert both.permits(path) == (upper.vault.permits(path) and lower.vault.permits(path))
    more = VaultGrant(allow=allow, deny=(*deny, path))
    assert not more.permits(path)


@pytest.mark.parametrize("rule", ["[a-z]", "(?", "a*", "**", "prod/**", "(a+)+$", "a" * 10_240, "a/" * 5_000, "*" * 99])
def test_v05_a_rule_is_no_pattern_and_a_huge_one_costs_nothing(rule: str) -> None:
    # Of the processor: what else runs here does not count.
    started = clocks.thread_time()
    for grammar in (PREFIXES, PATHS):
        with pytest.raises(ValidationError):
            grammar.validate_python(rule)
    assert clocks.thread_time() - started < 0.2


async def test_v06_the_fields_of_a_secret_are_one_record_with_one_decision(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.govern(
            "vault.set", path="prod/crm", kind="login", username="ann", password=CANARY, totp=SEED_80_BITS
        )
        await mounted(world, allow=["prod/crm.totp", "prod/crm/totp"])
        for operation in ("vault.describe", "vault.totp"):
            for path in ("prod/crm", "prod/crm.totp", "prod/crm/totp"):
                assert (await refusal(world, operation, path=path)).code == "not_found"


async def test_v07_a_listing_and_its_count_show_only_what_may_be_used(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world_with(world, prod__a=CANARY, prod__b=CANARY, prod__c=CANARY, admin__root=CANARY, production=CANARY)
        await mounted(world, allow=["prod"], deny=["prod/b"])
        page = await world.call("vault.list")
        assert [one.path for one in page.secrets] == ["prod/a", "prod/c"]
        assert page.total == 2
        first = await world.call("vault.list", limit=1)
        assert (first.next_cursor, first.total) == ("prod/a", 2)
        assert [one.path for one in (await world.call("vault.list", limit=1, cursor="prod/a")).secrets] == ["prod/c"]
        assert (await world.call("vault.list", prefix="admin")).total == 0
        assert (await world.call("vault.list", prefix="pro")).total == 0
        assert (await world.govern("vault.list")).total == 5


async def test_v08_denied_and_absent_are_the_same_answer(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world_with(world, admin__root=CANARY)
        space = await mounted(world, allow=["prod"], raw=True)
        for operation in ("vault.describe", "vault.totp", "vault.get"):
            answers = []
            for path in ("admin/root", "admin/none", "prod/none"):
                error = await refusal(world, operation, space=space, path=path)
                if error.code == "approval_needed":
                    await world.govern("approval.grant", approval=error.details()["approval_id"])
                    error = await refusal(world, operation, space=space, path=path)
                answers.append((error.code, error.message, error.hint, error.retryable, error.details()))
            assert {code for code, *_ in answers} == {"not_found"}
            assert len(set(map(repr, answers))) == 1


async def test_v08_denied_and_absent_take_the_same_time(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        for number in range(200):
            await rig.put(f"admin/root{number}", value=CANARY)
        scope = VaultGrant(allow=("prod",))

        async def taken(path: str) -> float:
            started = clocks.perf_counter_ns()
            with pytest.raises(NotFound):
                await rig.vault.find(path, scope=scope)
            return clocks.perf_counter_ns() - started

        times: dict[str, list[float]] = {"admin/root7": [], "admin/none7": []}
        for _ in range(400):
            for path, found in times.items():
                found.append(await taken(path))
        # A lookup in memory against one that is missing: far less than what the record of the call costs.
        low, high = sorted(sorted(found)[200] for found in times.values())
        assert high - low < 20_000
