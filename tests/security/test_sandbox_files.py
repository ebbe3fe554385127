"""S01 to S15, as far as they are about files of a sandbox: the host opens nothing by name, the agent follows nothing out."""

# ruff: noqa: ASYNC240, PTH110, PTH208, PTH115 - the host is looked at beside the driver; nothing else waits meanwhile
from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_spaces.errors import Conflict, InvalidInput, NotFound, SpacesError, WrongState
from mcp_spaces.sandbox.paths import workspace_path
from mcp_spaces.sandbox.port import Sandbox
from tests.folders import files_below
from tests.sandbox.rigs import PATIENCE_S, Output, python, run, shell, start
from tests.security.app import nobody

pytestmark = pytest.mark.anyio


async def every_way(sandbox: Sandbox, path: str) -> list[object]:
    """What each file operation makes of a path."""
    found: list[object] = []
    for ask in (
        sandbox.read_file(path, limit=100),
        sandbox.write_file(path, b"x", overwrite=True),
        sandbox.delete_file(path, recursive=True),
        sandbox.stat(path),
        sandbox.list_files(path),
        sandbox.search("x", path=path),
    ):
        try:
            found.append(await ask)
        except (WrongState, NotFound) as error:
            found.append(error)
    return found


async def test_s01_a_path_that_climbs_out_is_refused(sandbox: Sandbox) -> None:
    await shell(sandbox, "mkdir -p a/b")
    for path in ("../outside", "a/../../outside", "a/b/../../../etc/passwd", "..", "./..", "a/./../.."):
        assert all(isinstance(each, SpacesError) for each in await every_way(sandbox, path)), path
    assert (await sandbox.stat("a/b/../../a")).path == "a"


async def test_s02_an_absolute_path_is_refused(sandbox: Sandbox) -> None:
    for path in ("/etc/passwd", "/", "/tmp/x", "/proc/self/environ", "//etc/passwd", "/workspace/../etc/passwd"):
        assert all(isinstance(each, SpacesError) for each in await every_way(sandbox, path)), path


async def test_s03_no_link_leads_out(sandbox: Sandbox) -> None:
    await shell(
        sandbox,
        "ln -s /etc/passwd l_abs; ln -s ../../etc/passwd l_rel; ln -s / l_dir; ln -s /proc/self/root l_proc;"
        "ln -s l_abs l_twice; ln -s loop loop; ln -s /workspace/../etc l_sly; mkdir d; ln -s ../.. d/up",
    )
    for path in (
        "l_abs",
        "l_rel",
        "l_dir/etc/passwd",
        "l_proc/etc/passwd",
        "l_twice",
        "loop",
        "l_sly/passwd",
        "d/up/etc/passwd",
    ):
        for ask in (
            sandbox.read_file(path, limit=100),
            sandbox.write_file(path, b"x", overwrite=True),
            sandbox.stat(path),
            sandbox.list_files(path),
            sandbox.search("root", path=path),
        ):
            with pytest.raises(WrongState):
                await ask
    assert (await sandbox.search("root:x:")).matches == ()
    assert (await sandbox.glob("**/passwd")).entries == ()


async def test_s04_a_link_swapped_in_never_wins(sandbox: Sandbox) -> None:
    """The name changes between a folder and a link out of the workspace, as fast as it can."""
    await sandbox.write_file("real/secret", b"inside", overwrite=False)
    await shell(sandbox, "ln -s /etc out")
    swap = (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None)\n"
        "os.mkdir('real2'); open('real2/passwd', 'w').write('inside')\n"
        "os.rename('real2', 'name')\n"
        "print('on', flush=True)\n"
        "while True: libc.renameat2(-100, b'name', -100, b'out', 2)\n"
    )
    output = Output()
    swapper = await start(sandbox, "python3", "-c", swap, output=output)
    await output.until(b"on")
    read = refused = 0
    try:
        with anyio.fail_after(2 * PATIENCE_S):
            while read < 300 or refused < 300:
                try:
                    content = (await sandbox.read_file("name/passwd", limit=1000)).content
                    assert content in (b"inside", b"written"), content
                    read += 1
                except (WrongState, NotFound):
                    refused += 1
                try:
                    await sandbox.write_file("name/passwd", b"written", overwrite=True)
                except (WrongState, NotFound):
                    refused += 1
    finally:
        await swapper.kill()


async def test_s05_a_hard_link_cannot_bring_anything_in(sandbox: Sandbox) -> None:
    ran = await shell(
        sandbox,
        "for f in /etc/passwd /etc/shadow /usr/bin/id /tmp/x; do ln $f hard 2>&1; done; touch /tmp/x; ln /tmp/x hard",
    )
    assert ran.exit.exit_code != 0
    with pytest.raises(NotFound):
        await sandbox.stat("hard")
    # A second name inside the workspace is an ordinary file.
    await sandbox.write_file("one", b"1", overwrite=False)
    await run(sandbox, "ln", "one", "two")
    await sandbox.write_file("two", b"2", overwrite=True)
    assert (await sandbox.read_file("one", limit=10)).content == b"1"


async def test_s06_fifos_sockets_and_devices_are_refused_at_once(sandbox: Sandbox) -> None:
    await python(sandbox, "import os, socket\nos.mkfifo('fifo')\nsocket.socket(socket.AF_UNIX).bind('socket')")
    with anyio.fail_after(PATIENCE_S):
        for path in ("fifo", "socket"):
            with pytest.raises(WrongState):
                await sandbox.read_file(path, limit=1)
            with pytest.raises(WrongState):
                await sandbox.write_file(path, b"", overwrite=True)
            assert (await sandbox.search("x", path=".")).matches == ()


