"""An engine that takes limits and keeps none, as a rootless one does on cgroup v1: no sandbox works there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.docker import container
from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.port import SandboxSpec
from tests.sandbox.rigs import BARE_IMAGE, IMAGE, SMALL, docker_driver

pytestmark = pytest.mark.anyio


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[DockerDriver]:
    async with docker_driver(tmp_path) as driver:
        yield driver


@pytest.mark.parametrize("image", [IMAGE, BARE_IMAGE], ids=["with Python", "without"])
@pytest.mark.parametrize(
    ("limit", "words"), [("Memory", "memory is"), ("PidsLimit", "processes are"), ("NanoCpus", "cores are")]
)
async def test_a_sandbox_that_finds_itself_without_a_limit_is_destroyed_before_use(
    driver: DockerDriver, monkeypatch: pytest.MonkeyPatch, image: str, limit: str, words: str
) -> None:
    kept = container.sizes(SMALL)
    lost = {"Memory", "MemorySwap"} if limit == "Memory" else {limit}
    monkeypatch.setattr(container, "sizes", lambda _: {name: kept[name] for name in kept if name not in lost})
    with pytest.raises(RuntimeUnavailable, match=f"{words} not limited"):
        await driver.launch(SandboxSpec("runtime", image, SMALL))
    assert await driver.reap(keep=()) == []
