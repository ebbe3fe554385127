"""Threats to stored files (S*) and to content under a kill (K16). S10 and S11: see the last test but one."""

from __future__ import annotations

import ast
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import pytest

from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.core.scope import EVERYTHING
from mcp_spaces.errors import Conflict, InvalidInput, NotFound, QuotaExceeded, WrongState
from mcp_spaces.runs.artifacts import plain_name
from mcp_spaces.state.database import Database
from mcp_spaces.storage.blobs import FileBlobs
from mcp_spaces.storage.store import FileStore
from tests.security.app import open_world
from tests.security.prepared import prepared
from tests.storage.bench import AGENT_A, AGENT_B, PATIENCE_S, SEALER, A, B, Bench, bound_to, granted, open_bench, sha256

pytestmark = pytest.mark.anyio

PACKAGE = Path(__file__).parents[2] / "mcp_spaces"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as opened:
        yield opened


HOSTILE = [
    "../outside", "a/../../outside", "/etc/passwd", "a\0b", "e\u0301", "\uff0e\uff0e/x", "a\u200b", "a\u202etxt.exe",
    "a\u2215b", "\udcff", "a\\..\\b", "x" * 2000, "/".join("x" * 10_000), "a. ", "a.", "a ", "a\x1b[2J", "a\nb",
    "x" * 256, "/".join("x" * 33), "\u00e9" * 128, "/".join(["\u00e9" * 103] * 5),
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
async def test_s01_s02_s07_s08_s09_hostile_names_are_a_typed_refusal(bench: Bench, path: str) -> None:
    await bench.upload("kept")
    before = bench.contents()
    tries: tuple[tuple[str, dict[str, Any]], ...] = (
        ("storage.upload", {"path": path, "content": "x"}),
        ("storage.read", {"path": path}),
        ("storage.stat", {"path": path}),
        ("storage.browse", {"prefix": path}),
        ("storage.delete", {"path": path}),
        ("storage.link", {"path": path}),
        ("storage.copy", {"path": "kept", "to": path}),
        ("storage.copy", {"path": path, "to": "copied"}),
    )
    for operation, arguments in tries:
        with pytest.raises(InvalidInput):
            await bench.call(operation, **arguments)
    assert bench.contents() == before


@pytest.mark.parametrize("path", ["x" * 255, "/".join("x" * 32), "/".join(["x" * 204] * 5)])
async def test_s09_the_longest_and_deepest_names_are_kept(bench: Bench, path: str) -> None:
    await bench.upload(path)
    assert (await bench.answer("storage.read", path=path))["size_bytes"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("README", "readme"), ("a/\ufb01le", "a/file"), ("\uff21", "A"), ("A/x", "a/x"), ("Stra\u00dfe", "STRASSE")],
    ids=ascii,
)
async def test_s08_two_names_that_look_alike_do_not_stand_beside_each_other(
    bench: Bench, first: str, second: str
) -> None:
    for one, other in ((first, second), (second, first)):
        await bench.upload(one)
        with pytest.raises(Conflict, match="looks like"):
            await bench.upload(other)
        with pytest.raises(Conflict, match="looks like"):
            await bench.call("storage.copy", path=one, to=other)
        await bench.call("storage.delete", path=one)


async def test_s01_every_real_path_is_made_of_our_own_names(bench: Bench) -> None:
    for number, path in enumerate(("..a", "a/..b", "sp_x", "%2e%2e", "~", "-rf", "con", "aux.txt")):
        await bench.upload(path, f"content {number}")
    for found in bench.contents():
        tree, prefix, name = found.relative_to(bench.folder / "blobs").parts
        assert tree == A and name.startswith(prefix) and len(name) == 64
        assert name == sha256(found.read_bytes())


