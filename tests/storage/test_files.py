"""What an agent does with stored files."""

from __future__ import annotations

import base64
import os
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from pydantic import BaseModel

from mcp_spaces.core.limits import Limits
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.core.scope import EVERYTHING
from mcp_spaces.errors import Conflict, Denied, InvalidInput, NotFound, QuotaExceeded, SpacesError, WrongState
from mcp_spaces.storage import operations
from mcp_spaces.storage.transfer import STAGE_BYTES_MAX, STAGES_AT_A_TIME, Transfers
from tests.storage.bench import AGENT_B, PATIENCE_S, A, B, Bench, FakeLive, granted, sha256

pytestmark = pytest.mark.anyio


def limited(storage_bytes: int) -> Limits:
    return EVERYTHING.limits.model_copy(update={"storage_bytes": storage_bytes})


async def test_what_was_uploaded_is_read_back_with_its_hash_and_type(bench: Bench) -> None:
    stored = await bench.upload("reports/a.csv", "x,y\n1,2\n", metadata={"kind": "sales"})
    assert stored["sha256"] == sha256(b"x,y\n1,2\n")
    assert (stored["content_type"], stored["size_bytes"], stored["source"]) == ("text/csv", 8, "upload")
    assert stored["metadata"] == {"kind": "sales"}
    answer = await bench.answer("storage.read", path="reports/a.csv")
    assert answer["content"] == "x,y\n1,2\n" and answer["next_offset"] is None
    assert (await bench.answer("storage.stat", path="reports/a.csv"))["sha256"] == stored["sha256"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("notes.md", "text/markdown"),
        ("app.js", "text/javascript"),
        ("app.tsx", "text/plain"),
        ("run.sh", "text/plain"),
        ("ci.yaml", "text/plain"),
        ("a.py", "text/x-python"),
        ("page.html", "text/html"),
        ("a.tar.gz", "application/octet-stream"),
        ("Makefile", "application/octet-stream"),
    ],
)
async def test_source_text_is_known_as_text_by_its_name(bench: Bench, name: str, kind: str) -> None:
    assert (await bench.upload(name, "x"))["content_type"] == kind


async def test_a_long_text_is_read_in_ranges_that_never_cut_a_character(bench: Bench) -> None:
    text = "añ🎉" * 9000
    await bench.upload("long.txt", text)
    pieces: list[str] = []
    offset: object = 0
    while offset is not None:
        answer = await bench.answer("storage.read", path="long.txt", offset=offset)
        assert len(str(answer["content"])) <= 16_000
        pieces.append(str(answer["content"]))
        offset = answer["next_offset"]
    assert "".join(pieces) == text


async def test_bytes_travel_as_base64_and_are_no_text(bench: Bench) -> None:
    raw = os.urandom(40_000)
    await bench.upload("raw.bin", base64.b64encode(raw).decode(), encoding="base64")
    with pytest.raises(WrongState, match="UTF-8"):
        await bench.call("storage.read", path="raw.bin")
    read, offset = b"", 0
    while True:
        answer = await bench.answer("storage.read", path="raw.bin", offset=offset, encoding="base64")
        assert len(str(answer["content"])) <= 16_000
        read += base64.b64decode(str(answer["content"]))
        if answer["next_offset"] is None:
            break
        assert isinstance(answer["next_offset"], int)
        offset = answer["next_offset"]
    assert read == raw


async def test_a_range_past_the_end_is_empty_and_no_error(bench: Bench) -> None:
    await bench.upload("a", "abc")
    answer = await bench.answer("storage.read", path="a", offset=10)
    assert answer["content"] == "" and answer["next_offset"] is None


async def test_an_existing_file_is_replaced_only_when_asked(bench: Bench) -> None:
    first = await bench.upload("a", "one")
    with pytest.raises(Conflict, match="exists"):
        await bench.upload("a", "two")
    second = await bench.upload("a", "two", overwrite=True)
    assert second["version"] != first["version"]
    with pytest.raises(Conflict, match="version"):
        await bench.upload("a", "three", if_version=first["version"])
    await bench.upload("a", "three", if_version=second["version"])
    assert (await bench.answer("storage.read", path="a"))["content"] == "three"
    assert len(bench.contents(A)) == 1


