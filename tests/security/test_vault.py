"""Attacks on the vault: each case is named after its line in docs/threat-model.md."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
import subprocess
import sys
import time as clocks
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.facts import SecretUse
from mcp_spaces.core.operation import Audience
from mcp_spaces.core.redaction import Redactor, encodings
from mcp_spaces.core.scope import VaultGrant, VaultPrefix
from mcp_spaces.errors import Busy, Denied, InvalidInput, NotFound, SpacesError, WrongState
from mcp_spaces.vault.cipher import DataKey, open_secret, seal_secret
from mcp_spaces.vault.imports import BYTES_MAX, Format, parse_export
from mcp_spaces.vault.master_key import Given, Source, Stretching
from mcp_spaces.vault.model import PATH, Bindings, Entry, Kind, SecretValue, VaultPath
from mcp_spaces.vault.totp import parse_seed
from mcp_spaces.vault.wanted import Wanted, amended, wanted_entry
from tests.folders import content_of, files_below
from tests.security.app import World, line_to, nursery, open_world, short_folder
from tests.vault.rig import EVERYTHING, SEED_80_BITS, Rig, Time, open_rig

CANARY = "kanarie-7f3Q+zz/9 é"
"""Changes in every encoding, and has a space, a slash, a plus and a letter beyond ASCII."""
ROOT = Path(__file__).resolve().parents[2]
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


async def world_with(world: World, **secrets: str) -> None:
    for path, value in secrets.items():
        await world.govern("vault.set", path=path.replace("__", "/"), kind="value", value=value)


async def mounted(
    world: World, *, allow: list[str], deny: list[str] | None = None, raw: bool = False, name: str = "work"
) -> str:
    """A space of the local agent with a vault mount; the principal may have that much."""
    vault = {"allow": allow, "deny": deny or [], "allow_raw_reads": raw}
    await world.govern(
        "principal.grant", principal="local-agent", policy="permissive", scope={"vault": {**vault, "deny": []}}
    )
    return await world.space(name, policy={"preset": "permissive"}, mounts={"vault": vault})


async def refusal(world: World, operation_id: str, **arguments: Any) -> SpacesError:
    with pytest.raises(SpacesError) as refused:
        await world.call(operation_id, **arguments)
    return refused.value


def raw_files(folder: Path) -> bytes:
    return b"\n".join(map(content_of, files_below(folder)))


# ------------------------------------------------------------------------------------------------------ grammar


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
    started = clocks.perf_counter()
    for grammar in (PREFIXES, PATHS):
        with pytest.raises(ValidationError):
            grammar.validate_python(rule)
    assert clocks.perf_counter() - started < 0.2


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


# ------------------------------------------------------------------------------------------------- never shown


def test_v09_one_function_decrypts_and_few_places_reveal() -> None:
    sources = {
        str(path.relative_to(ROOT)): path.read_text("utf-8")
        for path in (ROOT / "mcp_spaces").rglob("*.py")
        if "mcp_spaces/sandbox/agent" not in str(path)
    }

    def callers(pattern: str) -> set[str]:
        return {name for name, text in sources.items() if re.search(pattern, text)}

    assert callers(r"\bAESGCM\b") == {"mcp_spaces/vault/cipher.py"}
    assert callers(r"(?<!def )\bopen_secret\(") == {"mcp_spaces/vault/store.py", "mcp_spaces/vault/unlocking.py"}
    # A further one is a decision: what it does with the value, and who learns of it.
    assert callers(r"\.reveal\b") == {
        "mcp_spaces/browser/filling.py",
        "mcp_spaces/browser/login.py",
        "mcp_spaces/network/injection.py",
        "mcp_spaces/sandbox/references.py",
        "mcp_spaces/vault/cipher.py",
        "mcp_spaces/vault/codes.py",
        "mcp_spaces/vault/keeping.py",
        "mcp_spaces/vault/operations.py",
        "mcp_spaces/vault/store.py",
    }


def filled(example: Any, text: str) -> Any:
    """The same shape with `text` in the place of every free text."""
    if isinstance(example, dict):
        return {name: value if name == "space" else filled(value, text) for name, value in example.items()}
    if isinstance(example, list):
        return [filled(one, text) for one in example]
    return text if isinstance(example, str) else example


async def test_v09_no_operation_of_an_agent_shows_a_secret_that_may_only_be_used(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.govern(
            "vault.set", path="prod/api", kind="login", username="ann", password=CANARY, totp=SEED_80_BITS
        )
        space = await mounted(world, allow=["prod"])
        await world.launched(space, alias="box")
        operations = [one for one in CATALOGUE if one.audience is Audience.EVERYONE and one.id != "space.delete"]
        said: list[str] = []
        for operation in operations:
            # A second code would be one of the next half minute.
            texts = (
                ()
                if operation.id == "vault.totp"
                else ("prod/api", "{{vault:prod/api}}", "{{vault:prod/api#password}}", "vault://prod/api")
            )
            for example in (dict(operation.example), *(filled(dict(operation.example), text) for text in texts)):
                if "path" in example and operation.noun == "vault":
                    example["path"] = "prod/api"
                if "space" in operation.input.model_fields:
                    example["space"] = space
                try:
                    answer = await world.call(operation.id, **example)
                    said.append(answer.model_dump_json())
                except SpacesError as error:
                    said.append(f"{error.message} {error.hint} {error.details()}")
        everything = "\n".join(said)
        assert [form for form in encodings(CANARY) if form in everything] == []
        assert len(said) == 5 * len(operations) - 4
        assert (await refusal(world, "vault.get", space=space, path="prod/api")).details() == {
            "rule": "scope.vault.allow_raw_reads"
        }


@pytest.mark.parametrize("raw_mount", [False, True])
@pytest.mark.parametrize("raw_policy", ["deny", "ask"])
async def test_v09_raw_reads_need_the_mount_and_the_policy(tmp_path: Path, raw_mount: bool, raw_policy: str) -> None:
    """The widest policy that a space can have asks a person."""
    async with open_world(tmp_path) as world:
        await world_with(world, prod__api=CANARY)
        mounts = {"vault": {"allow": ["prod"], "allow_raw_reads": raw_mount}}
        await world.govern("principal.grant", principal="local-agent", policy="permissive", scope=mounts)
        policy = {"preset": "permissive", "overrides": {"secrets": {"raw_reads": raw_policy}}}
        space = await world.space("work", policy=policy, mounts=mounts)
        refused = await refusal(world, "vault.get", space=space, path="prod/api")
        if not raw_mount:
            assert refused.details() == {"rule": "scope.vault.allow_raw_reads"}
        elif raw_policy == "deny":
            assert refused.details() == {"rule": "secrets.raw_reads"}
        else:
            await world.govern("approval.grant", approval=refused.details()["approval_id"])
            assert (await world.call("vault.get", space=space, path="prod/api")).value == CANARY
            assert (await refusal(world, "vault.get", space=space, path="prod/api")).code == "approval_needed"


async def test_l17_agent_context_and_schemas_hold_no_secret(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.govern("vault.set", path="prod/api", kind="login", password=CANARY, totp=SEED_80_BITS)
        space = await mounted(world, allow=["prod"], raw=True)
        told = [
            (await world.call("context.get", space=space, topic=topic, detail="full")).model_dump_json()
            for topic in ("all", "operations", "rules", "examples", "vault.get", "vault.totp")
        ]
        assert [form for form in (*encodings(CANARY), SEED_80_BITS) if form in "\n".join(told)] == []


async def test_l21_what_no_run_has_opened_is_echoed_unchanged(tmp_path: Path) -> None:
    """Else an agent could guess until an echo comes back redacted."""
    async with open_world(tmp_path) as world:
        await world_with(world, prod__api="guessed-value")
        space = await mounted(world, allow=["prod"])
        await world.call("storage.upload", space=space, path="guess.txt", content="guessed-value")
        read = await world.call("storage.read", space=space, path="guess.txt")
        assert read.content == "guessed-value"


def test_l23_no_argument_is_asked_for_in_a_header() -> None:
    schemas = [json.dumps(operation.input.model_json_schema()).lower() for operation in CATALOGUE]
    assert [schema for schema in schemas if "x-mcp-header" in schema] == []


async def test_l16_records_name_path_version_and_purpose_and_never_the_value(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.govern("vault.set", path="prod/api", kind="login", password=CANARY, totp=SEED_80_BITS)
        await world.govern("vault.update", path="prod/api", password=CANARY + "2")
        await world.govern(
            "operation.call", operation="vault.set", input={"path": "prod/b", "kind": "value", "value": CANARY}
        )
        shown = await world.outcome("vault.get", caller=world.operator, path="prod/api")
        assert shown.output.model_dump()["value"] == CANARY + "2"
        through = await world.outcome(
            "operation.call", caller=world.operator, operation="vault.get", input={"path": "prod/b"}
        )
        assert CANARY in json.dumps(through.output.model_dump(), ensure_ascii=False)
        code = (await world.govern("vault.totp", path="prod/api")).code
        for arguments in (
            {"path": "prod/api", "kind": "value", "pasword": CANARY},
            {"path": "BAD PATH", "kind": "value", "value": CANARY},
            {"path": "prod/x", "kind": "value", "value": [CANARY]},
            {"path": "prod/x", "kind": "api_key", "value": CANARY},
            {"path": "prod/x", "kind": "login", "password": "x" * 9, "totp": CANARY},
        ):
            for operation, given_input in (
                ("vault.set", arguments),
                ("operation.call", {"operation": "vault.set", "input": arguments}),
                ("policy.explain", {"space": "none", "operation": "vault.set", "input": arguments}),
            ):
                with pytest.raises(SpacesError) as refused:
                    await world.govern(operation, **given_input)
                assert CANARY not in f"{refused.value.message} {refused.value.hint}"
        tables = [row["name"] for row in world.database.read("SELECT name FROM sqlite_master WHERE type = 'table'")]
        stored = "\n".join(
            repr(tuple(row)) for table in tables for row in world.database.read(f"SELECT * FROM {table}")
        )
        assert [form for form in encodings(CANARY) if form in stored] == []
        assert SEED_80_BITS not in stored
        assert f"'{code}'" not in stored
        uses = [json.loads(row["body"]) for row in world.database.read("SELECT body FROM audit WHERE kind = 'vault'")]
        assert {"action": "use", "path": "prod/api", "version": 2, "purpose": "raw_read", "generation": 3} in uses
        events = await world.govern("run.get", run=shown.run_id)
        assert '"purpose":"raw_read"' in events.model_dump_json()


def test_l09_a_secret_shows_only_its_name_wherever_it_goes() -> None:
    secret = SecretValue(CANARY, name="prod/api#token")

    def fail(held: SecretValue) -> None:
        raise RuntimeError(f"{held} {held!r} {held:>40} {[held]} %s" % held)

    with pytest.raises(RuntimeError) as failed:
        fail(secret)
    shown = "".join(traceback.TracebackException.from_exception(failed.value, capture_locals=True).format())
    assert "<secret prod/api#token>" in shown
    assert CANARY not in shown
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError) as refused:
            attempt(secret)
        assert CANARY not in str(refused.value)
    with pytest.raises(TypeError):
        vars(secret)
    assert secret.reveal() == CANARY


# ------------------------------------------------------------------------------------------------------ at rest


async def changed_while_stopped(folder: Path, change: Callable[[Any], None]) -> None:
    import sqlite3

    connection = sqlite3.connect(folder / "state.db")
    try:
        change(connection)
        connection.commit()
    finally:
        connection.close()


def _swap(connection: Any) -> None:
    a, b = (
        connection.execute("SELECT sealed FROM vault_versions WHERE path = ?", (path,)).fetchone()[0]
        for path in ("prod/a", "prod/b")
    )
    connection.execute("UPDATE vault_versions SET sealed = ? WHERE path = 'prod/a'", (b,))
    connection.execute("UPDATE vault_versions SET sealed = ? WHERE path = 'prod/b'", (a,))


def _roll_back_box(connection: Any) -> None:
    old = connection.execute("SELECT sealed FROM vault_versions WHERE path = 'prod/c' AND version = 1").fetchone()[0]
    connection.execute("UPDATE vault_versions SET sealed = ? WHERE path = 'prod/c' AND version = 2", (old,))


def _roll_back_row(connection: Any) -> None:
    body = connection.execute("SELECT body FROM vault_versions WHERE path = 'prod/c' AND version = 1").fetchone()[0]
    connection.execute("UPDATE vault_entries SET version = 1, body = ? WHERE path = 'prod/c'", (body,))


def _delete_row(connection: Any) -> None:
    connection.execute("DELETE FROM vault_entries WHERE path = 'prod/b'")


def _delete_box(connection: Any) -> None:
    connection.execute("DELETE FROM vault_versions WHERE path = 'prod/a'")


def _rebind(connection: Any) -> None:
    connection.execute("UPDATE vault_entries SET body = replace(body, 'https://a.example', 'https://b.example')")


def _rename(connection: Any) -> None:
    connection.execute("PRAGMA foreign_keys = OFF")
    for table in ("vault_entries", "vault_versions"):
        connection.execute(f"UPDATE {table} SET path = 'open/a', body = replace(body, 'prod/a', 'open/a')"
                           " WHERE path = 'prod/a'")  # fmt: skip


@pytest.mark.parametrize("change", [{"origins": ["https://evil.example"]}, {"kind": "api_key"}, {"version": 1}])
async def test_v10_a_version_that_was_changed_on_the_disk_is_not_restored(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    async with open_rig(tmp_path) as rig:
        for value in ("first value", "second value", "third value"):
            await rig.put("prod/a", value=value, origins=("https://a.example",))
        (row,) = rig.database.read("SELECT body FROM vault_versions WHERE version = 2")
        entry = json.loads(row["body"])
        entry |= {"bindings": {**entry["bindings"], **change}} if "origins" in change else change
        body = json.dumps(entry)
        await rig.database.write(lambda tx: tx.execute("UPDATE vault_versions SET body = ? WHERE version = 2", (body,)))
        with pytest.raises(WrongState, match="damaged or changed"):
            await rig.vault.keeping.restore("prod/a", 2, run_id="run_x")
        assert await shown(rig, "prod/a") == "third value"
        assert (await rig.vault.keeping.restore("prod/a", 1, run_id="run_x")).version == 4
        assert await shown(rig, "prod/a") == "first value"


@pytest.mark.parametrize(
    "change",
    [_swap, _roll_back_box, _roll_back_row, _delete_row, _delete_box, _rebind, _rename],
    ids=lambda one: one.__name__,
)
async def test_v10_rows_that_were_swapped_rolled_back_or_removed_open_nothing(
    tmp_path: Path, change: Callable[[Any], None]
) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value="one" + CANARY, origins=("https://a.example",))
        await rig.put("prod/b", value="two" + CANARY)
        await rig.put("prod/c", value="old" + CANARY)
        await rig.put("prod/c", value="new" + CANARY)
    await changed_while_stopped(tmp_path, change)
    async with open_rig(tmp_path) as rig:
        with pytest.raises(WrongState, match="changed outside") as refused:
            await open_all(rig, "prod/a", "prod/c", "prod/b", "open/a")
        assert CANARY not in str(refused.value)


async def open_all(rig: Rig, *paths: str) -> None:
    for path in paths:
        await rig.vault.open(path, scope=EVERYTHING, purpose=SecretUse.RAW_READ, run_id="run_x")


async def test_v10_an_older_copy_of_the_whole_vault_is_noticed(tmp_path: Path) -> None:
    """Every MAC in it is right; the audit log knows a newer list (threat K13)."""
    tables = ("vault_entries", "vault_versions", "vault_index")
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value="leaked" + CANARY)
        old = {table: [tuple(row) for row in rig.database.read(f"SELECT * FROM {table}")] for table in tables}
        await rig.put("prod/a", value="fresh" + CANARY)

    def restore(connection: Any) -> None:
        for table in tables:
            connection.execute(f"DELETE FROM {table}")
            for row in old[table]:
                connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    await changed_while_stopped(tmp_path, restore)
    async with open_rig(tmp_path) as rig:
        with pytest.raises(WrongState, match="changed outside"):
            await rig.vault.entries(scope=EVERYTHING)


async def test_v10_a_secret_that_is_set_again_after_its_deletion_is_another_one(tmp_path: Path) -> None:
    """Same path, same version: an old box must not fit."""
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value="old" + CANARY)
        old = rig.database.read("SELECT sealed FROM vault_versions")[0]["sealed"]
        await rig.vault.keeping.delete("prod/a", run_id="run_x")
        await rig.put("prod/a", value="new" + CANARY)
    await changed_while_stopped(tmp_path, lambda one: one.execute("UPDATE vault_versions SET sealed = ?", (old,)))
    async with open_rig(tmp_path) as rig:
        with pytest.raises(WrongState):
            await rig.vault.open("prod/a", scope=EVERYTHING, purpose=SecretUse.RAW_READ, run_id="run_x")


def test_v11_no_nonce_is_used_twice() -> None:
    wanted = wanted_entry("prod/a", Kind.VALUE, {"value": "x"}, label=None, bindings=Bindings(), now=0)
    key = DataKey.new()
    nonces = {seal_secret({"value": "x"}, entry=wanted.entry, data_key=key, vault_id="va")[:12] for _ in range(100_000)}
    assert len(nonces) == 100_000


def test_v11_every_part_of_what_a_box_belongs_to_counts() -> None:
    wanted = wanted_entry(
        "prod/a", Kind.VALUE, {"value": CANARY}, label=None, bindings=Bindings(origins=("https://a.example",)), now=0
    )
    key, entry = DataKey.new(), wanted.entry
    box = seal_secret(wanted.fields, entry=entry, data_key=key, vault_id="va_1")
    opened = open_secret(box, entry=entry, data_key=key, vault_id="va_1", purpose=SecretUse.RAW_READ)
    assert opened["value"].reveal() == CANARY
    others = [
        entry.model_copy(update=change)
        for change in (
            {"id": "vs_other"}, {"path": "prod/b"}, {"kind": Kind.API_KEY}, {"version": 2},
            {"bindings": Bindings(origins=("https://b.example",))}, {"bindings": Bindings()},
        )
    ]  # fmt: skip
    attempts = [(box, other, key, "va_1") for other in others]
    attempts += [(box, entry, key, "va_2"), (box, entry, DataKey(key.id, os.urandom(32)), "va_1")]
    attempts += [(box, entry, DataKey("dk_other", key.key), "va_1"), (box[:20], entry, key, "va_1")]
    attempts += [(box[:index] + bytes([box[index] ^ 1]) + box[index + 1 :], entry, key, "va_1") for index in range(40)]
    for sealed, other, data_key, vault_id in attempts:
        with pytest.raises(WrongState):
            open_secret(sealed, entry=other, data_key=data_key, vault_id=vault_id, purpose=SecretUse.RAW_READ)


async def test_v12_no_file_of_the_state_directory_holds_a_secret_in_any_form(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.govern("vault.set", path="prod/api", kind="login", password=CANARY, totp=SEED_80_BITS)
        await world.govern("vault.get", path="prod/api")
        await world.govern("vault.totp", path="prod/api")
        await world.govern("vault.update", path="prod/api", notes=CANARY)
        await world.govern("vault.rotate")
        found = raw_files(tmp_path / "state")
        forms = [form.encode() for secret in (CANARY, SEED_80_BITS) for form in encodings(secret)]
        forms += [CANARY.encode("utf-16-le"), CANARY.encode("latin-1")]
        assert [form for form in forms if form in found] == []


async def test_v13_what_was_deleted_is_in_no_file_not_even_sealed(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        for number in range(20):
            await rig.put(f"prod/other{number}", value=CANARY * 20)
        await rig.put("prod/a", value=CANARY * 50)
        box = bytes(rig.database.read("SELECT sealed FROM vault_versions WHERE path = 'prod/a'")[0]["sealed"])
        assert box[:200] in raw_files(tmp_path)
        await rig.vault.keeping.delete("prod/a", run_id="run_x")
        left = raw_files(tmp_path)
        assert [start for start in range(0, len(box) - 32, 32) if box[start : start + 32] in left] == []


async def test_v13_after_a_rotation_boxes_of_the_old_key_are_in_no_file(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value=CANARY)
        box, wrapped = (
            bytes(rig.database.read(f"SELECT {column} FROM {table}")[0][column])
            for table, column in (("vault_versions", "sealed"), ("vault_keys", "wrapped"))
        )
        assert await rig.vault.keys.rotate(run_id="run_x") == 1
        left = raw_files(tmp_path)
        assert box not in left
        assert wrapped not in left
        assert await shown(rig, "prod/a") == CANARY


async def shown(rig: Rig, path: str) -> str:
    opened = await rig.vault.open(path, scope=EVERYTHING, purpose=SecretUse.RAW_READ, run_id="run_x")
    field = opened.field()
    assert field is not None
    return field.reveal()


V14 = """
import os, resource
from pathlib import Path
from mcp_spaces.server.private_process import keep_private
from mcp_spaces.vault.master_key import taken_from
key = os.environ["MCP_SPACES_MASTER_KEY"]
assert key.encode() in Path("/proc/self/environ").read_bytes()
given = taken_from(os.environ)
assert given.key == key
assert "MCP_SPACES_MASTER_KEY" not in os.environ
assert key.encode() not in Path("/proc/self/environ").read_bytes()
assert key.encode() not in Path("/proc/self/cmdline").read_bytes()
keep_private()
import ctypes
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
print("clean", flush=True)
os.abort()
"""


def test_v14_the_master_key_is_in_no_environment_command_line_or_core(tmp_path: Path) -> None:
    environment = {**os.environ, "MCP_SPACES_MASTER_KEY": "5e" * 32, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", V14], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("clean\n", -6), done.stderr
    assert list(tmp_path.iterdir()) == []


def of_process(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


async def test_v14_a_daemon_writes_no_core() -> None:
    with short_folder() as folder:
        async with nursery() as daemons:
            pid = await daemons.running(folder / "state")
            assert re.search(r"Max core file size +0 +0 ", of_process(pid, "limits"))
            await daemons.stop(pid)


@pytest.mark.parametrize(
    "weaker", [{"memory_kib": 19 * 1024 - 1}, {"iterations": 1}, {"lanes": 0}, {"salt": "00" * 15}, {"salt": "zz" * 16}]
)
async def test_v15_weak_stretching_is_refused_wherever_it_comes_from(tmp_path: Path, weaker: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Stretching(**{"salt": "00" * 16, **weaker})
    phrase = Given(passphrase="long enough for this")
    async with open_rig(tmp_path, source=Source.PASSPHRASE, given=phrase) as rig:
        await rig.put("prod/a", value=CANARY)
        stored = json.loads(rig.database.read("SELECT body FROM vault_master")[0]["body"])
        assert stored["stretching"]["memory_kib"] == 64 * 1024
    stored["stretching"] |= weaker
    await changed_while_stopped(
        tmp_path, lambda one: one.execute("UPDATE vault_master SET body = ?", (json.dumps(stored),))
    )
    async with open_rig(tmp_path, source=None, given=phrase) as rig:
        with pytest.raises(WrongState):
            await rig.vault.entries(scope=EVERYTHING)


async def test_v16_a_kill_while_keys_change_leaves_every_secret_readable() -> None:
    """Twelve kills at random instants of `rekey` and `rotate`."""
    chance = Random(16)
    with short_folder() as folder:
        state = folder / "state"
        async with nursery() as daemons:
            pid = await daemons.running(state)
            async with line_to(state, operator=True) as line:
                for number in range(8):
                    said = await line.call("vault.set", path=f"prod/a{number}", kind="value", value=f"{CANARY}{number}")
                    assert said.code is None
            for round_number in range(12):
                operation = ("vault.rekey", "vault.rotate")[round_number % 2]
                async with anyio.create_task_group() as tasks:

                    async def change(operation: str = operation) -> None:
                        try:
                            async with line_to(state, operator=True) as line:
                                while True:
                                    await line.call(operation)
                        except Exception:
                            return

                    tasks.start_soon(change)
                    # The instant of the kill is what varies; nothing is waited for.
                    await anyio.sleep(0.02 + chance.random() * 0.05)
                    os.kill(pid, 9)
                await daemons.gone()
                pid = await daemons.running(state)
                async with line_to(state, operator=True) as line:
                    for number in (0, 7):
                        said = await line.call("vault.get", path=f"prod/a{number}")
                        assert said.content["value"] == f"{CANARY}{number}"
                assert not list(state.glob("master.key.*"))
            await daemons.stop(pid)


# -------------------------------------------------------------------------------------------------------- codes


async def test_v17_a_one_time_seed_is_shown_to_nobody(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.govern("vault.set", path="prod/crm", kind="login", password=CANARY, totp=SEED_80_BITS)
        with pytest.raises(Denied, match="shown to nobody"):
            await world.govern("vault.get", path="prod/crm", field="totp")
        view = await world.govern("vault.describe", path="prod/crm")
        assert view.fields == ["password", "totp"]
    async with open_rig(tmp_path / "state") as rig:
        await rig.login("prod/crm")
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


# ------------------------------------------------------------------------------------------------------ imports


def bitwarden(*items: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"encrypted": False, "folders": [], "items": list(items), **more}).encode()


def login_item(name: str = "Site", **login: Any) -> dict[str, Any]:
    return {"type": 1, "name": name, "login": {"username": "ann", "password": CANARY, **login}}


HOSTILE = {
    "huge": b"[" + b" " * (BYTES_MAX + 1),
    "not text": b"\xff\xfe{}",
    "no json": b'{"items": [',
    "key twice": b'{"items": [], "items": [{"type": 1}]}',
    "deep": b"[" * 100_000,
    "encrypted": bitwarden(encrypted=True),
    "unknown form": b'{"secrets": []}',
    "items no list": b'{"items": {"a": 1}, "accounts": 3}',
    "item no object": b'{"items": [1]}',
    "name no text": bitwarden({"type": 1, "name": 3, "login": {"password": CANARY}}),
    "password no text": bitwarden(login_item(password={"a": CANARY})),
    "huge password": bitwarden(login_item(password="x" * 70_000)),
    "bad seed": bitwarden(login_item(totp=CANARY)),
    "lone surrogate": b'{"items": [{"type": 1, "name": "a", "login": {"password": "\\ud800abcdef"}}]}',
    "too many": bitwarden(*({"type": 2, "name": f"n{n}", "notes": "x"} for n in range(10_001))),
    "same twice": bitwarden(login_item(), login_item()),
    "empty csv": b"",
    "other csv": b"a,b\n1,2\n",
    "column twice": b"title,username,password,password\na,b,c,d\n",
    "row too long": b"title,username,password\na,b,c,d\n",
    "open quote": b'title,username,password\n"a,b,c\n',
    "million rows": b"title,username,password\n" + b"a,b,c\n" * 1_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_v21_a_hostile_export_is_refused_whole(tmp_path: Path, name: str) -> None:
    file = tmp_path / "export"
    file.write_bytes(HOSTILE[name])
    async with open_world(tmp_path) as world:
        with pytest.raises(InvalidInput) as refused:
            await world.govern("vault.import", file=str(file))
        assert CANARY not in f"{refused.value.message} {refused.value.hint}"
        assert (await world.govern("vault.list")).total == 0


async def test_v21_all_of_an_export_is_stored_or_nothing(tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    file.write_bytes(bitwarden(login_item("One"), login_item("Two"), {"type": 3, "name": "Visa", "card": {}}))
    async with open_world(tmp_path) as world:
        tried = await world.govern("vault.import", file=str(file), dry_run=True)
        assert tried.paths == ["imported/one", "imported/two"]
        assert tried.skipped == ["item 3: card"]
        assert (await world.govern("vault.list")).total == 0
        await world_with(world, imported__two="already here")
        with pytest.raises(SpacesError) as refused:
            await world.govern("vault.import", file=str(file))
        assert refused.value.code == "conflict"
        assert (await world.govern("vault.list")).total == 1
        await world.govern("vault.import", file=str(file), prefix="mine")
        assert (await world.govern("vault.get", path="mine/two")).value == CANARY


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+1+1", "-2", "@SUM(A1)", "\tx", '=HYPERLINK("http://x")'])
def test_v21_a_formula_is_text_like_any_other(cell: str) -> None:
    quoted = '"' + cell.replace('"', '""') + '"'
    text = f"Title,Url,Username,Password,OTPAuth,Favorite,Archived,Tags,Notes\r\n{quoted},{quoted},,{quoted},,,,,\r\n"
    (item,) = parse_export(text.encode(), chosen=Format.AUTO, prefix="x").items
    assert item.fields == {"password": cell}
    assert item.bindings.origins == ()
    assert re.fullmatch(PATH, item.path)


# -------------------------------------------------------------------------------------------------- short ones


async def test_v22_a_short_secret_is_warned_about_and_never_shown(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        stored = await world.govern("vault.set", path="prod/pin", kind="value", value="admin")
        assert stored.warnings is not None
        with pytest.raises(Denied, match="fewer than 6") as refused:
            await world.govern("vault.get", path="prod/pin")
        assert refused.value.details() == {"rule": "vault.too_short"}
        await world.govern("vault.set", path="prod/l", kind="login", username="running", password=CANARY)
        shown = await world.govern("vault.get", path="prod/l", field="username")
        assert shown.value == "running"
    redactor = Redactor()
    redactor.learn("admin", name="prod/pin")
    assert redactor.text("the admin page") == "the admin page"