async def test_s03_s05_s06_content_that_was_replaced_by_a_link_or_a_device_is_not_opened(bench: Bench) -> None:
    outside = bench.folder / "outside"
    outside.write_bytes(b"CANARY")
    makers: dict[str, Callable[[Path], object]] = {
        "link": lambda at: at.symlink_to(outside),
        "hard": lambda at: at.hardlink_to(outside),
        "fifo": os.mkfifo,
        "socket": lambda at: os.mknod(at, stat.S_IFSOCK | 0o600),
        "folder": Path.mkdir,
    }
    for name, make in makers.items():
        await bench.upload(name, f"content of {name}")
        found = bench.blobs._path(A, sha256(f"content of {name}".encode()))
        found.unlink()
        with anyio.fail_after(PATIENCE_S):
            make(found)
            # Refused by what it is, and not by what went wrong while it was read.
            with pytest.raises(WrongState, match=r"not a plain file|is missing"):
                await bench.call("storage.read", path=name)


async def test_s05_a_spool_file_with_two_names_or_that_is_a_link_is_not_taken_over(bench: Bench) -> None:
    outside = bench.folder / "outside"
    outside.write_bytes(b"CANARY")
    makers: tuple[tuple[Callable[[Path], object], str], ...] = (
        (lambda at: at.symlink_to(outside), "cannot be written"),
        (lambda at: at.hardlink_to(outside), "not a plain file"),
        (os.mkfifo, "not a plain file"),
    )
    for make, why in makers:
        path = bench.artifacts.spool()
        make(path)
        with pytest.raises(WrongState, match=why), anyio.fail_after(PATIENCE_S):
            await bench.artifacts.keep(run_id="run_1", space_id=A, name="x", content_type="text/plain", path=path)
        path.unlink()
    assert bench.contents() == [] and bench.database.read("SELECT 1 FROM artifacts") == []


async def test_s12_of_fifty_writers_exactly_one_wins_a_version(bench: Bench) -> None:
    version = (await bench.upload("a", "start"))["version"]
    won: list[int] = []

    async def write(number: int) -> None:
        try:
            await bench.upload("a", f"writer {number}", if_version=version)
        except Conflict:
            return
        won.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(write, number)
    assert len(won) == 1
    assert (await bench.answer("storage.read", path="a"))["content"] == f"writer {won[0]}"
    assert len(bench.contents()) == 1


async def test_s16_another_spaces_files_cannot_be_named(bench: Bench) -> None:
    await bench.upload("secret", "CANARY", AGENT_B)
    tries = [
        {"space": B, "path": "secret"},
        {"space": "other", "path": "secret"},
        {"namespace": B, "path": "secret"},
        {"namespace": f"runs.{B}", "path": "secret"},
    ]
    absent = [{"space": new_id("sp"), "path": "secret"}, {"namespace": new_id("sp"), "path": "secret"}]
    texts = set()
    for arguments in (*tries, *absent):
        for caller in (AGENT_A, bound_to(AGENT_A, A)):
            with pytest.raises(NotFound) as caught:
                await bench.call("storage.read", caller, **arguments)
            texts.add((caught.value.message, caught.value.hint))
    # One for spaces, one for files: neither tells what is there.
    assert len(texts) == 2
    bench.spaces.ceilings[A] = granted(own="rw")
    with pytest.raises(NotFound) as foreign:
        await bench.call("storage.read", namespace=B, path="secret")
    with pytest.raises(NotFound) as random:
        await bench.call("storage.read", namespace=new_id("sp"), path="secret")
    assert foreign.value.message == random.value.message and foreign.value.hint == random.value.hint


async def test_s16_foreign_and_random_names_take_the_same_time(bench: Bench) -> None:
    await bench.upload("secret", "CANARY", AGENT_B)

    async def seconds(namespace: str) -> float:
        started = time.perf_counter()
        with pytest.raises(NotFound):
            await bench.call("storage.read", namespace=namespace, path="secret")
        return time.perf_counter() - started

    foreign, random = [], []
    for _ in range(60):
        foreign.append(await seconds(B))
        random.append(await seconds(new_id("sp")))
    # Both fsync twice, which is the noise, and one after the other, so that it is about the same for both; the lookup
    # itself is one index probe either way.
    assert 1 / 3 < median(one / other for one, other in zip(foreign, random, strict=True)) < 3


