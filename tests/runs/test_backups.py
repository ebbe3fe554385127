"""A backup has its name when it is whole, and not before; one that fails leaves nothing and destroys nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.errors import Conflict, DiskFull, WrongState
from mcp_spaces.runs.backups import Backups
from mcp_spaces.state.backup import copy_database
from mcp_spaces.storage.blobs import FileBlobs
from mcp_spaces.storage.port import Blobs
from tests import folders
from tests.storage.bench import OPERATOR, Bench

pytestmark = pytest.mark.anyio

DISK_BYTES = 4 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with folders.small_disk(tmp_path / "disk", mib=DISK_BYTES >> 20) as disk:
        yield disk


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


async def copied(bench: Bench, target: Path, *, include_files: bool = True) -> dict[str, object]:
    return await bench.answer("state.backup", OPERATOR, path=str(target), include_files=include_files)


async def test_a_backup_is_whole_and_private_and_leaves_nothing_else(bench: Bench, tmp_path: Path) -> None:
    await bench.upload("a")
    target = tmp_path / "copies" / "copy.db"
    target.parent.mkdir()
    await copied(bench, target)
    assert names(target.parent) == ["copy.db", "copy.db.blobs"]
    assert target.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("SELECT count(*) FROM files").fetchone() == (1,)


@pytest.mark.parametrize("taken", ["copy.db", "copy.db.blobs"])
async def test_what_is_there_already_is_refused_and_stays(bench: Bench, tmp_path: Path, taken: str) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    (folder / taken).write_text("the last good one")
    with pytest.raises(Conflict):
        await copied(bench, folder / "copy.db")
    assert names(folder) == [taken] and (folder / taken).read_text() == "the last good one"


@pytest.mark.parametrize("room_bytes", [100_000, 1_000_000], ids=["not the database", "not the files"])
async def test_a_full_disk_leaves_no_part_of_a_backup(bench: Bench, small_disk: Path, room_bytes: int) -> None:
    for number in range(4):
        await bench.upload(f"f{number}", f"{number}" * 1_000_000)
    database_bytes = (await copied(bench, bench.folder / "elsewhere.db", include_files=False))["size_bytes"]
    assert isinstance(database_bytes, int) and 100_000 < database_bytes < 1_000_000
    (small_disk / "ballast").write_bytes(b"x" * (DISK_BYTES - room_bytes))
    with pytest.raises(DiskFull) as caught:
        await copied(bench, small_disk / "copy.db")
    assert str(small_disk) in caught.value.message and "another disk" in caught.value.hint
    assert names(small_disk) == ["ballast"]


class Onlooker(FileBlobs):
    """Looks around when the database is copied and the files are half way: what a kill would leave now."""

    seen: list[str]

    async def copy_to(self, target: Path) -> int:
        copied = await super().copy_to(target)
        self.seen = names(target.parent)
        return copied


async def test_a_backup_that_is_killed_leaves_nothing_under_its_name(bench: Bench, tmp_path: Path) -> None:
    await bench.upload("a")
    target = tmp_path / "copies" / "copy.db"
    target.parent.mkdir()
    blobs = Onlooker(tmp_path / "blobs")
    made = await Backups(bench.database, blobs, tmp_path, tmp_path).make(target, include_files=True)
    assert blobs.seen == ["copy.db.blobs.partial", "copy.db.partial"]
    assert made.files_path == target.with_name("copy.db.blobs") and made.files_bytes == 1


@dataclass
class Between:
    """The bench's own blobs, with something that happens once the database is copied and the files are not."""

    blobs: Blobs
    happens: Callable[[], Awaitable[object]]

    def holding(self) -> AbstractContextManager[None]:
        return self.blobs.holding()

    async def copy_to(self, target: Path) -> int:
        await self.happens()
        return await self.blobs.copy_to(target)


async def copied_while(bench: Bench, target: Path, happens: Callable[[], Awaitable[object]]) -> None:
    blobs: Any = Between(bench.blobs, happens)
    await Backups(bench.database, blobs, bench.folder, bench.folder).make(target, include_files=True)


