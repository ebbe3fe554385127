"""What a local Chromium may have put into its folder, read and removed by the daemon, who may be root (threats S03, S06)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path, PurePosixPath

import anyio
import pytest

from mcp_spaces.browser.driver import local_files
from mcp_spaces.errors import NotFound
from tests.descriptors import open_here

pytestmark = pytest.mark.anyio

OUTSIDE = b"of somebody else"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a download, and whatever a browser that was taken over could leave beside it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(OUTSIDE)
    made = tmp_path / "browser"
    (made / "downloads" / "kept").mkdir(parents=True)
    (made / "downloads" / "kept" / "inner").write_bytes(b"inner")
    (made / "downloads" / "file").write_bytes(b"downloaded")
    (made / "downloads" / "link").symlink_to(outside / "file")
    (made / "linked").symlink_to(outside)
    os.mkfifo(made / "downloads" / "pipe")
    (tmp_path / "other").symlink_to(made)
    return made


async def content(folder: Path, path: str) -> bytes:
    return b"".join([piece async for piece in local_files.read(folder, PurePosixPath(path))])


async def test_a_download_is_read_and_removed_once_and_for_all(folder: Path) -> None:
    assert await content(folder, "downloads/file") == b"downloaded"
    for _ in range(2):
        await local_files.remove(folder, PurePosixPath("downloads/file"))
    assert not (folder / "downloads/file").exists()
    await local_files.remove(folder, PurePosixPath("downloads/kept"))
    assert not (folder / "downloads/kept").exists()


@pytest.mark.parametrize(
    "path",
    [
        "downloads/link",
        "linked/file",
        "../outside/file",
        "downloads/../../outside/file",
        "downloads/pipe",
        "downloads/kept",
        "downloads/none",
        "",
    ],
)
async def test_s03_s06_nothing_but_a_regular_file_of_the_folder_itself_is_read(folder: Path, path: str) -> None:
    with pytest.raises(NotFound):
        await content(folder, path)


async def test_s03_an_absolute_path_and_a_folder_that_is_a_link_lead_nowhere(folder: Path) -> None:
    with pytest.raises(NotFound):
        await content(folder, str(folder.parent / "outside" / "file"))
    with pytest.raises(NotFound):
        await content(folder.parent / "other", "downloads/file")


@pytest.mark.parametrize("path", ["downloads/link", "linked/file", "../outside/file", "linked", "/outside/file"])
async def test_s03_a_link_is_removed_itself_and_what_it_leads_to_stays(folder: Path, path: str) -> None:
    await local_files.remove(folder, PurePosixPath(path))
    assert (folder.parent / "outside/file").read_bytes() == OUTSIDE
    assert not (folder / "downloads/link").is_symlink() or path != "downloads/link"


async def test_a_folder_goes_also_while_chromium_takes_files_out_of_it(folder: Path) -> None:
    kept = folder / "downloads" / "kept"
    for number in range(3_000):
        (kept / f"{number}").touch()
    words = "cd '%s' && ls | tac | while read -r one; do rm -f \"$one\"; done"
    async with await anyio.open_process(["/bin/bash", "-c", words % kept], stderr=subprocess.DEVNULL) as chromium:
        await local_files.remove(folder, PurePosixPath("downloads/kept"))
        assert not kept.exists()
        chromium.kill()


async def test_reading_and_removing_leave_no_descriptor_open(folder: Path) -> None:
    before = open_here()
    for path in ("downloads/file", "downloads/pipe", "downloads/link", "downloads/none"):
        for _ in range(3):
            try:
                await content(folder, path)
            except NotFound:
                continue
    await local_files.remove(folder, PurePosixPath("downloads/file"))
    await local_files.remove(folder, PurePosixPath("downloads/kept"))
    assert open_here() <= before
