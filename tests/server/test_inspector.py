"""MCP Inspector, a client that is not ours: it lists strictly and calls, over stdio and HTTP, in both eras.

It comes from `scripts/setup node`, in .tools/.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.cli.served import served
from tests.server.doors import ROOT, House, open_house
from tests.server.small_app import KEY

TOOLS = ROOT / ".tools" / "node_modules"
NODE = TOOLS / "node" / "bin" / "node"
INSPECTOR = TOOLS / ".bin" / "mcp-inspector"

LIST = ["--method", "tools/list", "--strict"]
CALL = ["--method", "tools/call", "--tool-name", "thing_echo", "--tool-arg", "text=hi"]


def stdio(state: Path, era: str) -> list[str]:
    program = [sys.executable, "-m", "mcp_spaces", "stdio"]
    return [*program, "-e", f"MCP_SPACES_STATE_DIR={state}", "--cwd", str(ROOT), "--protocol-era", era]


def over_stdio(house: House, era: str) -> list[str]:
    return stdio(house.settings.state_dir, era)


def over_http(house: House, era: str) -> list[str]:
    return [house.url, "--transport", "http", "--header", f"Authorization: Bearer {KEY}", "--protocol-era", era]


async def inspect(target: list[str], request: list[str], home: object) -> Any:
    environment = {"PATH": f"{NODE.parent}:{os.environ['PATH']}", "HOME": str(home)}
    command = [str(NODE), str(INSPECTOR), "--cli", *target, *request, "--format", "json"]
    with anyio.fail_after(60):
        inspector = await anyio.run_process(command, check=False, env=environment, cwd=ROOT)
    assert inspector.returncode == 0, inspector.stderr.decode()
    return json.loads(inspector.stdout)["result"]


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("door", [over_stdio, over_http])
async def test_it_lists_strictly_and_calls(door: Any, era: str, tmp_path: object) -> None:
    async with open_house() as house:
        listed = await inspect(door(house, era), LIST, tmp_path)
        assert [tool["name"] for tool in listed["tools"]] == [
            operation.tool for operation in house.app.permitted(house.app.agent) if operation.listed
        ]
        called = await inspect(door(house, era), CALL, tmp_path)
        assert called["structuredContent"] == {"text": "hi"}


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_it_finds_nothing_wrong_with_the_whole_product(era: str, tmp_path: object) -> None:
    async with served() as house:
        listed = await inspect(stdio(house.world.folder / "state", era), LIST, tmp_path)
        permitted = [one for one in house.world.app.permitted(house.world.agent) if one.listed]
        assert [tool["name"] for tool in listed["tools"]] == [one.tool for one in permitted]
        assert len(permitted) > 30