async def test_s17_what_others_keep_changes_nothing_about_a_write(bench: Bench) -> None:
    content = "x" * 5000
    await bench.upload("a", content)
    await bench.upload("a", content, AGENT_B)
    inodes = {path.stat().st_ino for path in bench.contents()}
    assert len(inodes) == 2 and bench.files.stored_bytes(A) == bench.files.stored_bytes(B) == 5000


async def test_s18_a_link_gives_the_stored_type_and_name_once(bench: Bench) -> None:
    """The headers that keep a browser from running it are the HTTP server's: tests/security/test_http_answers.py."""
    await bench.upload("evil.html", "<script>alert(1)</script>")
    outcome = await bench.call("storage.link", path="evil.html", expires_in_s=60)
    url = outcome.output.model_dump()["url"]
    assert url.startswith("https://spaces.example/links/")
    token = url.rpartition("/")[2]
    other = token[:-1] + ("A" if token[-1] != "A" else "B")
    # A guess at a link that is still good opens nothing, and does not use it up.
    with pytest.raises(NotFound) as guessed:
        await bench.links.redeem(other)
    linked = await bench.links.redeem(token)
    assert (linked.file_name, linked.content_type, linked.size_bytes) == ("evil.html", "text/html", 25)
    assert b"".join([chunk async for chunk in linked.chunks]) == b"<script>alert(1)</script>"
    with pytest.raises(NotFound) as used:
        await bench.links.redeem(token)
    with pytest.raises(NotFound) as never:
        await bench.links.redeem(other)
    assert used.value.message == never.value.message == guessed.value.message


async def test_s18_a_link_is_over_when_its_time_is_or_its_file_changed(bench: Bench) -> None:
    async def token(path: str) -> str:
        return str((await bench.answer("storage.link", path=path, expires_in_s=60))["url"]).rpartition("/")[2]

    await bench.upload("a", "one")
    await bench.upload("b", "one")
    changed, in_time, late = await token("a"), await token("b"), await token("b")
    await bench.upload("a", "two", overwrite=True)
    with pytest.raises(NotFound):
        await bench.links.redeem(changed)
    bench.time.advance(59)
    assert (await bench.links.redeem(in_time)).file_name == "b"
    bench.time.advance(1)
    with pytest.raises(NotFound):
        await bench.links.redeem(late)
    for nonsense in ("", "x", "msp_", "msp_" + "a" * 26 + "_", "../../etc/passwd", "é" * 74):
        with pytest.raises(NotFound):
            await bench.links.redeem(nonsense)


async def test_s18_ten_redeemers_at_once_get_one_file(bench: Bench) -> None:
    await bench.upload("a", "one")
    token = str((await bench.answer("storage.link", path="a"))["url"]).rpartition("/")[2]
    got: list[bytes] = []

    async def redeem() -> None:
        try:
            linked = await bench.links.redeem(token)
        except NotFound:
            return
        got.append(b"".join([chunk async for chunk in linked.chunks]))

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(redeem)
    assert got == [b"one"]


async def test_s18_a_links_token_is_in_no_record(bench: Bench) -> None:
    await bench.upload("a", "one")
    token = str((await bench.answer("storage.link", path="a"))["url"]).rpartition("/")[2]
    secret = token.rpartition("_")[2]
    for table in ("runs", "events", "audit", "links", "idempotency"):
        for row in bench.database.read(f"SELECT * FROM {table}"):
            assert secret not in json.dumps([str(value) for value in row])