async def test_a_version_never_comes_back_after_a_delete(bench: Bench) -> None:
    first = await bench.upload("a", "one")
    await bench.call("storage.delete", path="a")
    second = await bench.upload("a", "one")
    assert second["version"] != first["version"]
    with pytest.raises(Conflict):
        await bench.call("storage.delete", path="a", if_version=first["version"])


async def test_if_version_zero_only_creates(bench: Bench) -> None:
    await bench.upload("a", "one", if_version=0)
    with pytest.raises(Conflict):
        await bench.upload("a", "two", if_version=0)


async def test_names_that_look_alike_cannot_stand_beside_each_other(bench: Bench) -> None:
    await bench.upload("Readme.md")
    with pytest.raises(Conflict, match=r"Readme\.md"):
        await bench.upload("README.md", overwrite=True)


async def test_browsing_shows_a_folder_page_by_page(bench: Bench) -> None:
    for path in ("reports", "reports/a", "reports/b/c", "reports-x/d", "reports.txt", "z"):
        await bench.upload(path)
    seen: list[str] = []
    cursor: object = ""
    while cursor is not None:
        page = await bench.answer("storage.browse", prefix="reports", limit=1, cursor=cursor)
        assert isinstance(page["files"], list)
        seen += [file["path"] for file in page["files"]]
        cursor = page["next_cursor"]
    assert seen == ["reports", "reports/a", "reports/b/c"]
    everything = await bench.answer("storage.browse")
    assert isinstance(everything["files"], list) and len(everything["files"]) == 6
    assert (await bench.answer("storage.browse", prefix="absent"))["files"] == []


async def test_the_quota_counts_every_file_and_says_use_and_limit(bench: Bench) -> None:
    bench.spaces.ceilings[A] = granted(own="rw", limits=limited(100))
    await bench.upload("a", "x" * 60)
    with pytest.raises(QuotaExceeded):
        await bench.upload("b", "x" * 60)
    await bench.upload("a", "y" * 100, overwrite=True)
    await bench.upload("empty", "")
    with pytest.raises(QuotaExceeded, match="200 of 100"):
        await bench.call("storage.copy", path="a", to="c")
    await bench.call("storage.delete", path="a")
    await bench.upload("d", "x" * 100)
    assert bench.files.stored_bytes(A) == 100


async def test_equal_content_is_kept_once_and_goes_with_its_last_file(bench: Bench) -> None:
    await bench.upload("a", "same")
    await bench.upload("b", "same")
    await bench.call("storage.copy", path="a", to="c")
    assert len(bench.contents(A)) == 1 and bench.files.stored_bytes(A) == 12
    await bench.call("storage.delete", path="a")
    await bench.call("storage.delete", path="b")
    assert (await bench.answer("storage.read", path="c"))["content"] == "same"
    await bench.call("storage.delete", path="c")
    assert bench.contents() == [] and bench.files.stored_bytes(A) == 0


async def test_a_failed_upload_leaves_nothing(bench: Bench) -> None:
    await bench.upload("a", "one")
    for content in ("two", "three"):
        with pytest.raises(Conflict):
            await bench.upload("a", content)
    assert len(bench.contents()) == 1 and bench.temporary() == []


async def test_expired_files_are_gone_at_once_and_removed_later(bench: Bench) -> None:
    await bench.upload("a", "one", expires_in_s=60)
    await bench.upload("b", "two")
    assert bench.files.next_expiry() == bench.time.at + 60
    bench.time.advance(60)
    with pytest.raises(NotFound):
        await bench.call("storage.read", path="a")
    page = await bench.answer("storage.browse")
    assert isinstance(page["files"], list) and [file["path"] for file in page["files"]] == ["b"]
    assert await bench.files.expire(bench.time.at) is None
    assert len(bench.contents()) == 1 and bench.files.stored_bytes(A) == 3


async def test_an_expired_file_is_in_nobodys_way(bench: Bench) -> None:
    await bench.upload("Name", "one", expires_in_s=60)
    bench.time.advance(61)
    await bench.upload("name", "two")
    assert bench.files.stored_bytes(A) == 3 and len(bench.contents()) == 1


