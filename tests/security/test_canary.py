"""A canary in every kind of secret, every operation of the catalogue called, and every place searched afterwards.

Whoever adds an operation is asked here for an input that has to work, and gets the search for nothing.
"""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import AnyOperation, Audience
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.errors import ApprovalNeeded, SpacesError
from mcp_spaces.server.authentication import Visitor, visited_by
from mcp_spaces.server.endpoint import open_server
from mcp_spaces.server.limits import Lane
from tests import folders
from tests.browser import paged
from tests.security.app import PATIENCE_S, World, open_world, refusal, short_folder
from tests.security.prepared import Prepared, prepare_for, prepared, valid_inputs

ORIGIN = "https://crm.example.com"
CANARIES = {
    "password": "kanarie-pw7f3Q+zz/9 é",
    "value": "kanarie-va\"<lue>&' ü\\",
    "token": "kanarie_tok3nQQQQQQQ",
    "notes": "kanarie-notes\nin two lines ß",
    "seed": "KANARIEKANARIE7Q",
    "second": "kanarie-second-version",
    "entered": "kanarie-of-an-import",
}
PIN = CANARIES["password"]

REFERENCES = ("{{vault:prod/crm}}", "{{vault:prod/crm#password}}", "{{vault:prod/value}}", "{{vault:prod/key}}")
RAW_READS = {"vault.get"}
"""What is there to show a value. Everything else must not."""
NEEDS_MORE = {"sandbox.connect", "browser.connect"}
"""A person's terminal, and a browser of its own process: their own tests search."""
ALONE = {"browser.record_start", "browser.record_stop", "browser.connect"}
"""Never done with a browser that a secret was filled in."""
MORE = {"runtimes": 6, "cpu_cores": 4}
SPOKEN = 'printf \'%s\\n\' "$PW" "$VALUE"; base64 -w0 <<<"$TOKEN"; printf %s "$PW" | od -An -tx1 | tr -d \' \\n\''
FLOOD = f"for i in $(seq 400); do {SPOKEN}; done"
ENVIRONMENT = {"PW": "{{vault:prod/crm}}", "VALUE": "x{{vault:prod/value}}x", "TOKEN": "{{vault:prod/key#token}}"}


def of_operators(at: Prepared, folder: Path, ids: dict[str, str]) -> dict[str, dict[str, Any]]:
    """For every operation that is the operator's: an input that has to work."""
    return {
        "sandbox.connect": {"space": at.space, "runtime": at.runtime},
        "network.forward": {"space": at.space, "runtime": at.runtime, "port": 8000, "seconds": 0.1},
        "vault.set": {
            "path": "prod/another", "kind": "login", "username": "ann", "password": CANARIES["password"],
            "totp": CANARIES["seed"], "notes": CANARIES["notes"], "origins": [ORIGIN],
        },
        "vault.update": {"path": "prod/value", "value": CANARIES["second"], "label": "new"},
        "vault.restore": {"path": "prod/value", "version": 1},
        "vault.delete": {"path": "prod/another"},
        "vault.rotate": {},
        "vault.rekey": {"to": "file"},
        "vault.import": {"file": str(folder / "export.csv"), "prefix": "imported"},
        "approval.list": {},
        "approval.grant": {"approval": ids["to_grant"]},
        "approval.deny": {"approval": ids["to_deny"]},
        "key.create": {"label": "one"},
        "key.list": {},
        "key.revoke": {"key": ids["key"]},
        "principal.list": {},
        "principal.add": {"name": "another"},
        "principal.grant": {"principal": "local-agent"},
        "pin.set": {"new": PIN},
        "pin.clear": {},
        "audit.list": {"limit": 200},
        "audit.verify": {},
        "state.describe": {},
        "state.backup": {"path": str(folder / "backup.db"), "include_files": True},
    }  # fmt: skip


@dataclass
class Told:
    """What callers were told, by operation; and what refused."""

    texts: list[tuple[str, str]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    runs: list[str] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)


def knowing() -> Redactor:
    redactor = Redactor()
    for name, value in CANARIES.items():
        redactor.learn(value, name=name)
    return redactor


def canaries_in(content: str | bytes, redactor: Redactor) -> set[str]:
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    # Texts of texts: what JSON or Python wrote into a string once more.
    return {span.name for span in redactor.find(content).spans}


