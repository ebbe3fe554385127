"""A disk that is full (K09), read-only, or that fails to sync (K10). A locked database (K08) is in tests/state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.facts import SecretUse
from mcp_spaces.core.operation import Audience
from mcp_spaces.errors import SpacesError
from mcp_spaces.runs.audit import Audit
from mcp_spaces.sandbox.port import LiveSandboxes
from mcp_spaces.spaces.port import Spaces
from tests.folders import fill, small_disk
from tests.sandbox.fake import FakeDriver
from tests.security.app import PATIENCE_S, ROOT, World, open_world, refusal
from tests.security.prepared import prepared, valid_inputs
from tests.vault.rig import EVERYTHING, open_rig

pytestmark = pytest.mark.anyio


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


async def everything_is_refused(world: World, inputs: dict[str, dict[str, Any]], code: str) -> None:
    for operation in CATALOGUE:
        if operation.id == "sandbox.connect":
            continue
        caller = world.operator if operation.audience is Audience.OPERATOR else world.agent
        arguments = inputs.get(operation.id, operation.example)
        # What begins without a record may never end.
        with anyio.fail_after(PATIENCE_S):
            error = await refusal(world.app.pipeline.call(caller, operation.id, dict(arguments)))
        assert error is not None and error.code == code, (operation.id, error)
        assert error.hint


async def test_k09_on_a_full_disk_nothing_unrecorded_happens_and_afterwards_all_goes_on(
    disk: Path, tmp_path: Path
) -> None:
    driver = FakeDriver(tmp_path / "workspaces")
    async with open_world(disk, driver=driver) as world:
        at = await prepared(world, "work")
        spaces, runs = world.count("SELECT count(*) FROM spaces"), world.count("SELECT count(*) FROM runs")
        ballast = fill(disk)
        # The first pages of the log may still have room; then the disk is full for good.
        with anyio.fail_after(60):
            while (await refusal(world.call("space.get", space=at.space))) is None:
                pass
        full_from = world.count("SELECT count(*) FROM runs")
        await everything_is_refused(world, valid_inputs(at), "disk_full")
        # What only reads, reads; what was there, is there.
        assert world.use(Spaces).get(at.space) is not None
        assert world.count("SELECT count(*) FROM runs") == full_from >= runs
        assert world.count("SELECT count(*) FROM spaces") == spaces
        assert not (tmp_path / "workspaces" / at.runtime / "new.txt").exists(), "done without a record"
        assert world.use(LiveSandboxes).live(at.runtime)
        ballast.unlink()
        assert (await world.call("sandbox.shell", space=at.space, command="echo again")).stdout == "again\n"
        assert (await world.call("storage.read", space=at.space, path="inputs/sales.csv")).content == "a,b\n1,2\n"
        assert (await world.use(Audit).verify()).intact
        assert world.count("SELECT count(*) FROM runs WHERE ended_at IS NULL") == 0
    async with open_world(disk, driver=driver) as again:
        assert (await again.call("space.get", space=at.space)).name == "work"
        assert again.row("PRAGMA integrity_check")[0] == "ok"  # type: ignore[index]


async def test_k09_a_file_that_does_not_fit_leaves_nothing_of_it(disk: Path, tmp_path: Path) -> None:
    async with open_world(disk, driver=FakeDriver(tmp_path / "workspaces")) as world:
        at = await prepared(world, "work", runtime=False)
        error = await refusal(world.call("storage.upload", space=at.space, path="big", content="x" * (5 << 20)))
        assert error is not None and error.code == "disk_full"
        blobs = disk / "state" / "blobs"
        assert list((blobs / ".incoming").iterdir()) == []
        assert world.count("SELECT count(*) FROM files WHERE path = 'big'") == 0
        await world.call("storage.upload", space=at.space, path="small", content="x")


async def test_k10_a_read_only_file_system_is_a_typed_error_at_the_start_and_spoils_nothing(
    disk: Path, tmp_path: Path
) -> None:
    async with open_world(disk, driver=FakeDriver(tmp_path / "workspaces")) as world:
        await world.space("before")
    remount(disk, "ro")
    with pytest.raises(SpacesError) as refused:
        async with open_world(disk, driver=FakeDriver(tmp_path / "workspaces")):
            pass
    assert refused.value.code in ("wrong_state", "disk_full") and refused.value.hint
    remount(disk, "rw")
    async with open_world(disk, driver=FakeDriver(tmp_path / "workspaces")) as again:
        assert (await again.call("space.get", space="before")).state == "running"


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The file FAIL_FLAG holds a piece of a path: what has it in its name fails. No file, no failures. */
static int wanted(int fd) {
    const char *flag = getenv("FAIL_FLAG");
    char piece[256] = {0}, link[64], path[4096] = {0};
    FILE *file = flag ? fopen(flag, "r") : NULL;
    if (!file) return 0;
    if (!fgets(piece, sizeof piece, file)) piece[0] = 0;
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (!piece[0] || readlink(link, path, sizeof path - 1) < 0) return 0;
    return strstr(path, piece) != NULL;
}
#define FAIL(fd) if (wanted(fd)) { errno = EIO; return -1; }
int fsync(int fd) { FAIL(fd) return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
int fdatasync(int fd) { FAIL(fd) return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
ssize_t pwrite64(int fd, const void *b, size_t n, off_t o) {
    const char *mode = getenv("FAIL_WRITES");
    if (mode) FAIL(fd)
    return ((ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64"))(fd, b, n, o);
}
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { return pwrite64(fd, b, n, o); }
"""