async def test_a_shared_namespace_is_seen_by_every_space_that_mounts_it(bench: Bench) -> None:
    bench.spaces.ceilings = {A: granted(own="rw", exports="rw"), B: granted(own="rw", exports="ro")}
    await bench.upload("a", "shared", namespace="exports")
    answer = await bench.answer("storage.read", AGENT_B, namespace="exports", path="a")
    assert answer["content"] == "shared"
    with pytest.raises(Denied) as caught:
        await bench.upload("b", "no", AGENT_B, namespace="exports")
    assert caught.value.rule == "scope.storage"
    copied = await bench.answer("storage.copy", AGENT_B, namespace="exports", path="a", to="mine")
    assert copied["namespace"] == "own"
    assert {path.parent.parent.name for path in bench.contents()} == {"shared.exports", B}


async def test_a_grant_with_a_prefix_shows_and_takes_only_what_is_below(bench: Bench) -> None:
    bench.spaces.ceilings = {A: granted(exports="rw"), B: granted(exports="rw:team")}
    for path in ("team/a", "team-x/b", "c"):
        await bench.upload(path, "x", namespace="exports")
    page = await bench.answer("storage.browse", AGENT_B, namespace="exports")
    assert isinstance(page["files"], list) and [file["path"] for file in page["files"]] == ["team/a"]
    assert (await bench.answer("storage.browse", AGENT_B, namespace="exports", prefix="c"))["files"] == []
    with pytest.raises(NotFound) as hidden:
        await bench.call("storage.read", AGENT_B, namespace="exports", path="c")
    with pytest.raises(NotFound) as absent:
        await bench.call("storage.read", AGENT_B, namespace="exports", path="team/absent")
    assert (hidden.value.message, hidden.value.hint) == (absent.value.message, absent.value.hint)
    assert "storage_collect" in absent.value.hint, "what is in a sandbox is often taken for stored"
    with pytest.raises(Denied):
        await bench.upload("d", "x", AGENT_B, namespace="exports")


async def test_staging_and_collecting_carry_large_files_whole(bench: Bench) -> None:
    raw = os.urandom(3 * (1 << 20) + 17)
    bench.sandbox.files["out.bin"] = raw
    kept = await bench.answer("storage.collect", path="out.bin", to="kept/out.bin")
    assert kept["sha256"] == sha256(raw) and kept["source"] == "runtime:rt_1"
    staged = await bench.answer("storage.stage", path="kept/out.bin", to="in.bin")
    assert staged["size_bytes"] == len(raw) and bench.sandbox.files["in.bin"] == raw
    with pytest.raises(Conflict):
        await bench.call("storage.stage", path="kept/out.bin", to="in.bin")
    with pytest.raises(InvalidInput, match="name the file in it"):
        await bench.call("storage.stage", path="kept/out.bin", to="data/")
    assert "data" not in bench.sandbox.files


async def test_a_file_that_is_too_large_to_be_in_memory_for_a_moment_is_not_staged(bench: Bench) -> None:
    """Whatever a policy of one's own permits."""
    await bench.upload("big")
    big = bench.files.get(A, "big").model_copy(update={"size_bytes": STAGE_BYTES_MAX + 1})

    async def progress(done: float, total: float | None, words: str) -> None:
        """Nobody listens."""

    with pytest.raises(QuotaExceeded, match="can be staged"):
        await Transfers(bench.files, FakeLive(bench.sandbox)).stage(
            big, runtime_id="rt_1", to="big", overwrite=False, progress=progress
        )
    assert "big" not in bench.sandbox.files


async def test_a_file_that_is_deleted_while_its_staging_waits_for_others_is_staged_all_the_same(bench: Bench) -> None:
    for number in range(STAGES_AT_A_TIME + 1):
        await bench.upload(f"f{number}", f"content {number}")
    bench.sandbox.holding = anyio.Event()
    async with anyio.create_task_group() as stages:
        for number in range(STAGES_AT_A_TIME + 1):
            stages.start_soon(partial(bench.answer, "storage.stage", path=f"f{number}", to=f"in{number}"))
            with anyio.fail_after(PATIENCE_S):
                while len(bench.sandbox.held) < min(number + 1, STAGES_AT_A_TIME):
                    await checkpoint()
        await anyio.wait_all_tasks_blocked()
        await bench.answer("storage.delete", path=f"f{STAGES_AT_A_TIME}")
        bench.sandbox.holding.set()
    assert bench.sandbox.files[f"in{STAGES_AT_A_TIME}"] == f"content {STAGES_AT_A_TIME}".encode()


