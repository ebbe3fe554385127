"""The operator's commands from somewhere else, over HTTP with a key."""

from __future__ import annotations

import pytest

from mcp_spaces.errors import ApprovalNeeded
from tests.cli.served import served

pytestmark = pytest.mark.anyio


async def test_an_operators_key_approves_what_the_agent_asks_for() -> None:
    async with served() as house:
        await house.world.space("work")
        await house.world.launched("work")
        with pytest.raises(ApprovalNeeded) as asked:
            await house.world.call("sandbox.shell", space="work", command="git push")
        key = (await house.run("key", "create", "laptop", "--operator")).stdout.strip()
        decided = await house.run("--server", house.url, "approve", asked.value.approval_id, MCP_SPACES_KEY=key)
    assert (decided.code, decided.stderr) == (0, "")
    assert decided.stdout == f"approval {asked.value.approval_id} is approved\n"
