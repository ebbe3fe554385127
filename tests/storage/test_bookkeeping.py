"""What is counted, kept and cleared away around the files: the rows, the bytes and what the disk holds agree."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mcp_spaces.core.ids import Clock
from mcp_spaces.core.limits import Limits
from mcp_spaces.core.scope import EVERYTHING
from mcp_spaces.errors import Conflict, InvalidInput, NotFound, QuotaExceeded, WrongState
from mcp_spaces.storage.model import StoredFile
from mcp_spaces.storage.port import CHUNK_BYTES, Blob
from mcp_spaces.storage.store import FILES_MAX, FileStore
from mcp_spaces.storage.transfer import Target, Transfers
from tests.descriptors import open_here
from tests.storage.bench import AGENT_B, A, B, Bench, FakeLive, granted, sha256

pytestmark = pytest.mark.anyio


def limited(storage_bytes: int) -> Limits:
    return EVERYTHING.limits.model_copy(update={"storage_bytes": storage_bytes})


async def test_an_expired_file_is_not_counted_once_another_has_its_name(bench: Bench) -> None:
    await bench.upload("a", "one", expires_in_s=60)
    bench.time.advance(60)
    await bench.upload("a", "three", if_version=0)
    assert bench.files.stored_bytes(A) == 5 and len(bench.contents()) == 1
    assert bench.database.read_one("SELECT file_count FROM namespaces WHERE name = ?", (A,))["file_count"] == 1  # type: ignore[index]


async def test_an_expired_file_is_deleted_by_nobody_but_time(bench: Bench) -> None:
    await bench.upload("a", "one", expires_in_s=60)
    bench.time.advance(60)
    with pytest.raises(NotFound):
        await bench.call("storage.delete", path="a")


async def test_who_is_over_a_limit_that_was_lowered_may_still_store_less(bench: Bench) -> None:
    bench.spaces.ceilings[A] = granted(own="rw", limits=limited(100))
    await bench.upload("a", "x" * 100)
    bench.spaces.ceilings[A] = granted(own="rw", limits=limited(50))
    with pytest.raises(QuotaExceeded):
        await bench.upload("b", "x")
    await bench.upload("b", "")
    await bench.upload("a", "x" * 40, overwrite=True)
    assert bench.files.stored_bytes(A) == 40


async def test_a_namespace_holds_so_many_files_and_no_more(bench: Bench) -> None:
    await bench.upload("a")
    await bench.database.write(
        lambda tx: tx.execute("UPDATE namespaces SET file_count = ? WHERE name = ?", (FILES_MAX, A))
    )
    with pytest.raises(QuotaExceeded, match="100,000 files"):
        await bench.upload("b")
    await bench.upload("a", "again", overwrite=True)
    await bench.call("storage.delete", path="a")
    await bench.upload("b")


async def test_a_twin_outside_of_the_grant_is_not_named(bench: Bench) -> None:
    bench.spaces.ceilings = {A: granted(exports="rw"), B: granted(exports="rw:team")}
    await bench.upload("TEAM/Report", namespace="exports")
    with pytest.raises(Conflict) as caught:
        await bench.upload("team/report", "x", AGENT_B, namespace="exports")
    assert "TEAM" not in caught.value.message and "Report" not in caught.value.message


async def test_a_replaced_file_keeps_its_birth_and_nothing_else(bench: Bench) -> None:
    first = await bench.upload("a", "one", expires_in_s=60, content_type="text/csv", metadata={"k": "v"})
    bench.time.advance(10)
    second = await bench.upload("a", "three", overwrite=True)
    assert second["created_at"] == first["created_at"] != second["updated_at"]
    assert (second["expires_at"], second["metadata"], second["content_type"], second["size_bytes"]) == (
        None, None, "application/octet-stream", 5
    )  # fmt: skip
    assert second["version"] > first["version"]
    assert (await bench.answer("storage.stat", path="a")) == second


async def test_links_that_are_over_are_cleared_away_and_waited_for(bench: Bench) -> None:
    await bench.upload("a")
    await bench.call("storage.link", path="a", expires_in_s=60)
    await bench.call("storage.link", path="a", expires_in_s=90)
    assert bench.files.next_expiry() == bench.time.at + 60
    bench.time.advance(60)
    assert await bench.files.expire(bench.time.at) == bench.time.at + 30
    assert len(bench.database.read("SELECT id FROM links")) == 1


async def test_what_begins_like_a_link_and_is_none_is_refused_as_unknown(bench: Bench) -> None:
    await bench.upload("a")
    url = (await bench.answer("storage.link", path="a"))["url"]
    token = str(url).rpartition("/")[2]
    prefix, public, secret = token.split("_", 2)
    for wrong in (
        f"{prefix}_{public}_{secret[:-1]}",
        f"{prefix}_{public[:-1]}_{secret}",
        f"xyz_{public}_{secret}",
        f"{prefix}_{public}_{secret[:-1]}é",
        f"{prefix}_{public}_{'A' * 43}",
        "",
    ):
        with pytest.raises(NotFound):
            await bench.links.redeem(wrong)
    assert (await bench.links.redeem(token)).file_name == "a"


async def test_of_a_deleted_space_no_row_and_no_folder_is_left_and_others_hear_of_it(bench: Bench) -> None:
    heard: list[str] = []

    async def hear(space_id: str) -> None:
        heard.append(space_id)

    bench.files.on_deleted.append(hear)
    await bench.upload("a", "one")
    assert bench.files.owners() == [A]
    await bench.files.delete_namespace(A)
    assert bench.files.owners() == [] and heard == [A]
    assert {path.name for path in (bench.folder / "blobs").iterdir()} == {".incoming"}
    # Its next file is its first one.
    assert (await bench.upload("b"))["version"] == 1


async def test_s17_content_goes_with_its_last_file_whoever_else_keeps_the_same(bench: Bench) -> None:
    await bench.upload("a", "same")
    await bench.upload("a", "same", AGENT_B)
    await bench.call("storage.delete", path="a")
    assert bench.contents(A) == [] and len(bench.contents(B)) == 1


async def test_what_nobody_names_is_cleared_from_the_disk_and_nothing_else(bench: Bench) -> None:
    await bench.upload("a", "kept")
    root = bench.folder / "blobs"
    left = root / A / "ab" / ("ab" + "0" * 62)
    for path in (left, root / B / "cd" / ("cd" + "0" * 62), root / ".incoming" / "half", root / "not-ours" / "file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert await bench.blobs.reconcile(bench.files.live) == 3
    assert not left.exists() and not (root / B).exists() and bench.temporary() == []
    assert (root / "not-ours" / "file").exists()
    assert (await bench.answer("storage.read", path="a"))["content"] == "kept"


async def test_while_a_backup_is_taken_nothing_is_removed(bench: Bench) -> None:
    await bench.upload("a", "one")
    await bench.upload("b", "two")
    with bench.blobs.holding():
        await bench.call("storage.delete", path="a")
        await bench.files.delete_namespace(A)
        assert len(bench.contents(A)) == 2
    assert await bench.blobs.reconcile(bench.files.live) == 2
    assert bench.contents(A) == []


async def test_content_that_another_writer_has_just_finished_is_not_swept(bench: Bench) -> None:
    """Two store the same content; one of them fails after the other's bytes are there and before its row is."""
    async with bench.files.incoming(A, limit_bytes=100) as first:
        await first.write(b"same")
        kept = await first.finish()
        async with bench.files.incoming(A, limit_bytes=100) as second:
            await second.write(b"same")
            await second.finish()
        assert len(bench.contents(A)) == 1 and kept.sha256 == sha256(b"same")
    assert bench.contents(A) == []