async def test_policy_judges_the_path_that_a_link_led_to(bench: Bench) -> None:
    bench.sandbox.files["prod.env"] = b"SECRET=1"
    bench.sandbox.links["notes.txt"] = "prod.env"
    with pytest.raises(Denied) as caught:
        await bench.call("storage.collect", path="notes.txt", to="notes.txt")
    assert caught.value.rule == "files.blocked_paths"
    assert bench.contents() == []


async def test_policy_judges_a_files_size_before_it_travels(bench: Bench) -> None:
    bench.sandbox.files["big"] = b"x"
    bench.sandbox.claimed_sizes["big"] = 11 << 20
    with pytest.raises(Denied) as caught:
        await bench.call("storage.collect", path="big", to="big")
    assert caught.value.rule == "files.max_file_bytes"


@pytest.mark.parametrize(("before", "after"), [(2 << 20, 3 << 20), (2 << 20, 2 << 20), (1, 1), (0, 1)])
async def test_a_file_that_changes_under_a_collection_is_not_kept(bench: Bench, before: int, after: int) -> None:
    bench.sandbox.files["log"] = b"x" * before
    bench.sandbox.after_first_read["log"] = b"y" * after
    with pytest.raises(Conflict, match="changed"):
        await bench.call("storage.collect", path="log", to="log")
    assert bench.contents() == [] and bench.temporary() == []


@pytest.mark.parametrize("claimed", [-1, 0, 1, 10])
async def test_a_sandbox_that_lies_about_a_size_is_not_believed(bench: Bench, claimed: int) -> None:
    bench.sandbox.files["short"] = b"abc"
    bench.sandbox.claimed_sizes["short"] = claimed
    with pytest.raises(SpacesError):
        await bench.call("storage.collect", path="short", to="short")
    assert bench.contents() == []


async def test_deleting_a_space_frees_its_files_links_and_artifacts(bench: Bench) -> None:
    await bench.upload("a", "one")
    await bench.call("storage.link", path="a")
    await bench.upload("b", "two", AGENT_B)
    await bench.files.delete_namespace(A)
    await bench.files.delete_namespace(A)
    assert bench.contents(A) == [] and len(bench.contents(B)) == 1
    assert bench.database.read("SELECT 1 FROM links") == [] and bench.files.stored_bytes(A) == 0


async def test_many_at_once_keep_the_counters_true(bench: Bench) -> None:
    async def churn(number: int) -> None:
        await bench.upload(f"f{number}", "same" if number % 2 else f"own {number}")
        await bench.upload(f"f{number}", "same", overwrite=True)
        if number % 3:
            await bench.call("storage.delete", path=f"f{number}")

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(churn, number)
    left = bench.files.page(A, prefix="", after="", limit=100)
    assert bench.files.stored_bytes(A) == sum(file.size_bytes for file in left) == 10 * 4
    assert len(bench.contents(A)) == 1
    for file in left:
        assert (await bench.answer("storage.read", path=file.path))["content"] == "same"


async def test_a_cancelled_upload_is_stored_whole_or_not_at_all(bench: Bench) -> None:
    for turns in range(12):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.upload, f"f{turns}", f"content {turns}")
            for _ in range(turns):
                await checkpoint()
            tasks.cancel_scope.cancel()
    with anyio.fail_after(PATIENCE_S):
        for file in bench.files.page(A, prefix="", after="", limit=100):
            assert (await bench.answer("storage.read", path=file.path))["content"] == f"content {file.path[1:]}"
    assert len(bench.contents(A)) == len(bench.files.page(A, prefix="", after="", limit=100))
    assert bench.temporary() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "a", "content": "=", "encoding": "base64"},
        {"path": "a", "content": "x", "content_type": "text/html\r\nX: y"},
        {"path": "a", "content": "x", "metadata": {f"k{n}": "v" for n in range(21)}},
        {"path": "a", "content": "\ud800"},
        {"path": "a", "content": "x", "if_version": -1},
        {"path": "a", "content": "x", "namespace": "*"},
        {"path": "a", "content": "x", "expires_in_s": float("inf")},
        {"path": "a", "content": "x", "unknown": 1},
    ],
)
async def test_bad_input_is_refused_with_a_hint_and_stores_nothing(bench: Bench, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        await bench.call("storage.upload", **wrong)
    assert caught.value.hint
    assert bench.contents() == []


@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=lambda operation: operation.id)
def test_every_operation_has_an_example_that_is_valid(operation: AnyOperation) -> None:
    parsed = operation.input.model_validate(operation.example)
    assert isinstance(parsed, BaseModel)