async def test_s07_a_nul_is_refused_before_anything_is_asked(sandbox: Sandbox) -> None:
    for ask in (
        sandbox.read_file("a\0b", limit=1),
        sandbox.write_file("a\0b", b"", overwrite=True),
        sandbox.delete_file("\0"),
        sandbox.stat("a\0"),
        sandbox.list_files("\0"),
        sandbox.glob("*\0"),
        sandbox.search("\0"),
        run(sandbox, "true", cwd="\0"),
        run(sandbox, "true", env={"A": "\0"}),
    ):
        with pytest.raises(InvalidInput):
            await ask


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.sampled_from("./\\ab\0é\u202e\ud800~*"), max_size=40))
def test_s08_a_path_is_taken_as_it_is_or_refused(path: str) -> None:
    try:
        encoded = workspace_path(path)
    except (InvalidInput, WrongState):
        return
    assert b"\0" not in encoded
    assert not encoded.startswith(b"/")


async def test_s09_long_names_and_deep_paths_are_typed_errors(sandbox: Sandbox) -> None:
    for path in ("x" * 256, "/".join("d" * 201), "x/" * 10_000, "é" * 128):
        for ask in (sandbox.stat(path), sandbox.write_file(path, b"", overwrite=False)):
            with pytest.raises(InvalidInput):
                await ask


def hostile_archive() -> bytes:
    """One of each that has hurt somebody: climbing, absolute, through a link, hard link, device, FIFO, setuid."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, kind, target in (
            ("../climbed", tarfile.REGTYPE, ""),
            ("/tmp/absolute-canary", tarfile.REGTYPE, ""),
            ("link", tarfile.SYMTYPE, "/tmp"),
            ("link/through-canary", tarfile.REGTYPE, ""),
            ("hard", tarfile.LNKTYPE, "/etc/passwd"),
            ("device", tarfile.CHRTYPE, ""),
            ("block", tarfile.BLKTYPE, ""),
            ("fifo", tarfile.FIFOTYPE, ""),
            ("setuid", tarfile.REGTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, target, 0o6777
            member.devmajor = member.devminor = 1
            archive.addfile(member)
    return packed.getvalue()


async def test_s10_a_hostile_archive_harms_only_the_sandbox(sandbox: Sandbox) -> None:
    before = {name for name in os.listdir("/tmp") if "canary" in name}
    await sandbox.write_file("evil.tar", hostile_archive(), overwrite=False)
    await shell(sandbox, "tar -xPf evil.tar; python3 -m tarfile -e evil.tar")
    assert {name for name in os.listdir("/tmp") if "canary" in name} == before
    ran = await shell(
        sandbox, "find / -xdev \\( -type b -o -type c \\) -newer evil.tar 2>/dev/null; ls /climbed /etc/passwd"
    )
    assert b"/climbed" not in ran.stdout
    with pytest.raises(WrongState, match="outside"):
        await sandbox.read_file("link/through-canary", limit=1)


async def test_s13_files_on_the_workspaces_own_disk_are_read_and_written(sandbox: Sandbox) -> None:
    await sandbox.write_file("from/outside", b"1", overwrite=False)
    ran = await shell(sandbox, "cat from/outside; stat -f -c %T .; echo inside > from/inside")
    assert ran.stdout.split() == [b"1ext2/ext3"]
    assert (await sandbox.read_file("from/inside", limit=100)).content == b"inside\n"
    assert [entry.path for entry in (await sandbox.list_files("from")).entries] == ["from/inside", "from/outside"]


async def test_s14_the_agent_has_no_more_rights_than_its_sandbox(sandbox: Sandbox) -> None:
    await shell(sandbox, "ln -s /etc/shadow shadow; mkdir closed; touch closed/file; chmod 000 closed")
    for path in ("shadow", "closed/file"):
        with pytest.raises(WrongState):
            await sandbox.read_file(path, limit=10)
    with pytest.raises(WrongState):
        await sandbox.write_file("closed/new", b"", overwrite=True)


async def test_s15_the_workspace_is_never_looked_at_on_the_host(sandbox: Sandbox, tmp_path: Path) -> None:
    """The engine has it mounted below its own folder for as long as the sandbox runs: only root comes there, and nothing
    of ours does."""
    await sandbox.write_file(".git/hooks/post-checkout", b"#!/bin/sh\ntouch /tmp/hooked-canary\n", overwrite=False)
    await sandbox.write_file("evil.pth", b"import os; os.system('touch /tmp/hooked-canary')\n", overwrite=False)
    assert not [path for path in files_below(tmp_path) if path.name in ("evil.pth", "post-checkout")]
    mounted = [
        line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if line.startswith("/dev/loop")
    ]
    with nobody():
        assert not [place for place in mounted if os.path.exists(f"{place}/evil.pth")]
    # Opened by nobody but the kernel: the disk file is no folder, and this process holds it no more.
    held = {
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if Path(f"/proc/self/fd/{fd}").is_symlink()
    }
    assert not [path for path in held if path.endswith(".ext4") or path.startswith("/dev/loop")]
    assert not Path("/tmp/hooked-canary").exists()


async def test_two_edits_of_one_base_have_one_winner(sandbox: Sandbox) -> None:
    import hashlib

    await sandbox.write_file("file", b"base", overwrite=False)
    base = hashlib.sha256(b"base").hexdigest()
    won: list[bytes] = []

    async def edit(number: int) -> None:
        content = b"%d" % number * 300_000
        try:
            await sandbox.write_file("file", content, overwrite=True, base_sha256=base)
            won.append(content)
        except Conflict:
            pass

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(edit, number)
    assert len(won) == 1
    assert (await sandbox.read_file("file", limit=10**7)).content == won[0]
    assert [entry.path for entry in (await sandbox.list_files(".")).entries] == ["file"]
    assert (await shell(sandbox, "ls -A")).stdout == b"file\n"
