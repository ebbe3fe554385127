"""The vault as its callers know it: versions, bindings, references, uses, policy, the command line."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.cli import derived
from mcp_spaces.cli.command_line import command_line
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import SecretFacts, SecretUse
from mcp_spaces.core.policy import decide, load_preset
from mcp_spaces.core.policy.verdict import answer_of
from mcp_spaces.core.scope import VaultGrant
from mcp_spaces.errors import Conflict, Denied, InvalidInput, NotFound, WrongState
from mcp_spaces.vault.model import VERSIONS_KEPT, Bindings, Kind, Reference, reference
from mcp_spaces.vault.wanted import wanted_entry
from tests.cli.commands import run
from tests.security.app import open_world, short_folder
from tests.security.daemons import nursery
from tests.vault.rig import EVERYTHING, SEED_80_BITS, open_rig

ROOT = Path(__file__).resolve().parents[2]


async def test_a_login_that_may_go_nowhere_is_warned_about(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        login = {"path": "prod/crm", "kind": "login", "username": "ann", "password": "correct horse"}
        lost = await world.govern("vault.set", **login)
        assert lost.warnings == [
            "it goes nowhere without an origin: mcp-spaces vault update prod/crm --origins https://…"
        ]
        bound = await world.govern("vault.set", **login, origins=["https://crm.example.com"])
        plain = await world.govern("vault.set", path="prod/db", kind="value", value="correct horse")
    assert bound.warnings is plain.warnings is None


async def test_the_last_ten_versions_are_kept(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        entries = [await rig.put("prod/a", value=f"value {number}") for number in range(VERSIONS_KEPT + 3)]
        assert entries[-1].version == 13
        assert rig.vault.versions("prod/a") == list(range(13, 3, -1))
        opened = await rig.vault.open("prod/a", scope=EVERYTHING, purpose=SecretUse.RAW_READ, run_id="run_x")
        value = opened.field()
        assert value is not None
        assert value.reveal() == "value 12"


async def test_a_kept_version_becomes_the_newest_again_and_whole(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.govern(
            "vault.set", path="a", kind="login", username="ann", password="correct horse", totp=SEED_80_BITS,
            notes="of old", label="Site", origins=["https://a.example"],
        )  # fmt: skip
        await world.govern("vault.rotate")
        await world.govern("vault.set", path="a", kind="value", value="a mistake")
        restored = await world.govern("vault.restore", path="a", version=1)
        assert (restored.version, restored.versions) == (3, [3, 2, 1])
        assert (restored.kind, restored.label, restored.origins) == ("login", "Site", ["https://a.example"])
        assert restored.fields == ["username", "password", "totp", "notes"]
        assert (await world.govern("vault.get", path="a")).value == "correct horse"
        assert (await world.govern("vault.get", path="a", field="notes")).value == "of old"
        await world.govern("vault.totp", path="a")
        for wrong in ({"path": "a", "version": 4}, {"path": "b", "version": 1}):
            with pytest.raises(NotFound):
                await world.govern("vault.restore", **wrong)
    async with open_world(tmp_path) as world:
        assert (await world.govern("vault.get", path="a")).value == "correct horse"


async def test_each_use_is_counted_and_survives_a_restart(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value="a value", origins=("https://a.example",))
        for _ in range(2):
            await rig.vault.open(
                "prod/a",
                scope=EVERYTHING,
                purpose=SecretUse.GATEWAY_INJECT,
                run_id="run_x",
                origin="https://a.example",
            )
    async with open_rig(tmp_path) as rig:
        use = await rig.vault.last_use("prod/a")
        assert use is not None
        assert (use.uses, use.purpose, use.version, use.run_id) == (2, SecretUse.GATEWAY_INJECT, 1, "run_x")


async def test_a_use_that_was_stored_by_an_older_version_is_still_read(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.login("prod/a")
        await rig.code("prod/a")
        (row,) = rig.database.read("SELECT body FROM vault_uses")
        body = json.dumps({**json.loads(row["body"]), "totp_step": 60_000_000})
        mac = rig.database.sealer.seal_row("vault_uses", "prod/a", body)
        await rig.database.write(lambda tx: tx.execute("UPDATE vault_uses SET body = ?, mac = ?", (body, mac)))
    async with open_rig(tmp_path) as rig:
        assert await rig.code("prod/a")


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "https://b.example",
        "http://a.example",
        "https://a.example:8443",
        "https://a.example.evil",
        "https://evil.a.example",
        "https://A.example",
        "https://a.example@evil",
    ],
)
async def test_a_secret_goes_only_where_it_is_bound(tmp_path: Path, origin: str | None) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/a", value="a value", origins=("https://a.example",))
        with pytest.raises(Denied) as refused:
            await rig.vault.open(
                "prod/a", scope=EVERYTHING, purpose=SecretUse.GATEWAY_INJECT, run_id="run_x", origin=origin
            )
        assert refused.value.rule == "vault.origins"
        assert await rig.vault.last_use("prod/a") is None


def test_patterns_mean_sub_domains_only() -> None:
    bindings = Bindings(origin_patterns=("https://*.example.com", "https://*.a.example:8443"))
    good = ["https://a.example.com", "https://a.b.example.com", "https://x.a.example:8443"]
    bad = [
        "https://example.com", "https://.example.com", "https://aexample.com", "http://a.example.com",
        "https://a.example.com:8443", "https://u@a.example.com", "https://a/b.example.com", "https://x.a.example",
    ]  # fmt: skip
    assert [one for one in (*good, *bad) if bindings.permits(one)] == good


@pytest.mark.parametrize(
    "origin",
    [
        "http://a.example", "https://a.example/", "https://a.example:443", "https://A.example", "https://*", "a.example",
        "https://a.example:99999", "https://u@a.example", "https://a.example\n", "https://é.example", "ftp://a.example",
        "http://127.0.0.1:80",
    ],
)  # fmt: skip
def test_an_origin_has_one_spelling(origin: str) -> None:
    with pytest.raises(ValidationError):
        Bindings(origins=(origin,))
    with pytest.raises(ValidationError):
        Bindings(origin_patterns=(origin,))


def test_headers_are_bound_too() -> None:
    assert Bindings().permits_header("Authorization")
    assert not Bindings().permits_header("x-api-key")
    assert Bindings(headers=("x-api-key",)).permits_header("X-Api-Key")
    assert not Bindings(headers=("x-api-key",)).permits_header("authorization")


def test_a_reference_is_all_of_its_text() -> None:
    assert reference("{{vault:prod/github#token}}") == Reference("prod/github", "token")
    assert reference("{{vault:prod/github}}") == Reference("prod/github", None)
    for text in (
        "{{vault:prod/github#}}", "{{vault:}}", "{{vault:prod//x}}", "{{vault:../x}}", "x{{vault:a}}", "{{vault:a}}\n",
        "{{vault: a}}", "{{VAULT:a}}", "{{vault:a#To}}", "{{vault:а}}", "{{vault:a}}{{vault:b}}",
    ):  # fmt: skip
        assert reference(text) is None


@pytest.mark.parametrize(
    ("preset", "use", "raw"),
    [("restrictive", "ask", "deny"), ("standard", "allow", "deny"), ("permissive", "allow", "ask")],
)
def test_policy_judges_a_secret_by_what_it_is_for(preset: str, use: str, raw: str) -> None:
    policy = load_preset(preset)
    for purpose in SecretUse:
        decision = decide(policy, operation_id="vault.x", effect=Effect.READS, facts=SecretFacts("prod/a", purpose))
        expected = raw if purpose is SecretUse.RAW_READ else use
        if purpose is SecretUse.BROWSER_FILL and preset == "restrictive":
            # Its browsers only look.
            expected = "deny"
        assert answer_of(decision) == expected


async def test_an_update_changes_what_was_named_and_null_clears(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.govern(
            "vault.set", path="a", kind="login", username="ann", password="correct horse", totp=SEED_80_BITS,
            label="Site", origins=["https://a.example"],
        )  # fmt: skip
        await world.govern("vault.update", path="a", password="battery staple", totp=None, label=None)
        view = await world.govern("vault.describe", path="a")
        assert (view.fields, view.label, view.origins) == (["username", "password"], None, ["https://a.example"])
        assert (await world.govern("vault.get", path="a", field="username")).value == "ann"
        assert (await world.govern("vault.get", path="a")).value == "battery staple"
        with pytest.raises(WrongState) as seedless:
            await world.govern("vault.totp", path="a")
        assert seedless.value.hint.endswith(": mcp-spaces vault update a --totp")
        for wrong in ({"password": None}, {"token": "x" * 9}, {"totp": "no seed"}, {"origins": ["http://x"]}):
            with pytest.raises(InvalidInput):
                await world.govern("vault.update", path="a", **wrong)
        with pytest.raises(NotFound):
            await world.govern("vault.update", path="b", label="x")
        assert (await world.govern("vault.describe", path="a")).version == 2


async def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.govern("vault.set", path="a", kind="value", value="a value")
        async with anyio.create_task_group() as tasks:

            async def change(number: int) -> None:
                await world.govern("vault.set", path=f"b{number}", kind="value", value=f"value {number}")
                await world.govern("vault.update", path="a", label=f"label {number}")

            for number in range(8):
                tasks.start_soon(change, number)
            tasks.start_soon(lambda: world.govern("vault.rotate"))
        assert (await world.govern("vault.list")).total == 9
        assert (await world.govern("vault.describe", path="a")).version == 9
    async with open_world(tmp_path) as world:
        assert (await world.govern("vault.get", path="b7")).value == "value 7"


async def test_what_was_cancelled_while_it_was_written_is_known_afterwards(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("a", value="first")
        for number in range(20):
            with anyio.move_on_after(0.0002 * number):
                await rig.put("a", value=f"value {number}")
        entry = await rig.vault.find("a", scope=EVERYTHING)
        assert rig.vault.versions("a")[0] == entry.version
        await rig.put("a", value="last")
    async with open_rig(tmp_path) as rig:
        assert len(await rig.vault.entries(scope=VaultGrant(allow=("a",)))) == 1


async def test_new_secrets_only_is_all_or_nothing(tmp_path: Path) -> None:
    from mcp_spaces.vault.wanted import wanted_entry

    async with open_rig(tmp_path) as rig:
        await rig.put("b", value="there")
        wanted = [
            wanted_entry(path, Kind.VALUE, {"value": "x"}, label=None, bindings=Bindings(), now=0) for path in "abc"
        ]
        with pytest.raises(Conflict):
            await rig.vault.keeping.put(wanted, run_id="run_x", action="import", new_only=True)
        assert [one.path for one in await rig.vault.entries(scope=EVERYTHING)] == ["b"]
    async with open_rig(tmp_path) as rig:
        assert len(await rig.vault.entries(scope=EVERYTHING)) == 1


async def test_agents_see_only_what_their_scope_and_audience_allow(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        space = await world.space("work")
        context = (await world.call("context.get", space=space, topic="operations")).model_dump_json()
        refused = json.loads(context)["refused"]
        assert any({"vault.list", "vault.get", "vault.totp"} <= set(one["ids"]) for one in refused)
        assert "vault.set" not in context
        with pytest.raises(Denied) as denied:
            await world.call("vault.list", space=space)
        assert denied.value.rule == "scope.vault"
        for operation in ("vault.set", "vault.update", "vault.delete", "vault.rotate", "vault.rekey", "vault.import"):
            with pytest.raises(NotFound):
                await world.call(operation)


async def test_a_backup_says_which_master_key_belongs_to_it(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        first = await world.govern("state.backup", path=str(tmp_path / "one.db"))
        assert "master" not in first.model_dump_json()
        await world.govern("vault.set", path="a", kind="value", value="a value")
        second = await world.govern("state.backup", path=str(tmp_path / "two.db"))
        assert "master.key" in second.model_dump_json()


@pytest.mark.parametrize("operation_id", sorted(derived.HANDWRITTEN))
def test_the_references_example_is_understood_by_the_command_written_by_hand(operation_id: str) -> None:
    (operation,) = [one for one in CATALOGUE if one.id == operation_id]
    words = shlex.split(command_line(operation, operation.example))
    context = derived.handwritten(operation).make_context(words[2], words[3:])
    shown = repr(context.params)
    assert all(str(value) in shown for value in operation.example.values() if isinstance(value, str))


def test_the_commands_that_hints_name_have_the_flags_that_they_name() -> None:
    named = {
        (found[1], flag)
        for path in sorted((ROOT / "mcp_spaces").rglob("*.py"))
        # A text may go on in the next line.
        for found in re.finditer(
            r"mcp-spaces vault ([a-z]+)([^`;.\n]*)", re.sub(r'"\n\s+f?"', "", path.read_text("utf-8"))
        )
        for flag in re.findall(r"(?<= )--[a-z-]+", found[2])
    }
    assert {("update", "--origins"), ("update", "--totp")} <= named
    for verb, flag in named:
        (operation,) = [one for one in CATALOGUE if one.id == f"vault.{verb}"]
        command = derived.handwritten(operation) or derived.command(operation)
        assert flag in [option for parameter in command.params for option in parameter.opts], f"vault {verb} {flag}"


async def test_people_enter_secrets_without_a_command_line_holding_them() -> None:
    with short_folder() as folder:
        state = folder / "state"
        async with nursery() as daemons:
            pid = await daemons.running(state)

            async def said(*words: str, stdin: str = "", code: int = 0) -> str:
                ended = await run(*words, state_dir=state, stdin=stdin.encode())
                assert ended.code == code, ended
                return ended.stdout + ended.stderr

            assert "prod/a is stored, version 1" in await said("vault", "set", "prod/a", stdin="line one\nline two\n")
            assert await said("vault", "get", "--path", "prod/a") == "line one\nline two\n"
            await said(
                "vault", "set", "prod/l", "--kind", "login", "--username", "ann", "--totp",
                "--origin", "https://a.example", stdin=f"correct horse\n{SEED_80_BITS}\n",
            )  # fmt: skip
            given: dict[str, Any] = {"token": "a token of mine", "notes": "n" * 9}
            await said("vault", "set", "prod/k", "--kind", "api_key", "--fields", stdin=json.dumps(given))
            await said("vault", "update", "prod/k", "--token", stdin="another token\n")
            assert "another token" in await said("vault", "get", "--path", "prod/k")
            listed = await said("vault", "list")
            assert "prod/l" in listed
            assert "correct horse" not in listed
            await said("vault", "set", "prod/x", stdin="", code=2)
            await said("vault", "set", "prod/x", "--value", "on the command line", code=2)
            export = folder / "export.csv"
            export.write_text("title,username,password\nSite,ann,pw of ann\n")
            assert "would be stored" in await said("vault", "import", str(export), "--dry-run")
            assert "imported/site" in await said("vault", "import", str(export))
            assert "file" in await said("vault", "rekey")
            await daemons.stop(pid)


async def test_what_is_bound_to_a_host_is_found_among_many_and_follows_every_change(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/exact", value="x" * 8, origins=("https://a.example.com", "https://a.example.com:8443"))
        await rig.put("prod/here", value="x" * 8, origins=("http://localhost:8080",))
        pattern = wanted_entry(
            "prod/pattern", Kind.VALUE, {"value": "x" * 8}, label=None,
            bindings=Bindings(origin_patterns=("https://*.example.com:9443",)), now=1.0,
        )  # fmt: skip
        await rig.vault.keeping.put([pattern], run_id="run_test", action="set")

        async def bound(host: str, *, allow: str = "*") -> int:
            return len(await rig.vault.bound_to(host, scope=VaultGrant(allow=(allow,))))

        assert [await bound(host) for host in ("a.example.com", "b.example.com", "example.com", "localhost")] == [
            2,
            1,
            0,
            0,
        ]
        assert [await bound("a.example.com", allow=allow) for allow in ("prod/exact", "test")] == [1, 0]
        await rig.vault.keeping.delete("prod/pattern", run_id="run_test")
        await rig.put("prod/exact", value="x" * 8, origins=("https://b.example.com",))
        assert [await bound(host) for host in ("a.example.com", "b.example.com")] == [0, 1]
        assert await rig.vault.bound_to("b.example.com", scope=VaultGrant()) == ()


async def test_where_there_is_no_vault_there_is_nothing_to_change(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        for change in (
            rig.vault.keys.rotate(run_id="run_test"),
            rig.vault.keys.rekey(None, run_id="run_test"),
            rig.vault.keeping.restore("prod/x", 1, run_id="run_test"),
            rig.vault.keeping.delete("prod/x", run_id="run_test"),
        ):
            with pytest.raises(NotFound):
                await change
        assert not (tmp_path / "master.key").exists()


async def test_where_there_is_no_vault_yet_new_keys_say_so(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        for made in (rig.vault.keys.rekey(None, run_id="run_x"), rig.vault.keys.rotate(run_id="run_x")):
            with pytest.raises(NotFound, match="no vault yet"):
                await made
