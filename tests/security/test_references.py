"""Secrets that a command is given by reference: only where they may be read, unseen in every record and output."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.core.redaction import encodings
from mcp_spaces.errors import ApprovalNeeded, Denied, InvalidInput, NotFound, WrongState
from mcp_spaces.sandbox.port import LiveSandboxes
from tests.sandbox.rigs import BARE_IMAGE, IMAGE, docker_driver
from tests.security.app import LITTLE, World, open_world
from tests.security.vaults import everything_stored
from tests.vault.rig import SEED_80_BITS

CANARY = "kanarie-7f3Q+zz/9 é"
MARK = "[redacted:prod/api]"
REFERENCE = "{{vault:prod/api}}"
SLOWLY = (
    "import os, sys, time\nfor b in os.environb[b'TOKEN']:\n sys.stdout.buffer.write(bytes([b])); sys.stdout.flush()"
)
"""A write for each byte, so that the value comes in as many pieces as there can be."""


@asynccontextmanager
async def a_space(
    folder: Path, *, raw: bool = True, raw_reads: str = "ask", operations: dict[str, str] | None = None, **opening: Any
) -> AsyncIterator[tuple[World, str]]:
    """With prod/api and prod/login in its mount and a sandbox in it; the widest policy asks for each raw read."""
    vault = {"allow": ["prod"], "allow_raw_reads": raw}
    async with open_world(folder, **opening) as world:
        await world.govern(
            "vault.set", path="prod/api", kind="value", value=CANARY, origins=["https://api.example.com"]
        )
        await world.govern("vault.set", path="prod/db", kind="value", value="dbvalue-" + CANARY)
        await world.govern(
            "vault.set", path="prod/login", kind="login", username="ann", password="pw", totp=SEED_80_BITS
        )
        await world.govern("principal.grant", principal="local-agent", policy="permissive", scope={"vault": vault})
        overrides = {"secrets": {"raw_reads": raw_reads}, "operations": operations or {}}
        space = await world.space(
            "work", policy={"preset": "permissive", "overrides": overrides}, mounts={"vault": vault}
        )
        await world.launched(space, alias="main", scope={"limits": LITTLE})
        yield world, space


async def approved(world: World, operation_id: str, **arguments: Any) -> Any:
    """The answer, after a person's yes to exactly this call."""
    return (await outcome(world, operation_id, **arguments)).output


async def outcome(world: World, operation_id: str, **arguments: Any) -> Any:
    with pytest.raises(ApprovalNeeded) as asked:
        await world.call(operation_id, **arguments)
    assert CANARY not in (await world.govern("approval.list")).model_dump_json()
    await world.govern("approval.grant", approval=asked.value.approval_id)
    return await world.outcome(operation_id, **arguments)


def leaks(text: str) -> list[str]:
    return [form for form in encodings(CANARY) if form in text]


async def test_a_reference_in_env_or_stdin_is_the_value_for_the_command_alone(tmp_path: Path) -> None:
    async with a_space(tmp_path) as (world, space):
        command = (
            'printf %s "$TOKEN" | sha256sum; echo "$URL"; cat | sha256sum; base64 -w0 <<<"$TOKEN"; echo "$TOKEN" >&2'
        )
        ran = await outcome(
            world,
            "sandbox.shell",
            space=space,
            command=command,
            env={"TOKEN": REFERENCE, "URL": "https://u:{{vault:prod/api#value}}@h/"},
            stdin=f"a {REFERENCE} b",
        )
        token, url, stdin, encoded = ran.output.stdout.splitlines()
        assert token.split()[0] == hashlib.sha256(CANARY.encode()).hexdigest()
        assert url == f"https://u:{MARK}@h/"
        assert stdin.split()[0] == hashlib.sha256(f"a {CANARY} b".encode()).hexdigest()
        assert encoded.startswith(MARK) and len(encoded) < len(MARK) + 4
        assert ran.output.stderr == MARK + "\n"
        assert leaks(everything_stored(world.database)) == []
        told = (await world.call("run.get", run=ran.run_id)).model_dump(mode="json")
        resolved = [event["body"] for event in told["events"] if event["type"] == "secret.resolved"]
        assert len({body.pop("fingerprint") for body in resolved}) == 1
        # By its main field's name, and without one.
        assert resolved == [{"path": "prod/api", "field": "value", "version": 1}] * 2
        assert REFERENCE in json.dumps(told)