@asynccontextmanager
async def a_world_with_canaries(folder: Path) -> AsyncIterator[tuple[World, Prepared]]:
    mounts = {"vault": {"allow": ["prod", "imported"], "allow_raw_reads": True}}
    async with open_world(folder) as world:
        stored: tuple[tuple[str, str, dict[str, Any]], ...] = (
            (
                "prod/crm",
                "login",
                {
                    "username": "ann",
                    "password": CANARIES["password"],
                    "totp": CANARIES["seed"],
                    "origins": [paged.ADDRESS.rstrip("/")],
                },
            ),
            ("prod/value", "value", {"value": CANARIES["value"], "notes": CANARIES["notes"]}),
            ("prod/key", "api_key", {"token": CANARIES["token"], "origins": [ORIGIN]}),
        )
        for path, kind, fields in stored:
            await world.govern("vault.set", path=path, kind=kind, **fields)
        await world.govern("principal.grant", principal="local-agent", policy="permissive", scope=mounts)
        yield world, await prepared(world, "work", preset="permissive", mounts=mounts, limits=MORE, browser=True)


async def begin_anew(world: World, at: Prepared, operation: AnyOperation) -> None:
    """The page as it is at first, with what this operation needs; a browser that has ended stays so."""
    if operation.noun != "browser":
        return
    browser = {"space": at.space, "runtime": at.browser}
    if operation.verb == "record_start":
        await refusal(world.govern("browser.record_stop", **browser))
    if operation.verb.endswith("_step"):
        # A step names no page where there is just one.
        for one in (await world.govern("browser.pages", **browser)).pages:
            if not one.active:
                await world.govern("browser.close", **browser, page=one.page)
    await refusal(world.govern("browser.navigate", **browser, url=paged.ADDRESS))
    await refusal(prepare_for(world, at, operation.id))


async def call(world: World, operation: AnyOperation, arguments: dict[str, Any], told: Told) -> None:
    """With a person's yes where one is needed."""
    caller = world.operator if operation.audience is Audience.OPERATOR else world.agent
    for _ in range(2):
        try:
            with anyio.fail_after(PATIENCE_S):
                outcome = await world.app.pipeline.call(caller, operation.id, arguments, pin=PIN)
        except ApprovalNeeded as asked:
            told.texts.append((operation.id, said(asked)))
            granted = {"approval": asked.approval_id}
            await world.app.pipeline.call(world.operator, "approval.grant", granted, pin=PIN)
        except SpacesError as error:
            told.texts.append((operation.id, said(error)))
            told.refused.add(operation.id)
            return
        else:
            answer: dict[str, Any] = outcome.output.model_dump(mode="json")
            told.texts.append((operation.id, json.dumps(answer, ensure_ascii=False)))
            told.runs.append(outcome.run_id)
            artifact = answer.get("artifact")
            told.artifacts += [artifact] if isinstance(artifact, str) else []
            return


def said(error: SpacesError) -> str:
    return f"{error.message} {error.hint} {error.details()}"


def usual(operation: AnyOperation, at: Prepared, folder: Path, ids: dict[str, str]) -> dict[str, Any]:
    inputs = {**valid_inputs(at), **of_operators(at, folder, ids)}
    assert operation.id in inputs, f"{operation.id} is new: give it an input in tests/security/prepared.py, or above"
    return dict(inputs[operation.id])


def last_things_last(operation: AnyOperation) -> tuple[bool, bool, bool]:
    alone = ("vault.rekey", "space.update", "pin.set")
    ends = operation.effect in (Effect.DELETES, Effect.ENDS) or operation.id in alone
    return ends, operation.noun in ("space", "vault"), operation.verb in ("stop", "delete") and operation.in_runtime


async def signed_in(world: World, at: Prepared, told: Told) -> Prepared:
    """With another browser, whose page knows the password and repeats it from now on."""
    browser = (await world.govern("browser.launch", space=at.space, alias="signed-in", profile="work")).id
    there = {"space": at.space, "runtime": browser}
    login = world.app.pipeline.operations["browser.login"]
    await call(world, login, {**there, "secret": "prod/crm", "url": paged.ADDRESS}, told)
    assert '"signed_in": true' in told.texts[-1][1], told.texts[-1]
    return replace(at, browser=browser)


