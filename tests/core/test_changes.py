"""What changed reaches whoever listens, however far behind they are."""

from __future__ import annotations

import anyio
import pytest

from mcp_spaces.core.changes import BUFFER, Change, Changes

PATIENCE_S = 10


@pytest.mark.anyio
async def test_t06_a_listener_that_is_far_behind_still_hears_of_each_kind_of_change() -> None:
    """A key's end among many changes of spaces, which all came before the listener's next turn."""
    changes, flood = Changes(), [Change("context", f"sp_{number}") for number in range(BUFFER)]
    async with changes.subscribe() as announced:
        changes.announce(*flood)
        changes.announce(Change("context", "sp_late"), Change("keys", principal_id="pr_agent"))
        with anyio.fail_after(PATIENCE_S):
            heard = [await anext(announced) for _ in range(BUFFER + 2)]
        assert heard[:BUFFER] == flood
        # Of which space and whose key is not known any more: of all of them.
        assert sorted(one.kind for one in heard[BUFFER:]) == ["context", "keys"]
        assert {(one.space_id, one.principal_id) for one in heard[BUFFER:]} == {(None, None)}
        changes.announce(Change("tools"))
        assert await anext(announced) == Change("tools")
