"""The MCP conformance suite: every scenario that a protocol revision requires, through the real pipeline over HTTP.

Node and the suite come from `scripts/setup node`, in .tools/.
"""

from __future__ import annotations

import re

import anyio
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.server.conformance.fixtures import OPERATIONS, add_fixtures
from tests.server.doors import ROOT, open_house
from tests.server.small_app import KEY

TOOLS = ROOT / ".tools" / "node_modules"
NODE = TOOLS / "node" / "bin" / "node"
SUITE = TOOLS / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"


def with_key(app: ASGIApp) -> ASGIApp:
    """The suite has no way to send a key."""

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"] = [*scope["headers"], (b"authorization", f"Bearer {KEY}".encode())]
        await app(scope, receive, send)

    return front


@pytest.mark.parametrize(("revision", "scenarios"), [("2025-11-25", 30), ("2026-07-28", 37)])
async def test_every_required_scenario_passes(revision: str, scenarios: int) -> None:
    async with open_house(operations=OPERATIONS, prepare=add_fixtures, front=with_key) as house:
        command = [str(NODE), str(SUITE), "server", "--url", house.url, "--requirements", revision]
        with anyio.fail_after(100):
            suite = await anyio.run_process(command, check=False)
    said = suite.stdout.decode()
    assert suite.returncode == 0, said
    required = said.partition("Run and reported, but never scored")[0]
    assert len(re.findall(r"^✓ \S+: \d+ passed, 0 failed", required, re.MULTILINE)) >= scenarios, said