def browsers_for(operation: AnyOperation, at: Prepared, signed: Prepared) -> tuple[Prepared, ...]:
    """What is done with a browser is done with both: without a secret, and with one. Signing in was done already."""
    if operation.noun != "browser" or not operation.in_runtime:
        return (at,)
    if operation.id == "browser.login":
        return ()
    return (at,) if operation.id in ALONE else (at, signed)


def tempting(example: Any, text: str) -> Any:
    """The same shape with `text` in the place of every free text."""
    if isinstance(example, dict):
        kept = ("space", "runtime", "run", "job", "artifact", "operation", "namespace")
        return {name: value if name in kept else tempting(value, text) for name, value in example.items()}
    if isinstance(example, list):
        return [tempting(one, text) for one in example]
    return text if isinstance(example, str) else example


async def use_the_secrets(world: World, at: Prepared, told: Told) -> None:
    """Commands that are given them and say them: in an answer, an artifact, a job, a batch."""
    place = {"space": at.space, "runtime": at.runtime}
    for operation_id, more in (
        ("sandbox.shell", {"command": SPOKEN, "env": ENVIRONMENT, "stdin": REFERENCES[0]}),
        ("sandbox.shell", {"command": FLOOD, "env": ENVIRONMENT}),
        ("sandbox.shell", {"command": "cat; exit 3", "stdin": " ".join(REFERENCES)}),
        ("sandbox.shell", {"command": FLOOD, "env": ENVIRONMENT, "background": True}),
        ("sandbox.run_operations", {"operations": [{"type": "shell", "command": SPOKEN, "env": ENVIRONMENT}]}),
        ("operation.call", {"operation": "sandbox.shell", "input": {**place, "command": SPOKEN, "env": ENVIRONMENT}}),
    ):
        await use(world, operation_id, {**({} if operation_id == "operation.call" else place), **more}, told)
    assert told.refused == set(), told.texts


async def use(world: World, operation_id: str, arguments: dict[str, Any], told: Told) -> None:
    operation = world.app.pipeline.operations[operation_id]
    await call(world, operation, arguments, told)
    if operation_id in ("sandbox.run_operations", "operation.call"):
        # The yes was asked for by a child: its approval is in the batch's event, or in the list.
        for approval in (await world.govern("approval.list")).approvals:
            await world.govern("approval.grant", approval=approval.id)
        await call(world, operation, arguments, told)
    job = json.loads(told.texts[-1][1]).get("job") if told.texts[-1][1].startswith("{") else None
    if job:
        place = {"space": arguments["space"], "job": job}
        await world.call("job.wait", **place, timeout_s=30)
        cursor = 0
        while True:
            read = await world.call("job.read", **place, cursor=cursor, limit=1000)
            told.texts.append(("job.read", read.model_dump_json()))
            if read.next_cursor == cursor:
                break
            cursor = read.next_cursor


