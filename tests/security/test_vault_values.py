"""A secret's value is shown to nobody who may only use it (V09, V22, L09, L16, L17, L21, L23)."""

from __future__ import annotations

import copy
import json
import pickle
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.facts import SecretUse
from mcp_spaces.core.operation import Audience
from mcp_spaces.core.redaction import Redactor, encodings
from mcp_spaces.core.scope import VaultGrant
from mcp_spaces.errors import Denied, SpacesError
from mcp_spaces.server.schemas import tool_schema
from mcp_spaces.vault.model import SecretValue
from tests.security.app import open_world
from tests.security.vaults import CANARY, everything_stored, mounted, refusal, world_with
from tests.vault.rig import SEED_80_BITS, open_rig

ROOT = Path(__file__).resolve().parents[2]


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
        "mcp_spaces/browser/secrets/filling.py",
        "mcp_spaces/browser/secrets/login.py",
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


async def test_v09_the_vault_itself_opens_nothing_raw_without_a_grant_for_it(tmp_path: Path) -> None:
    """Whoever asks it, and whatever was asked before: the last one who could say no."""
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/api", value=CANARY)
        scope = VaultGrant(allow=("prod",))
        for asked in (
            rig.vault.read_raw("prod/api", None, scope=scope, run_id="run_x"),
            rig.vault.open("prod/api", scope=scope, purpose=SecretUse.RAW_READ, run_id="run_x"),
        ):
            with pytest.raises(Denied) as refused:
                await asked
            assert refused.value.rule == "scope.vault.allow_raw_reads"
        assert await rig.vault.last_use("prod/api") is None


def test_l23_no_argument_is_asked_for_in_a_header() -> None:
    """Neither by what an operation says of its input nor by what clients are told of it."""
    told = [(operation.input.model_json_schema(), tool_schema(operation)) for operation in CATALOGUE]
    assert [one for one in told if "header" in json.dumps([*_keys(one)]).lower()] == []


def _keys(schema: Any) -> Iterator[str]:
    """What is said of arguments: not their own names, nor texts."""
    if isinstance(schema, dict):
        for name, value in schema.items():
            yield from () if name == "properties" else (name,)
            yield from _keys([*value.values()] if name == "properties" else value)
    elif isinstance(schema, list | tuple):
        for one in schema:
            yield from _keys(one)


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
                ("operation.call", {"operation": "vault_set", "input": arguments}),
                ("operation.call", {"operation": "vault.set", "arguments": arguments}),
                ("operation.call", {"operation": "vault.set", "input": {}, **arguments}),
                ("policy.explain", {"space": "none", "operation": "vault.set", "input": arguments}),
            ):
                with pytest.raises(SpacesError) as refused:
                    await world.govern(operation, **given_input)
                assert CANARY not in f"{refused.value.message} {refused.value.hint}"
        stored = everything_stored(world.database)
        assert [form for form in encodings(CANARY) if form in stored] == []
        assert SEED_80_BITS not in stored
        assert code not in stored.splitlines()
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


async def test_v22_a_short_secret_is_warned_about_and_never_shown(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        stored = await world.govern("vault.set", path="prod/pin", kind="value", value="admin")
        assert stored.warnings is not None and "6 characters" in stored.warnings[0]
        with pytest.raises(Denied, match="fewer than 6") as refused:
            await world.govern("vault.get", path="prod/pin")
        assert refused.value.details() == {"rule": "vault.too_short"}
        assert "the gateway does not" in refused.value.hint
        await world.govern("vault.set", path="prod/l", kind="login", username="running", password=CANARY)
        shown = await world.govern("vault.get", path="prod/l", field="username")
        assert shown.value == "running"
    redactor = Redactor()
    redactor.learn("admin", name="prod/pin")
    assert redactor.text("the admin page") == "the admin page"
