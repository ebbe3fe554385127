"""What a sandbox without Python does at the limits of its disk and of its processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial

import anyio
import pytest

from mcp_spaces.errors import DiskFull, QuotaExceeded
from mcp_spaces.sandbox.docker import exec_scripts as scripts
from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.port import Process, Sandbox
from tests.sandbox.rigs import BARE_IMAGE, PATIENCE_S, SMALL, run, sandbox_of, shell, start

FILL_BLOCKS = "for i in 1 2 3; do cat /dev/zero > fill$i; done; true"
FILL_INODES = "mkdir many; cd many; seq 9000 | xargs touch; true"


@pytest.fixture
async def sandbox(driver: DockerDriver) -> AsyncIterator[Sandbox]:
    async with sandbox_of(driver, image=BARE_IMAGE) as launched:
        yield launched


async def test_a_file_on_a_full_disk_stays_what_it_was(sandbox: Sandbox) -> None:
    await sandbox.write_file("kept", b"old", overwrite=False)
    await shell(sandbox, FILL_BLOCKS)
    for path in ("kept", "new"):
        with pytest.raises(DiskFull):
            await sandbox.write_file(path, bytes(1 << 20), overwrite=True)
    assert (await sandbox.read_file("kept", limit=9)).content == b"old"
    assert (await shell(sandbox, "ls -A")).stdout == b"fill1\nfill2\nfill3\nkept\n"


async def test_a_disk_without_inodes_is_full(sandbox: Sandbox) -> None:
    await shell(sandbox, FILL_INODES)
    for path in ("new", "folder/new"):
        with pytest.raises(DiskFull):
            await sandbox.write_file(path, b"x", overwrite=False)


async def test_a_write_that_was_killed_with_its_sandbox_leaves_nothing_at_its_next_start(driver: DockerDriver) -> None:
    async with sandbox_of(driver, image=BARE_IMAGE) as sandbox:
        await sandbox.write_file("folder/.mcp-spaces-part-of-mine", b"kept", overwrite=False)
        words = ["/bin/sh", "-c", scripts.WRITE, "sh", "folder/file", "1", "", "0123abcd", "1000"]
        writing = await start(sandbox, *words)
        await writing.write(b"not all of it")
        with anyio.fail_after(PATIENCE_S):
            while b"-0123abcd" not in (await shell(sandbox, "ls -A folder")).stdout:
                pass
    async with sandbox_of(driver, image=BARE_IMAGE) as again:
        assert (await shell(again, "ls -A folder")).stdout == b".mcp-spaces-part-of-mine\n"


async def is_refused(ask: Callable[[], Awaitable[object]]) -> bool:
    try:
        await ask()
    except QuotaExceeded:
        return True
    return False


async def test_where_no_process_is_left_that_is_told_and_a_kill_makes_room(sandbox: Sandbox) -> None:
    await sandbox.write_file("file", b"x", overwrite=False)
    # Some of them lose their parent, others their environment.
    hogs = "while :; do sleep 66.5 & (setsid sleep 66.5 &); sh -c 'env -i sleep 66.5; exit' & done >/dev/null 2>&1"
    process = await start(sandbox, "sh", "-c", hogs)
    with anyio.fail_after(PATIENCE_S):
        # The shell that finds none ends with 2, and how it ended is known.
        assert (await process.wait()).exit_code == 2
        fillers: list[Process] = []
        asks: list[Callable[[], Awaitable[object]]] = [
            partial(sandbox.stat, "file"),
            sandbox.usage,
            partial(sandbox.write_file, "new", b"x", overwrite=True),
        ]
        for ask in asks:
            # Those that found no place give their own back as they end, which may be after the ask before was refused.
            while not await is_refused(ask):
                with suppress(QuotaExceeded):
                    fillers.append(await start(sandbox, "sh", "-c", "while :; do sleep 66.5 & done >/dev/null 2>&1"))
                    await fillers[-1].wait()
        for each in (process, *fillers):
            await each.kill()
        assert (await run(sandbox, "cat", "file")).stdout == b"x"
        # But for some that lost both at once, which nothing finds.
        assert (await sandbox.usage()).pids < SMALL.pids // 2