async def test_the_fingerprint_in_records_is_the_values_and_tells_nothing_of_it(tmp_path: Path) -> None:
    async with a_space(tmp_path) as (world, space):

        async def fingerprint() -> str:
            ran = await outcome(world, "sandbox.shell", space=space, command="true", env={"T": REFERENCE})
            events = (await world.call("run.get", run=ran.run_id)).model_dump(mode="json")["events"]
            (body,) = [event["body"] for event in events if event["type"] == "secret.resolved"]
            return str(body["fingerprint"])

        first, again = await fingerprint(), await fingerprint()
        await world.govern("vault.update", path="prod/api", value="another value")
        assert first == again != await fingerprint()


@pytest.mark.parametrize(
    "preset", [{"raw": False}, {"raw_reads": "deny"}, {"operations": {"vault.get": "deny"}}], ids=str
)
async def test_v09_a_reference_is_resolved_only_where_the_secret_could_be_read(
    tmp_path: Path, preset: dict[str, Any]
) -> None:
    async with a_space(tmp_path, **preset) as (world, space):
        refusals = []
        calls: tuple[tuple[str, dict[str, Any]], ...] = (
            ("vault.get", {"path": "prod/api"}),
            ("sandbox.shell", {"command": "env > seen", "env": {"T": f"x{REFERENCE}"}}),
            ("sandbox.shell", {"command": "cat > seen", "stdin": REFERENCE}),
            ("sandbox.shell", {"command": "cat > seen", "stdin": REFERENCE, "background": True}),
        )
        for operation, arguments in calls:
            with pytest.raises(Denied) as refused:
                await world.call(operation, space=space, **arguments)
            refusals.append(refused.value)
        assert len({refused.rule for refused in refusals}) == 1
        assert all("gateway" in refused.hint or "operator" in refused.hint for refused in refusals[1:])
        # By https the gateway sees no header to fill in.
        assert all("http://" in refused.hint for refused in refusals if "gateway" in refused.hint)
        assert (await world.call("sandbox.list_files", space=space)).entries == ()
        batch = await world.call(
            "sandbox.run_operations",
            space=space,
            operations=[{"type": "shell", "command": "env", "env": {"T": REFERENCE}}],
        )
        assert [(event.type, event.rule) for event in batch.events] == [("policyDenied", refusals[0].rule)]
        assert (await world.govern("vault.describe", path="prod/api")).uses == 0


async def test_t16_a_yes_to_a_command_is_for_its_references_too(tmp_path: Path) -> None:
    async with a_space(tmp_path) as (world, space):
        asked: dict[str, Any] = {"space": space, "command": "echo hello", "env": {"T": REFERENCE}}
        with pytest.raises(ApprovalNeeded) as refused:
            await world.call("sandbox.shell", **asked)
        assert refused.value.rule == "secrets.raw_reads"
        await world.govern("approval.grant", approval=refused.value.approval_id)
        for other in ({"env": {"T": "{{vault:prod/db}}"}}, {"env": {"U": REFERENCE}}, {"stdin": REFERENCE}):
            with pytest.raises(ApprovalNeeded):
                await world.call("sandbox.shell", **{**asked, **other})
        assert (await world.call("sandbox.shell", **asked)).stdout == "hello\n"
        with pytest.raises(ApprovalNeeded):
            await world.call("sandbox.shell", **asked)


async def test_v08_what_may_not_be_used_and_what_is_not_there_are_refused_alike(tmp_path: Path) -> None:
    async with a_space(tmp_path) as (world, space):
        await world.govern("vault.set", path="admin/root", kind="value", value=CANARY)
        for path, kind in (("admin/root", NotFound), ("admin/none", NotFound), ("prod/login#totp", Denied),
                           ("prod/login", Denied), ("prod/api#token", WrongState)):  # fmt: skip
            with pytest.raises(kind):
                await approved(world, "sandbox.shell", space=space, command="env", env={"T": f"{{{{vault:{path}}}}}"})


