"""What a start mends of what a killed daemon left, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

from mcp_spaces.runs.artifacts import ArtifactStore
from mcp_spaces.storage.model import Description
from mcp_spaces.storage.store import FileStore
from tests.security.app import World, open_world

GONE = "sp_" + "g" * 26


async def written(world: World, space: str, path: str) -> None:
    files = world.use(FileStore)
    async with files.incoming(space, limit_bytes=100) as writer:
        await writer.write(path.encode())
        blob = await writer.finish()
        await files.put(
            space, path, blob, description=Description(content_type="text/plain", source="upload"), limit_bytes=100
        )


def on_disk(folder: Path) -> dict[str, int]:
    """How many files each tree has."""
    trees = [one for one in (folder / "state" / "blobs").iterdir() if not one.name.startswith(".")]
    return {tree.name: count for tree in trees if (count := sum(one.is_file() for one in tree.rglob("*")))}


async def test_k16_files_of_a_space_that_is_gone_go_at_the_next_start_and_no_others(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        space = await world.space("work")
        # As a kill between the last steps of a delete leaves them.
        for owner in (space, GONE):
            await written(world, owner, "a.txt")
        assert sorted(world.use(FileStore).owners()) == sorted([space, GONE])
    async with open_world(tmp_path) as world:
        assert world.use(FileStore).owners() == [space]
        assert on_disk(tmp_path) == {space: 1}


async def test_k16_content_that_no_row_names_goes_at_the_next_start_and_that_of_artifacts_stays(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        space = await world.space("work")
        await written(world, space, "a.txt")
        run = (await world.outcome("space.get", space="work")).run_id
        artifacts = world.use(ArtifactStore)
        made = artifacts.spool()
        made.write_bytes(b"what a run produced")
        await artifacts.keep(run_id=run, space_id=space, name="out.txt", content_type="text/plain", path=made)
        kept = on_disk(tmp_path)
        lost = tmp_path / "state" / "blobs" / space / "00" / ("0" * 64)
        lost.parent.mkdir(exist_ok=True)
        lost.write_bytes(b"of a write that was killed")
        assert on_disk(tmp_path) != kept
    async with open_world(tmp_path):
        assert on_disk(tmp_path) == kept
