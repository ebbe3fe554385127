"""What an agent's context has to hold before any work: the list of tools and the Agent Context."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from benchmarks.clients import RawClient
from benchmarks.daemons import STDIO, running
from benchmarks.measure import Line, Series, Target

CHARACTERS_A_TOKEN = 4


def lines() -> Iterator[Line]:
    with running(pool_size=0) as daemon:
        with daemon.client() as client:
            created = client.call("space_create", name="bench")
            client.call("sandbox_launch", space="bench")
            everything = _tools(client)
            context = client.call("context_get", space="bench")
        with daemon.operator() as operator:
            key = operator.call("key_create", label="bench", spaces=[created["id"]], operations=["sandbox.*"])
        environment = {**daemon.environment, "MCP_SPACES_KEY": key["token"]}
        with RawClient.spawn(STDIO, environment) as narrow:
            narrow.initialize()
            sandbox_only = _tools(narrow)
    yield Line(
        what=f"tools/list for a key with sandbox.* ({len(sandbox_only)} tools)",
        unit="bytes",
        ours=Series([_size(sandbox_only)]),
        targets=[Target(8_000)],
    )
    yield Line(
        what="tools/list for the local agent",
        unit="bytes",
        ours=Series([_size(everything)]),
        targets=[Target(20_000)],
    )
    yield Line(what="tools of the local agent", unit="tools", ours=Series([len(everything)]), targets=[Target(40)])
    yield Line(
        what="context_get, compact, with one sandbox (characters / 4)",
        unit="tokens",
        ours=Series([len(json.dumps(context, ensure_ascii=False, separators=(",", ":"))) / CHARACTERS_A_TOKEN]),
        targets=[Target(1_500)],
    )


def _tools(client: RawClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.request("tools/list", {})["tools"]
    return found


def _size(tools: list[dict[str, Any]]) -> int:
    """Bytes on the wire, names and schemas and all."""
    return len(json.dumps(tools, ensure_ascii=False, separators=(",", ":")).encode())