async def test_content_that_was_taken_over_is_ours_alone_and_is_not_swept_before_it_has_a_row(bench: Bench) -> None:
    path = bench.blobs.spool()
    path.write_bytes(b"same")
    path.chmod(0o644)
    async with bench.blobs.adopted(A, path, limit_bytes=100) as blob:
        bench.blobs.remove(A, blob.sha256)
        (content,) = bench.contents(A)
        assert content.stat().st_mode & 0o777 == 0o600
    bench.blobs.remove(A, blob.sha256)
    assert bench.contents(A) == []


async def test_content_that_is_stored_again_while_it_is_opened_is_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.upload("a", "one")
    (content,) = bench.contents(A)
    real = os.open

    def slowly(path: Path, flags: int) -> int:
        descriptor = real(path, flags)
        again = path.with_name("again")
        again.write_bytes(path.read_bytes())
        again.rename(path)
        return descriptor

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", slowly)
        reader = bench.blobs.open(A, content.name)
    with reader:
        assert await reader.read(0, 9) == b"one"


class SourceGoes(FileStore):
    """What is copied is deleted before its copy has a row."""

    async def put(self, tree: str, path: str, blob: Blob, **more: Any) -> StoredFile:
        await self.remove(A, "a")
        return await super().put(tree, path, blob, **more)