async def test_a_file_that_is_deleted_meanwhile_is_in_the_copy_whose_rows_name_it(bench: Bench, tmp_path: Path) -> None:
    await bench.upload("a")
    target = tmp_path / "copies" / "copy.db"
    target.parent.mkdir()
    await copied_while(bench, target, lambda: bench.call("storage.delete", path="a"))
    with closing(sqlite3.connect(target)) as copy:
        (named,) = copy.execute("SELECT blob FROM files").fetchone()
    assert [one.name for one in target.with_name("copy.db.blobs").glob("*/??/*")] == [named]


async def test_what_somebody_else_put_there_meanwhile_is_not_replaced(bench: Bench, tmp_path: Path) -> None:
    target = tmp_path / "copies" / "copy.db"
    target.parent.mkdir()

    async def put() -> None:
        target.write_text("mine")

    with pytest.raises(Conflict):
        await copied_while(bench, target, put)
    assert names(target.parent) == ["copy.db"] and target.read_text() == "mine"


async def test_a_backup_of_which_one_part_cannot_be_named_has_none(bench: Bench, tmp_path: Path) -> None:
    target = tmp_path / "copies" / "copy.db"
    target.parent.mkdir()

    async def lose() -> None:
        target.with_name("copy.db.partial").unlink()

    with pytest.raises(WrongState):
        await copied_while(bench, target, lose)
    assert names(target.parent) == []


async def test_a_copy_that_is_not_sound_is_no_backup(bench: Bench, tmp_path: Path) -> None:
    with closing(sqlite3.connect(bench.database.path)) as damaged, damaged:
        damaged.execute("INSERT INTO settings (name, value) VALUES ('odd', 'row')")
        damaged.execute("PRAGMA writable_schema = ON")
        # As if a row were not what its table demands.
        damaged.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, 'value TEXT NOT NULL', 'value TEXT NOT NULL CHECK (value = name)')"
            " WHERE name = 'settings'"
        )
    with pytest.raises(WrongState, match="not sound"):
        copy_database(bench.database, tmp_path / "copy.db")


async def test_the_rest_of_a_killed_backup_is_replaced_by_the_next(bench: Bench, tmp_path: Path) -> None:
    await bench.upload("a")
    folder = tmp_path / "copies"
    (folder / "copy.db.blobs.partial" / "half").mkdir(parents=True)
    for rest in ("copy.db.partial", "copy.db.partial-journal"):
        (folder / rest).write_text("half")
    await copied(bench, folder / "copy.db")
    assert names(folder) == ["copy.db", "copy.db.blobs"] and not (folder / "copy.db.blobs" / "half").exists()


async def test_two_backups_of_one_name_at_once_are_one_and_a_conflict(bench: Bench, tmp_path: Path) -> None:
    target, refused = tmp_path / "copies" / "copy.db", []
    target.parent.mkdir()

    async def one() -> None:
        try:
            await copied(bench, target)
        except Conflict as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        tasks.start_soon(one)
    assert len(refused) == 1 and names(target.parent) == ["copy.db", "copy.db.blobs"]
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_backup_holds_every_file_that_its_rows_name(bench: Bench, tmp_path: Path) -> None:
    for number in range(5):
        await bench.upload(f"f{number}", f"content {number}")
    target = tmp_path / "copies" / "state.db"
    target.parent.mkdir()
    made = await bench.answer("state.backup", OPERATOR, path=str(target), include_files=True)
    assert made["files_bytes"] == 45 and any("seal.key" in text for text in made["keep_as_well"])
    with closing(sqlite3.connect(target)) as connection:
        for tree, blob in connection.execute("SELECT namespace, blob FROM files"):
            assert (Path(made["files_path"]) / tree / blob[:2] / blob).stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict):
        await bench.call("state.backup", OPERATOR, path=str(target))
    without = await bench.answer("state.backup", OPERATOR, path=str(target) + "2")
    assert any("blobs" in text for text in without["keep_as_well"])