async def test_s18_a_changed_link_row_opens_nothing(bench: Bench) -> None:
    await bench.upload("a", "one")
    token = str((await bench.answer("storage.link", path="a", expires_in_s=60))["url"]).rpartition("/")[2]
    await bench.database.write(
        lambda tx: tx.execute("UPDATE links SET body = replace(body, '\"expires_at\":1', '\"expires_at\":9')")
    )
    bench.time.advance(60)
    with pytest.raises(NotFound):
        await bench.links.redeem(token)


async def test_s19_no_escape_sequence_gets_into_a_name(bench: Bench) -> None:
    name = "a\x1b]52;c;Zm9v\x07\n\u202e"
    with pytest.raises(InvalidInput) as caught:
        await bench.upload(name)
    assert caught.value.message.isprintable() and caught.value.hint.isprintable()
    path = bench.artifacts.spool()
    path.write_bytes(b"x")
    kept = await bench.artifacts.keep(run_id="run_1", space_id=A, name=name, content_type="text/plain", path=path)
    assert kept.name.isprintable() and plain_name("\x1b" * 500).isprintable() and plain_name("../../x") == ".._.._x"


async def test_s20_a_sparse_terabyte_is_refused_by_its_apparent_size(bench: Bench) -> None:
    path = bench.artifacts.spool()
    with path.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with anyio.fail_after(PATIENCE_S), pytest.raises(QuotaExceeded):
        await bench.artifacts.keep(run_id="run_1", space_id=A, name="big", content_type="a/b", path=path)
    assert path.exists()
    path.unlink()
    bench.spaces.ceilings[A] = granted(own="rw", limits=EVERYTHING.limits.model_copy(update={"storage_bytes": 1 << 20}))
    bench.sandbox.files["sparse"] = b"\0"
    bench.sandbox.claimed_sizes["sparse"] = 2 << 20
    with pytest.raises(QuotaExceeded):
        await bench.call("storage.collect", path="sparse", to="sparse")
    assert bench.contents() == []


async def test_s20_a_spaces_artifacts_stay_within_their_room(bench: Bench) -> None:
    bench.artifacts._space_bytes_max = 1000
    for number in range(30):
        path = bench.artifacts.spool()
        path.write_bytes(f"{number:02d}".encode() * 50)
        await bench.artifacts.keep(run_id="run_1", space_id=A, name=f"{number}", content_type="a/b", path=path)
    kept = bench.artifacts.of_run("run_1")
    assert [one.name for one in kept] == [f"{number}" for number in range(20, 30)]
    assert len(bench.contents(f"runs.{A}")) == 10


def test_s10_s11_nothing_on_the_host_ever_opens_an_archive() -> None:
    """No archive is extracted or listed outside of a sandbox, so bombs and slips have nothing to meet."""
    opening = {"extract", "extractall", "unpack_archive", "decompress", "ZipExtFile"}
    packing = {"tarfile", "gzip", "bz2", "lzma", "zlib", "unpack_archive"}
    for source in PACKAGE.rglob("*.py"):
        # What runs inside of sandboxes; a folder above the package may be called anything.
        if source.is_relative_to(PACKAGE / "sandbox" / "agent"):
            continue
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {getattr(node, "module", None), *(alias.name for alias in node.names)}
                assert not names & packing, source
                if "zipfile" in names:
                    # One only writes; the other reads what Playwright's driver wrote here, within a limit.
                    assert source.name in ("export.py", "trace_scrubbing.py"), source
            if isinstance(node, ast.Attribute):
                assert node.attr not in opening, f"{source}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ZipFile"):
                mode = [ast.literal_eval(one) for one in node.args[1:2]]
                assert mode == ["w"] or source.name == "trace_scrubbing.py", f"{source}:{node.lineno}"