@pytest.mark.parametrize("text", ["{{vault:PROD/api}}", "{{vault:}}", "{{vault:prod/api", "{{vault:prod/api#}}"])
async def test_what_was_meant_as_a_reference_and_is_none_is_refused(tmp_path: Path, text: str) -> None:
    async with a_space(tmp_path) as (world, space):
        inputs: tuple[dict[str, Any], ...] = ({"env": {"T": text}}, {"stdin": text})
        for given in inputs:
            with pytest.raises(InvalidInput, match="reference"):
                await world.call("sandbox.shell", space=space, command="true", **given)


async def test_l14_a_command_is_never_given_a_secret_and_its_placeholder_stays_as_it_is(tmp_path: Path) -> None:
    async with a_space(tmp_path) as (world, space):
        with pytest.raises(InvalidInput, match="no origin") as refused:
            await world.call("sandbox.shell", space=space, command="psql {{vault:prod/db}}")
        assert "env or stdin" in refused.value.hint
        ran = await world.call("sandbox.shell", space=space, command="echo 'authorization: {{vault:prod/api}}'")
        assert ran.stdout == "authorization: {{vault:prod/api}}\n"
        assert (await world.govern("vault.describe", path="prod/api")).uses == 0


async def test_l11_the_full_output_kept_as_an_artifact_is_redacted_too(tmp_path: Path) -> None:
    async with a_space(tmp_path) as (world, space):
        script = "import os,sys\nt=os.environ['TOKEN']\nfor i in range(4000): sys.stdout.write(t+'-'*(i%7))"
        ran = await outcome(
            world, "sandbox.shell", space=space, command=f'python3 -c "{script}"', env={"TOKEN": REFERENCE}
        )
        assert ran.output.truncated
        assert leaks(ran.output.stdout) == []
        kept = await whole_artifact(world, ran.output.artifact)
        assert leaks(kept) == [] and kept.count(MARK) == 4000
        events = (await world.call("run.get", run=ran.run_id)).model_dump(mode="json")["events"]
        assert [event["body"] for event in events if event["type"] == "redacted"] == [{"prod/api": 4000}]
        (row,) = world.database.read("SELECT body FROM audit WHERE run_id = ? AND kind = 'outcome'", (ran.run_id,))
        assert json.loads(row["body"])["redacted"] == {"prod/api": 4000}


async def whole_artifact(world: World, artifact: str) -> str:
    read, offset = b"", 0
    while True:
        part = await world.call("run.read_artifact", artifact=artifact, encoding="base64", offset=offset)
        read += base64.b64decode(part.content)
        offset = len(read)
        if offset >= part.size_bytes:
            return read.decode()


async def test_a_jobs_output_is_redacted_across_chunks_and_reads(tmp_path: Path) -> None:
    async with a_space(tmp_path) as (world, space):
        command = (
            "python3 -u -c \"import os,sys\nt=os.environ['TOKEN']\nsys.stdout.write('<'+t[:9])\nsys.stdout.flush()\n"
            "sys.stdin.readline()\nsys.stdout.write(t[9:]+'>')\""
        )
        started = await approved(
            world, "sandbox.shell", space=space, command=command, env={"TOKEN": REFERENCE}, background=True
        )
        first = await world.call("job.read", space=space, job=started.job, wait_s=20)
        assert [piece.text for piece in first.output] == ["<"]
        await world.call("job.write", space=space, job=started.job, text="go\n")
        await world.call("job.wait", space=space, job=started.job, timeout_s=20)
        rest = await world.call("job.read", space=space, job=started.job, cursor=first.next_cursor)
        assert "".join(piece.text for piece in rest.output) == f"{MARK}>"
        (event,) = [
            json.loads(row["body"]) for row in world.database.read("SELECT body FROM events WHERE type = 'job.ended'")
        ]
        assert event["redacted"] == {"prod/api": 1}
        assert leaks(everything_stored(world.database)) == []


async def test_a_value_that_comes_byte_by_byte_is_redacted(tmp_path: Path) -> None:
    async with a_space(tmp_path) as (world, space):
        await world.call("sandbox.write_file", space=space, path="slowly.py", content=SLOWLY)
        ran = await approved(
            world, "sandbox.shell", space=space, command="python3 slowly.py; echo .", env={"TOKEN": REFERENCE}
        )
        assert ran.stdout == f"{MARK}.\n"


