"""No spelling of a URI or a path leads out of a space (T11, T12)."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from mcp_spaces.core.json_schema import input_schema
from mcp_spaces.core.operation import AnyOperation
from tests.security.app import World, refusal, short_folder
from tests.security.daemons import nursery
from tests.security.lines import line_to
from tests.security.prepared import ABSENT, FOR_AGENTS, prepared

TRICKS = (
    "space://{b}/context", "space://{a}/../{b}/context", "space://{a}%2f..%2f{b}/context", "space://{a}%252f{b}/context",
    "space://{b}%00/context", "SPACE://{b}/context", "space://{b}/Context", "space://{a}@{b}/context",
    "space://{a}:80@{b}/context", "space://{b}/context/", "space://{b}//context", "space:///{b}/context",
    "space://{b}/context?topic=all&topic=space", "space://{b}/context#x", "space://{b}/context?space={a}",
    "space://{a}/runtimes/{rt}/context", "space://{a}/runtimes/../../{b}/context", "space://{b}/./context",
    "space://{a}\\{b}/context", "space://{a}\n/{b}/context", " space://{b}/context", "space://{b}/context ",
    "run://{run}", "run://{run}/../{run}", "RUN://{run}", "run://{a}/{run}", "run://%72un_{run}",
    "storage://{b}/inputs/sales.csv", "storage://own/../{b}/inputs/sales.csv", "storage://shared.{b}/inputs/sales.csv",
    "storage://{b}/inputs/s%61les.csv", "storage://{b}/inputs%2fsales.csv", "storage://{b}/inputs/sales.csv%20",
    "storage://{b}/inputs/%73%61les.csv", "storage://{b}/inputs/sales%252ecsv", "storage://{b}/x/../inputs/sales.csv",
    "storage://{b}/./inputs/sales.csv", "storage://{b}/inputs//sales.csv", "storage://{b}/inputs/sales.csv/",
    "storage://{b}/inputs/sales.csv?x=y", "storage://{b}/inputs/sales.csv#x", "storage://{b}/Inputs/sales.csv",
    "storage://own/%2e%2e/{b}/inputs/sales.csv", "storage://own/..%2f{b}/inputs", "storage://OWN/inputs/sales.csv",
    "file:///etc/passwd", "https://example.com/", "space://{up}/context", "space://theirs/context",
)  # fmt: skip


async def test_t11_no_spelling_of_a_uri_leads_to_another_space() -> None:
    with short_folder() as folder:
        state = folder / "state"
        async with nursery() as nurse:
            pid = await nurse.running(state)
            async with line_to(state) as agent, line_to(state, operator=True) as operator:
                a, b = [(await agent.call("space.create", name=name)).content["id"] for name in ("mine", "theirs")]
                stored = await agent.call("storage.upload", space=b, path="inputs/sales.csv", content="canary")
                await agent.call("storage.upload", space=a, path="inputs/sales.csv", content="mine")
                rt = (await agent.call("sandbox.launch", space=b)).content["id"]
                token = (await operator.call("key.create", label="a", spaces=[a])).content["token"]
                read = await agent.ask("resources/read", uri=f"space://{b}/context")
                assert "result" in read
            async with line_to(state, key=token) as key:
                plain = {f"space://{a}/context", f"storage://{a}/inputs/sales.csv"}
                for uri in plain:
                    assert "result" in await key.ask("resources/read", uri=uri)
                absent = await key.ask("resources/read", uri=f"space://sp_{ABSENT}/context")
                for trick in TRICKS:
                    uri = trick.format(a=a, b=b, rt=rt, run=stored.run_id, up=b.upper())
                    answer = await key.ask("resources/read", uri=uri)
                    assert answer["error"]["code"] == absent["error"]["code"], uri
                    assert answer["error"]["message"] == absent["error"]["message"], uri
                    # The same spelling of what is one's own: there is one way to write it.
                    own = trick.format(a=a, b=a, rt=rt, run=stored.run_id, up=a.upper())
                    if own not in plain:
                        assert "error" in await key.ask("resources/read", uri=own), own
                    subscribed = await key.ask("resources/subscribe", uri=uri)
                    assert "error" in subscribed, uri
                listed = await key.ask("resources/list")
                assert [one["uri"] for one in listed["result"]["resources"]] == [f"space://{a}/context"]
            await nurse.stop(pid)


async def keep(shown: list[str], call: Awaitable[Any]) -> None:
    shown.append((await call).model_dump_json())


PATHS_INSIDE = {
    # Paths in a sandbox's workspace or names in storage: nothing on the host is opened by them.
    "path", "to", "cwd", "prefix", "glob", "pattern", "to_namespace", "namespace",
}  # fmt: skip
SUSPICIOUS = re.compile(
    r"path|file|url|uri|host|dir|folder|mount|bind|device|socket|address|image|source|target|^to$|cwd|glob"
)
KNOWN_BY_OTHER_RULES = {
    # One of the operator's own names, checked against a list (test_only_the_operators_images_are_launched).
    "sandbox.launch: image",
    # Names of what the operator granted: test_t08_more_than_the_ceiling_is_refused_with_the_key_that_does_not_fit.
    "space.create: mounts",
    # Where a browser goes, by the gateway and no other way: test_b10_only_web_addresses_are_gone_to, N22.
    "browser.navigate: url", "browser.open: url", "browser.login: url", "browser.wait_for: url",
    # Names: of what a space keeps sealed, of files in its storage, of handles in a program of steps.
    "browser.launch: profile", "browser.forget: profile", "browser.upload: paths",
    "browser.look_step: bind", "browser.act_step: bind", "browser.script_step: bind",
}  # fmt: skip


@pytest.mark.parametrize("operation", FOR_AGENTS, ids=lambda operation: operation.id)
def test_t12_no_argument_of_an_agent_is_a_place_on_the_host_or_in_the_network(operation: AnyOperation) -> None:
    properties = input_schema(operation)["properties"]
    inside = set(properties) & PATHS_INSIDE
    strange = {name for name in properties if SUSPICIOUS.search(name)} - inside
    assert {f"{operation.id}: {name}" for name in strange} <= KNOWN_BY_OTHER_RULES
    text = str(input_schema(operation))
    assert "'format': 'path'" not in text and "'format': 'uri'" not in text
    if inside:
        rooms = ("sandbox", "storage", "vault", "browser")
        assert operation.noun in rooms, "only these rooms have paths, and none is the host's"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../../../etc/passwd", "file:///etc/passwd", "http://169.254.169.254/"]
)
async def test_t12_a_path_of_the_host_reaches_nothing_of_it(world: World, path: str) -> None:
    at = await prepared(world, "work")
    before = {one: one.read_bytes() for one in (Path("/etc/passwd"),)}
    named: list[tuple[str, dict[str, Any]]] = [
        ("sandbox.read_file", {"path": path}),
        ("sandbox.write_file", {"path": path, "content": "x"}),
        ("storage.collect", {"path": path, "to": "taken"}),
        ("storage.stage", {"path": "inputs/sales.csv", "to": path}),
        ("storage.read", {"path": path}),
        ("storage.upload", {"path": path, "content": "x"}),
    ]
    usual = ("invalid_input", "wrong_state", "not_found", "denied", "conflict")
    for operation_id, arguments in named:
        shown: list[str] = []

        refused = await refusal(keep(shown, world.call(operation_id, space=at.space, **arguments)))
        assert refused is None or refused.code in usual, (operation_id, refused)
        assert "root:" not in str(shown), operation_id
    assert {one: one.read_bytes() for one in before} == before