async def seen_over_mcp(world: World, at: Prepared, told: Told) -> str:
    """Tools with their schemas, resources, and their contents, as a client gets them."""
    seen: list[Any] = []
    async with open_server(world.app, world.app.settings) as server:
        for who in (world.agent, world.operator):
            with visited_by(Visitor(who, Lane(8, 8))):
                async with Client(server, read_timeout_seconds=20, cache=None) as client:
                    seen += [await client.list_tools(), await client.list_resource_templates()]
                    resources = await client.list_resources()
                    uris = [str(one.uri) for one in resources.resources] + [f"run://{run}" for run in told.runs]
                    seen.append(resources)
                    for uri in uris:
                        # What the operator did is not the agent's to read.
                        with suppress(MCPError):
                            seen.append(await client.read_resource(uri))
                    seen.append(
                        await client.call_tool("context_get", {"space": at.space, "topic": "all", "detail": "full"})
                    )
    assert len(seen) > len(told.runs)
    return "\n".join(one.model_dump_json() for one in seen)


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file as it is, and what is packed in those that are archives."""
    for path in folders.files_below(folder):
        if path.name == "export.csv":
            continue
        content = folders.content_of(path)
        yield str(path), content
        if content.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for name in archive.namelist():
                    yield f"{path}!{name}", archive.read(name)


def in_tables(world: World) -> Iterator[tuple[str, str]]:
    for row in world.database.read("SELECT name FROM sqlite_master WHERE type = 'table'"):
        for content in world.database.read(f"SELECT * FROM {row['name']}"):
            for cell in tuple(content):
                yield row["name"], cell if isinstance(cell, str) else repr(cell)


async def test_l09_l11_l12_l16_l17_l21_v09_v12_no_operation_lets_a_canary_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    redactor, told = knowing(), Told()
    with short_folder() as folder:
        (folder / "export.csv").write_text(f"title,username,password\nSite,ann,{CANARIES['entered']}\n")
        async with a_world_with_canaries(folder) as (world, at):
            await use_the_secrets(world, at, told)
            asked = await world.call("vault.request_entry", space=at.space, path="prod/asked", kind="value")
            at = replace(at, entry=asked.request)
            ids = {
                "key": (await world.govern("key.create", label="two")).id,
                "to_grant": await waiting(world, at, "one"),
                "to_deny": await waiting(world, at, "two"),
            }
            for artifact in list(told.artifacts):
                offset = 0
                while True:
                    part = await world.call("run.read_artifact", artifact=artifact, offset=offset)
                    told.texts.append(("run.read_artifact", part.model_dump_json()))
                    offset += len(part.content.encode())
                    if not part.content or offset >= part.size_bytes:
                        break
            for run in list(told.runs):
                await call(world, world.app.pipeline.operations["run.export"], {"run": run}, told)
            worked = Told()
            signed = await signed_in(world, at, worked)
            *others, last = sorted(CATALOGUE, key=last_things_last)
            seen = ""
            for operation in (*others, last):
                if operation is last:
                    seen = await seen_over_mcp(world, at, told)
                example = usual(operation, at, folder, ids)
                # A second code is one of the next half minute, and what ends something ends it once.
                if operation.id != "vault.totp" and not last_things_last(operation)[0]:
                    for text in REFERENCES:
                        await call(world, operation, tempting(example, text), told)
                for where in browsers_for(operation, at, signed):
                    await begin_anew(world, where, operation)
                    await call(world, operation, usual(operation, where, folder, ids), worked)
            refused = worked.refused - NEEDS_MORE
            assert not refused, "\n".join(": ".join(one)[:500] for one in worked.texts if one[0] in refused)
            assert {operation for operation, _ in worked.texts} == {operation.id for operation in CATALOGUE}
            tables = {table for table, text in in_tables(world) if canaries_in(text, redactor)}
            running = {name for name, content in files_below(folder) if canaries_in(content, redactor)}
        stopped = {name for name, content in files_below(folder) if canaries_in(content, redactor)}
        assert (folder / "backup.db").stat().st_size > 10_000
    spoken = "\n".join(text for _, text in told.texts)
    assert told.artifacts
    assert all(f"[redacted:{path}]" in spoken for path in ("prod/crm", "prod/value", "prod/key"))
    repeated = {operation for operation, text in worked.texts if "You said [redacted:" in text}
    assert repeated >= {"browser.snapshot", "browser.text", "browser.navigate", "browser.reload", "browser.open"}
    shown = {operation for operation, text in told.texts + worked.texts if canaries_in(text, redactor)}
    assert shown == RAW_READS
    assert canaries_in(seen, redactor) == set()
    assert (tables, running, stopped) == (set(), set(), set())
    assert canaries_in("\n".join(record.getMessage() for record in caplog.records), redactor) == set()
    assert canaries_in(caplog.text, redactor) == set()


async def waiting(world: World, at: Prepared, text: str) -> str:
    with pytest.raises(ApprovalNeeded) as asked:
        await world.call("sandbox.shell", space=at.space, command=f"git push {text}")
    return asked.value.approval_id


def test_every_operation_has_an_input_here() -> None:
    at = Prepared("sp_x", "x", "rt_x", "run_x", "job_x", "art_x")
    ids = {"key": "key_x", "to_grant": "apr_x", "to_deny": "apr_y"}
    for operation in CATALOGUE:
        usual(operation, at, Path("/x"), ids)
    known = {*valid_inputs(at), *of_operators(at, Path("/x"), ids)}
    assert known == {operation.id for operation in CATALOGUE}


def test_the_search_finds_a_canary_in_every_form() -> None:
    from mcp_spaces.core.encodings import forms

    redactor = knowing()
    for name, value in CANARIES.items():
        for form in forms(value):
            assert name in canaries_in(b"\x00{" + form + b"}", redactor)
        assert name in canaries_in(json.dumps({"x": value}), redactor)
