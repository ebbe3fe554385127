"""A launch that fails half-way takes away what it made, and nothing that was there before."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_spaces.errors import SpacesError
from mcp_spaces.sandbox.port import SandboxLimits, SandboxSpec
from tests.sandbox.rigs import BARE_IMAGE, IMAGE, SMALL, docker_driver, sandbox_of

pytestmark = pytest.mark.anyio
TOO_MANY_CORES = SandboxLimits(cpu_cores=1024, memory_bytes=256 << 20, disk_bytes=64 << 20, pids=64)


async def test_files_outlive_a_launch_that_failed(tmp_path: Path) -> None:
    async with docker_driver(tmp_path) as driver:
        async with sandbox_of(driver, image=IMAGE) as first:
            await first.write_file("kept", b"still", overwrite=False)
        with pytest.raises(SpacesError):
            await driver.launch(SandboxSpec("runtime", IMAGE, TOO_MANY_CORES))
        # Its agent cannot run there: a container is made in vain before the one that is used.
        async with sandbox_of(driver, image=BARE_IMAGE, limits=SMALL) as second:
            assert not second.new_workspace
            assert (await second.read_file("kept", limit=10)).content == b"still"


async def test_a_launch_that_failed_leaves_no_files_of_a_runtime_that_never_was(tmp_path: Path) -> None:
    async with docker_driver(tmp_path) as driver:
        with pytest.raises(SpacesError):
            await driver.launch(SandboxSpec("runtime", IMAGE, TOO_MANY_CORES))
        assert [path for path in (tmp_path / "workspaces").iterdir() if path.is_file()] == []