WRITER = """
import asyncio, os, sys
from pathlib import Path
from mcp_spaces.core.ids import Clock
from mcp_spaces.state.database import Database
from mcp_spaces.storage.blobs import FileBlobs
from mcp_spaces.storage.model import Description
from mcp_spaces.storage.store import FileStore
from mcp_spaces.storage.transfer import Target, Transfers
from tests.storage.bench import SEALER, A

async def main(folder: Path, seed: int) -> None:
    files = FileStore(Database.open(folder / "state.db", sealer=SEALER), FileBlobs(folder / "blobs"), Clock())
    transfers = Transfers(files, None)
    async def one(worker: int) -> None:
        number = 0
        while True:
            number += 1
            name = f"{seed}/{worker}/{number % 4}"
            content = f"{name} {number} ".encode() * 3000
            target = Target(tree=A, path=name, description=Description(content_type="a/b", source="upload"),
                            limit_bytes=1 << 40, overwrite=True)
            kept = await transfers.keep(content, target=target)
            os.write(1, f"{name} {kept.version}\\n".encode())
            if number % 5 == 0:
                await files.remove(A, name)
                os.write(1, f"{name} -\\n".encode())
    await asyncio.gather(*(one(worker) for worker in range(4)))

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


async def test_k16_a_kill_at_any_instant_leaves_no_half_written_file(tmp_path: Path) -> None:
    """What was acknowledged is there, whole; what has a row has its content; what has no row is swept at the start."""
    acknowledged: dict[str, str] = {}
    uncertain: dict[str, str] = {}
    for seed in range(12):
        said = _write_until_killed(tmp_path, seed=seed, lines=5 + 7 * seed)
        pairs = [line.split() for line in said.splitlines()]
        acknowledged |= dict(pairs)
        # A worker deletes nothing but what it wrote last, so only that may be gone without a word.
        uncertain |= {name.rpartition("/")[0]: name for name, _ in pairs}
        _check_after_kill(tmp_path, acknowledged, set(uncertain.values()))
        database = Database.open(tmp_path / "state.db", sealer=SEALER)
        files = FileStore(database, FileBlobs(tmp_path / "blobs"), Clock())
        await files.blobs.reconcile(files.live)
        rows = database.read("SELECT DISTINCT blob FROM files")
        on_disk = [path.name for path in (tmp_path / "blobs").glob("*/??/*")]
        assert sorted(row["blob"] for row in rows) == sorted(on_disk)
        assert list((tmp_path / "blobs" / ".incoming").iterdir()) == []
        database.close()


def _write_until_killed(folder: Path, *, seed: int, lines: int) -> str:
    root = PACKAGE.parent
    command = [sys.executable, "-c", WRITER, str(folder), str(seed)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, env=environment) as process:
        assert process.stdout is not None
        said = b"".join(process.stdout.readline() for _ in range(lines))
        process.send_signal(signal.SIGKILL)
        # A line that was cut by the kill ends the text.
        said += process.stdout.read()
    return said[: said.rfind(b"\n") + 1].decode()


def _check_after_kill(folder: Path, acknowledged: dict[str, str], uncertain: set[str]) -> None:
    database = Database.open(folder / "state.db", sealer=SEALER)
    rows = {row["path"]: row for row in database.read("SELECT * FROM files")}
    use = database.read_one("SELECT * FROM namespaces WHERE name = ?", (A,))
    for row in rows.values():
        content = (folder / "blobs" / A / row["blob"][:2] / row["blob"]).read_bytes()
        assert sha256(content) == row["blob"] and len(content) == row["size_bytes"]
    for name, version in acknowledged.items():
        if version != "-" and (name not in uncertain or name in rows):
            # A later write may have been committed and not yet acknowledged; an earlier one may not come back.
            assert rows[name]["version"] >= int(version)
    assert use is not None
    assert use["stored_bytes"] == sum(row["size_bytes"] for row in rows.values()) and use["file_count"] == len(rows)
    database.close()


async def test_a_link_is_not_made_where_nothing_would_answer(tmp_path: Path) -> None:
    async with open_world(tmp_path, http_public_url=None) as world:
        at = await prepared(world, "work", runtime=False)
        with pytest.raises(WrongState, match="HTTP is off"):
            await world.call("storage.link", space=at.space, path="inputs/sales.csv")
