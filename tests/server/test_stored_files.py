"""Stored files as resources: as text where they are some, as bytes where not, and never in part."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, MCPError

from mcp_spaces.core.context import Context
from mcp_spaces.server.authentication import Visitor, visited_by
from mcp_spaces.server.endpoint import open_server
from mcp_spaces.server.limits import Lane
from tests.security.app import open_world
from tests.server.doors import open_house
from tests.server.small_app import SPACE_ID, AnyOutput, FileInput, observing

LATIN = "é".encode("latin-1")
FILES: dict[str, tuple[str, bytes]] = {
    "page.html": ("text/html", "<p>é</p>".encode()),
    "list.json": ("application/json", b"[1]"),
    "latin.txt": ("text/plain", LATIN),
    "text.bin": ("application/octet-stream", b"text"),
}


class Wanted(FileInput):
    space: str = ""


asked: list[Wanted] = []


async def read(_: Context, wanted: Wanted) -> AnyOutput:
    asked.append(wanted)
    kind, content = FILES.get(wanted.path, ("text/plain", b"head"))
    more = {"next_offset": 4} if wanted.path == "large.txt" else {}
    encoded = base64.b64encode(content).decode()
    return AnyOutput.model_validate({"content": encoded, "encoding": "base64", "content_type": kind, **more})


READ = observing("storage.read", read, Wanted, AnyOutput)


async def contents(path: str) -> Any:
    async with open_house(operations=[READ]) as house, house.client() as client:
        (found,) = (await client.read_resource(f"storage://{path}")).contents
        return found


@pytest.mark.parametrize("name", FILES)
async def test_a_file_is_text_only_where_its_type_says_so_and_its_bytes_are(name: str) -> None:
    kind, content = FILES[name]
    found = await contents(f"own/{name}")
    assert found.mime_type == kind
    if name in ("page.html", "list.json"):
        assert isinstance(found, types.TextResourceContents)
        assert found.text.encode() == content
    else:
        assert isinstance(found, types.BlobResourceContents)
        assert base64.b64decode(found.blob) == content


async def test_a_file_above_the_limit_is_refused_with_what_reads_it() -> None:
    async with open_house(operations=[READ], resource_bytes_max=4_096) as house, house.client() as client:
        with pytest.raises(MCPError, match="Use storage_read with offset and limit"):
            await client.read_resource("storage://own/large.txt")
    assert asked[-1].limit == 4_096


async def test_a_spaces_id_stands_for_its_own_files_and_a_name_for_what_is_mounted() -> None:
    await contents(f"{SPACE_ID}/page.html")
    assert (asked[-1].space, asked[-1].namespace) == (SPACE_ID, "own")
    for name in ("shared", SPACE_ID + "a", SPACE_ID[:-1]):
        await contents(f"{name}/page.html")
        assert (asked[-1].space, asked[-1].namespace) == ("", name)


@pytest.mark.parametrize("name", FILES)
async def test_what_was_stored_reads_as_a_resource_by_its_own_uri(tmp_path: Path, name: str) -> None:
    kind, content = FILES[name]
    wanted: dict[str, Any] = {"content": base64.b64encode(content).decode(), "encoding": "base64", "content_type": kind}
    async with open_world(tmp_path) as world, open_server(world.app, world.app.settings) as server:
        space = await world.space("work")
        stored = await world.call("storage.upload", space=space, path=f"a b/{name}", **wanted)
        with visited_by(Visitor(world.agent, Lane(8, 8))):
            async with Client(server, cache=None) as client:
                (found,) = (await client.read_resource(stored.uri)).contents
    assert found.mime_type == kind
    read = base64.b64decode(found.blob) if isinstance(found, types.BlobResourceContents) else found.text.encode()
    assert read == content
