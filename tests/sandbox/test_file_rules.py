"""Files through the operations: what policy says about sizes, and edits that meet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from mcp_spaces.errors import Conflict, Denied, InvalidInput
from mcp_spaces.sandbox.files import CONTENT_BYTES
from tests.sandbox.app_fixture import Room, open_room

pytestmark = pytest.mark.anyio


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with open_room(tmp_path) as opened:
        yield opened


async def allow_bytes(room: Room, most: int) -> None:
    policy = room.space.requested.policy.model_copy(update={"overrides": {"files": {"max_file_bytes": most}}})
    wanted = room.space.requested.model_copy(update={"policy": policy})
    await room.spaces.change(room.space.id, lambda one: one.model_copy(update={"requested": wanted}))


async def test_a_file_larger_than_policy_allows_is_neither_read_written_nor_made_by_an_edit(room: Room) -> None:
    await room.call("sandbox.write_file", path="large", content="x" * 11)
    await room.call("sandbox.write_file", path="fits", content="0123456789")
    await allow_bytes(room, 10)
    assert (await room.call("sandbox.read_file", path="fits")).content == "0123456789"
    for operation, arguments in (
        ("sandbox.read_file", {"path": "large"}),
        ("sandbox.write_file", {"path": "new", "content": "x" * 11}),
        ("sandbox.edit_file", {"path": "fits", "edits": [{"old": "9", "new": "9!"}]}),
    ):
        with pytest.raises(Denied) as caught:
            await room.call(operation, **arguments)
        assert caught.value.rule == "files.max_file_bytes"
    await room.call("sandbox.edit_file", path="fits", edits=[{"old": "9", "new": "!"}])
    assert (await room.shell("cat fits; ls")).stdout == "012345678!fits\nlarge\n"


async def test_a_file_too_large_to_edit_says_so(room: Room) -> None:
    await allow_bytes(room, 1 << 30)
    await room.shell(f"truncate -s {CONTENT_BYTES + 1} huge")
    with pytest.raises(InvalidInput, match="edits work up to"):
        await room.call("sandbox.edit_file", path="huge", edits=[{"old": "a", "new": "b"}])


async def test_of_edits_that_meet_none_is_lost_without_a_word(room: Room) -> None:
    await room.call("sandbox.write_file", path="list", content="end\n")
    done: list[int] = []

    async def edit(number: int) -> None:
        try:
            await room.call("sandbox.edit_file", path="list", edits=[{"old": "end", "new": f"<{number}> end"}])
            done.append(number)
        except Conflict:
            pass

    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(edit, number)
    content = (await room.shell("cat list")).stdout
    assert done and all(f"<{number}>" in content for number in done)