async def test_what_a_batch_used_is_redacted_in_all_of_it(tmp_path: Path) -> None:
    async with a_space(tmp_path) as (world, space):
        operations = [
            {
                "type": "shell",
                "command": 'printf %s "$T" | tee kept | od -An -v -tx1 | tr -d " \\n"; echo',
                "env": {"T": REFERENCE},
            },
            {"type": "readFile", "path": "kept"},
        ]
        answer = await world.call("sandbox.run_operations", space=space, operations=operations)
        assert answer.status == "awaiting_approval"
        await world.govern("approval.grant", approval=answer.events[-1].approvalId)
        answer = await world.call("sandbox.run_operations", space=space, operations=operations)
        assert (answer.events[0].stdout, answer.events[1].content) == (MARK + "\n", MARK)
        assert leaks(everything_stored(world.database)) == []
        # A run that did not use it: whoever may read the file may see what is in it (threat L21).
        assert (await world.call("sandbox.read_file", space=space, path="kept")).content == CANARY


async def test_an_image_without_python_is_given_no_secret_in_its_environment(tmp_path: Path) -> None:
    async with (
        docker_driver(tmp_path / "driver") as driver,
        a_space(tmp_path, driver=driver, sandbox_image=BARE_IMAGE) as (world, space),
    ):
        asked: dict[str, Any] = {"space": space, "command": 'echo "$T"; cat'}
        for background in (False, True):
            with pytest.raises(Denied, match="without Python") as refused:
                await approved(world, "sandbox.shell", **asked, env={"T": f"x{REFERENCE}"}, background=background)
            assert "stdin" in refused.value.hint
        assert (await world.govern("vault.describe", path="prod/api")).uses == 0
        ran = await approved(world, "sandbox.shell", **asked, env={"T": "plain"}, stdin=f"{REFERENCE}\n")
        assert ran.stdout == f"plain\n{MARK}\n"


@pytest.mark.parametrize("where", ["stdin", "env", "both"])
async def test_what_many_references_would_become_is_refused_before_it_is_made(tmp_path: Path, where: str) -> None:
    async with a_space(tmp_path) as (world, space):
        big = "{{vault:prod/big}}"
        await world.govern("vault.set", path="prod/big", kind="value", value="é" * 2_000)
        stdin, variable = {"stdin": (600, 0), "env": (0, 600), "both": (300, 300)}[where]
        given: dict[str, Any] = {"stdin": big * stdin, "env": {"T": big * variable}}
        with pytest.raises(InvalidInput, match=r"2,400,000 bytes; at most 2,097,152\."):
            await approved(world, "sandbox.shell", space=space, command="cat", **given)


async def test_as_many_references_as_fit_are_resolved(tmp_path: Path) -> None:
    async with a_space(tmp_path) as (world, space):
        await world.govern("vault.set", path="prod/big", kind="value", value="é" * 2_000)
        ran = await approved(world, "sandbox.shell", space=space, command="wc -c", stdin="{{vault:prod/big}}" * 524)
        assert ran.stdout.strip() == "2096000"


async def test_l13_l14_the_engine_knows_nothing_of_a_resolved_secret(tmp_path: Path) -> None:
    async with (
        docker_driver(tmp_path / "driver") as driver,
        a_space(tmp_path, driver=driver, sandbox_image=IMAGE) as (world, space),
    ):
        watching = await anyio.open_process(["docker", "events", "--format", "{{json .}}"], stdout=subprocess.PIPE)
        ran = await approved(
            world,
            "sandbox.shell",
            space=space,
            command="tr '\\0' '\\n' < /proc/$$/cmdline; tr '\\0' '\\n' < /proc/1/environ; echo \"$TOKEN\"; cat",
            env={"TOKEN": REFERENCE},
            stdin=REFERENCE,
        )
        assert ran.stdout.endswith(f"{MARK}\n{MARK}")
        assert ran.stdout.count(MARK) == 2
        (runtime,) = (await world.call("sandbox.list", space=space)).sandboxes
        container = world.use(LiveSandboxes).live(runtime.id).container_id
        inspected = (await anyio.run_process(["docker", "inspect", container])).stdout.decode()
        # An event that is sure to come after all others.
        await anyio.run_process(["docker", "exec", container, "true"])
        seen = ""
        assert watching.stdout is not None
        with anyio.fail_after(20):
            async for chunk in watching.stdout:
                seen += chunk.decode()
                if "exec_start: true" in seen:
                    break
        watching.terminate()
        await watching.wait()
        assert leaks(inspected) == [] and leaks(seen) == []