STORY = """
import asyncio, json, sys
from pathlib import Path
from tests.security.app import open_world, refusal
from mcp_spaces.runs.audit import Audit
from mcp_spaces.spaces.port import Spaces

async def main(folder, flag, piece):
    said = {}
    async with open_world(folder) as world:
        space = await world.space("before")
        flag.write_text(piece)
        async with asyncio.timeout(20):
            errors = [await refusal(world.call("space.create", name=f"during-{n}")) for n in range(3)]
        said["codes"] = [error and error.code for error in errors]
        said["hints"] = [error.hint for error in errors if error]
        said["reads"] = world.use(Spaces).get(space) is not None
        flag.unlink()
        async with asyncio.timeout(20):
            error = await refusal(world.call("space.create", name="after"))
        said["after"] = error and error.code
    async with open_world(folder) as world:
        said["intact"] = (await world.use(Audit).verify()).intact
        said["names"] = sorted(row["name"] for row in world.database.read("SELECT name FROM spaces"))
        said["open"] = world.count("SELECT count(*) FROM runs WHERE ended_at IS NULL")
        said["new"] = (await world.space("reopened")) != ""
    print(json.dumps(said))

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    library = folder / "shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, folder / "shim.c", "-ldl"], check=True)
    return library


def tell(folder: Path, shim: Path, piece: str, **more: str) -> dict[str, Any]:
    flag = folder / "flag"
    told = subprocess.run(
        [sys.executable, "-c", STORY, folder, flag, piece],
        env={**os.environ, "LD_PRELOAD": str(shim), "FAIL_FLAG": str(flag), "PYTHONPATH": str(ROOT), **more},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    said: dict[str, Any] = json.loads(told.stdout)
    return said


@pytest.mark.parametrize(("piece", "writes"), [("state.db-wal", ""), ("state.db-wal", "yes"), ("audit.head", "yes")])
def test_k10_after_a_failed_sync_no_change_is_accepted_until_a_restart(
    tmp_path: Path, shim: Path, piece: str, writes: str
) -> None:
    """After a failed fsync the kernel may have dropped the pages: what a later commit says could not be trusted."""
    said = tell(tmp_path, shim, piece, **({"FAIL_WRITES": writes} if writes else {}))
    assert "wrong_state" in said["codes"] and None not in said["codes"][1:], said
    assert all(said["hints"]) and said["reads"] is True
    # The disk is well again, and the daemon still does not trust it.
    assert said["after"] == "wrong_state"
    assert said["intact"] is True and said["open"] == 0 and said["new"] is True
    assert "before" in said["names"]
    assert not {"during-1", "during-2", "after"} & set(said["names"])


VAULT_STORY = """
import asyncio, os, sys
from pathlib import Path
from mcp_spaces.errors import WrongState
from tests.vault.rig import open_rig

async def main(folder, flag, piece, change):
    async with open_rig(folder) as rig:
        if change == "rekey":
            await rig.put("prod/x", value="canary value")
        flag.write_text(piece)
        for _ in range(2):
            try:
                await (rig.vault.keys.rekey(None, run_id="run_x") if change == "rekey" else rig.put("prod/x", value="first"))
            except WrongState:
                continue
            sys.exit("this disk failed, and nobody noticed")
        # As a kill, or a power cut: what the log of the database has is found at the next start.
        os._exit(0)

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
"""


@pytest.mark.parametrize("change", ["rekey", "put"])
@pytest.mark.parametrize("piece", ["state.db-wal", "master.key"])
async def test_k10_v16_a_disk_that_fails_while_the_vault_gets_a_key_takes_none_away(
    tmp_path: Path, shim: Path, piece: str, change: str
) -> None:
    """A commit that was told to have failed may be there after a restart, and be tried again before."""
    flag, folder = tmp_path / "flag", tmp_path / "state"
    folder.mkdir()
    told = await anyio.run_process(
        [sys.executable, "-c", VAULT_STORY, folder, flag, piece, change],
        env={**os.environ, "LD_PRELOAD": str(shim), "FAIL_FLAG": str(flag), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        check=False,
    )
    assert told.returncode == 0, told.stderr.decode()[-3000:]
    async with open_rig(folder) as rig:
        if change == "put":
            await rig.put("prod/x", value="canary value")
        await rig.vault.keys.rekey(None, run_id="run_x")
        opened = await rig.vault.open("prod/x", scope=EVERYTHING, purpose=SecretUse.RAW_READ, run_id="run_x")
        value = opened.field()
        assert value is not None and value.reveal() == "canary value"