def copy_of(file: StoredFile) -> Target:
    return Target(tree=file.tree, path="copy", description=file.description, limit_bytes=100)


async def test_a_copy_has_its_content_although_what_it_is_of_goes_meanwhile(bench: Bench) -> None:
    await bench.upload("a", "one")
    files = SourceGoes(bench.database, bench.blobs, Clock(now=bench.time.now))
    file = files.get(A, "a")
    await Transfers(files, FakeLive(bench.sandbox)).copy(file, target=copy_of(file))
    assert (await bench.answer("storage.read", path="copy"))["content"] == "one"


async def test_what_was_replaced_before_it_could_be_copied_is_not(bench: Bench) -> None:
    await bench.upload("a", "one")
    file = bench.files.get(A, "a")
    await bench.upload("a", "two", overwrite=True)
    with pytest.raises(Conflict, match="changed while it was copied"):
        await Transfers(bench.files, FakeLive(bench.sandbox)).copy(file, target=copy_of(file))
    assert bench.files.find(A, "copy") is None


async def test_a_write_that_is_given_up_leaves_no_descriptor_open(bench: Bench) -> None:
    before = open_here()
    for _ in range(3):
        async with bench.files.incoming(A, limit_bytes=2 * CHUNK_BYTES) as writer:
            await writer.write(bytes(CHUNK_BYTES + 1))
    assert open_here() <= before
    assert bench.temporary() == []


async def test_what_is_larger_than_its_room_is_not_written_on(bench: Bench) -> None:
    with pytest.raises(QuotaExceeded):
        async with bench.files.incoming(A, limit_bytes=3) as writer:
            await writer.write(b"four")
    assert bench.temporary() == [] and bench.contents() == []


async def test_refused_content_leaves_no_descriptor_open(bench: Bench) -> None:
    await bench.upload("a", "one")
    (content,) = bench.contents(A)
    content.unlink()
    content.mkdir()
    before = open_here()
    for _ in range(3):
        with pytest.raises(WrongState):
            bench.blobs.open(A, sha256(b"one"))
    assert open_here() <= before


@pytest.mark.parametrize(
    "tree", ["", "..", "sp_x", "shared.", "shared.../x", "runs.sp_x", ".incoming", "sp_" + "A" * 26]
)
async def test_s01_no_damaged_row_names_a_folder_elsewhere(bench: Bench, tree: str) -> None:
    with pytest.raises((WrongState, InvalidInput)):
        bench.blobs.open(tree, "0" * 64)
    with pytest.raises((WrongState, InvalidInput)):
        await bench.blobs.remove_tree(tree)
    for sha in ("", "../" + "0" * 61, "0" * 63, "G" * 64):
        with pytest.raises((WrongState, InvalidInput)):
            bench.blobs.open(A, sha)
