"""What the first line over a local socket can bring, and what it cannot: threat T20, and the limits of D11."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces import places
from mcp_spaces.errors import InvalidInput, WrongState
from mcp_spaces.server.unix import bound, make_private, remove
from tests.security.app import nobody, short_folder
from tests.server.doors import House, open_house
from tests.server.small_app import KEY

PING = {"jsonrpc": "2.0", "id": 3, "method": "ping"}


@asynccontextmanager
async def connected(path: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        with anyio.fail_after(20):
            yield reader, writer
    finally:
        writer.close()


async def answered(house: House, first_line: bytes) -> Any:
    """What an agent's first request is answered after this line."""
    async with connected(places.agent_socket(str(house.settings.state_dir))) as (reader, writer):
        writer.write(first_line + b"\n" + json.dumps(PING).encode() + b"\n")
        line = await reader.readline()
        return json.loads(line) if line else None


@pytest.mark.parametrize(
    "said",
    [
        {"terminal": {"space": "work"}},
        {"terminal": {"space": "work"}, "key": KEY},
        {"pipes": 2, "operator": True},
        {"pipes": 3},
        {"pipes": 2, "key": KEY},
        {"key": 7},
        {"key": KEY, "terminal": {}},
    ],
    ids=str,
)
async def test_t20_no_first_line_of_an_agent_is_more_than_a_key_or_pipes(said: dict[str, Any]) -> None:
    async with open_house() as house:
        refused = await answered(house, json.dumps({"mcp-spaces": 1, **said}, separators=(",", ":")).encode())
        assert (refused["id"], refused["error"]["code"]) == (3, -32001)
        rows = house.app.pipeline._database.read("SELECT operation FROM runs")
        assert [row["operation"] for row in rows] == []


async def test_d11_a_connection_that_ended_makes_room_for_another() -> None:
    async with open_house(local_connections_max=1) as house:
        path = places.agent_socket(str(house.settings.state_dir))
        for _ in range(3):
            async with connected(path) as (reader, writer):
                writer.write(json.dumps(PING).encode() + b"\n")
                assert await reader.readline()
            with anyio.fail_after(20):
                while house_is_full(await said_by(path)):
                    pass


async def said_by(path: str) -> bytes:
    async with connected(path) as (reader, writer):
        writer.write(json.dumps(PING).encode() + b"\n")
        return await reader.readline()


def house_is_full(line: bytes) -> bool:
    return b"Too many" in line


def test_t22_a_directory_of_another_user_is_refused_whatever_its_mode() -> None:
    with short_folder() as folder:
        folder.chmod(0o755)
        (folder / "state").mkdir(mode=0o700)
        if os.geteuid() != 0:
            pytest.skip("only root can become somebody else")
        with nobody(), pytest.raises(WrongState, match="not a directory of this user"):
            make_private(folder / "state")


def test_t22_a_socket_is_bound_for_this_user_alone_and_what_comes_later_has_the_usual_mode() -> None:
    with short_folder() as folder:
        before = os.umask(0o022)
        try:
            path = folder / "agent.sock"
            with bound(path):
                assert path.stat().st_mode & 0o777 == 0o600
                (folder / "file").touch()
                assert (folder / "file").stat().st_mode & 0o777 == 0o644
            # As a killed daemon leaves it.
            with bound(path):
                pass
            remove(path)
            remove(path)
        finally:
            os.umask(before)


@pytest.mark.parametrize("over", [0, 1])
def test_a_socket_path_has_exactly_so_many_bytes(over: int) -> None:
    with short_folder() as folder:
        name = "é" * ((107 - len(os.fsencode(folder)) - 1) // 2)
        path = folder / (name + "x" * (107 + over - len(os.fsencode(folder / name))))
        assert len(os.fsencode(path)) == 107 + over
        if over:
            with pytest.raises(InvalidInput):
                bound(path)
        else:
            bound(path).close()


def test_a_state_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WrongState, match="Not a directory"):
        make_private(tmp_path / "file" / "state")
