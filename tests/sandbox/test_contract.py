"""Every driver keeps the contract: the stream driver, its fallback for images without Python, and the fake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.port import Sandbox, SandboxDriver, SandboxSpec
from tests.sandbox.contract.commands import Commands
from tests.sandbox.contract.connections import Connections, NoConnections
from tests.sandbox.contract.files import Files, Rights
from tests.sandbox.contract.lives import Lives
from tests.sandbox.fake import FAKE_IMAGE, FakeDriver
from tests.sandbox.rigs import BARE_IMAGE, IMAGE, SMALL, docker_driver, sandbox_of, shell

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="class")
async def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    """Of the class's image, by the class's way."""
    async with (
        docker_driver(tmp_path_factory.mktemp("driver"), shortcut=request.cls.shortcut) as driver,
        sandbox_of(driver, image=request.cls.image_name) as launched,
    ):
        yield launched


@pytest.fixture
async def sandbox(driver: SandboxDriver, image: str) -> AsyncIterator[Sandbox]:
    async with sandbox_of(driver, image=image) as launched:
        yield launched


class OneForAll(Commands, Files, Rights):
    """Commands and files change nothing of a sandbox but its workspace: one, emptied after each test, serves them all."""

    image_name = IMAGE
    shortcut = True

    @pytest.fixture
    async def sandbox(self, shared: Sandbox) -> AsyncIterator[Sandbox]:
        yield shared
        emptied = await shell(shared, "chmod -R u+rwX . && find . -mindepth 1 -delete")
        assert emptied.exit.exit_code == 0, emptied.stderr


class TestStreamDriverAtWork(OneForAll):
    pass


class TestAttachedStreamDriverAtWork(OneForAll):
    """Where the daemon cannot reach a container's files, frames stay on Docker's attach stream."""

    shortcut = False


class TestExecFallbackAtWork(OneForAll):
    """An image with a shell and no Python."""

    image_name = BARE_IMAGE


class TestStreamDriver(Lives, Connections):
    @pytest.fixture
    def image(self) -> str:
        return IMAGE

    @pytest.fixture
    async def driver(self, tmp_path: Path) -> AsyncIterator[SandboxDriver]:
        async with docker_driver(tmp_path) as driver:
            yield driver


class TestAttachedStreamDriver(Lives, Connections):
    @pytest.fixture
    def image(self) -> str:
        return IMAGE

    @pytest.fixture
    async def driver(self, tmp_path: Path) -> AsyncIterator[SandboxDriver]:
        async with docker_driver(tmp_path, shortcut=False) as driver:
            yield driver


class TestWarmStreamDriver(Lives, Connections):
    """Sandboxes that come out of the pool: begun as any other, then given to a runtime. What their commands and files
    do is the launcher's doing and the agent's, and no other than above."""

    @pytest.fixture
    def image(self) -> str:
        return IMAGE

    @pytest.fixture
    async def driver(self, tmp_path: Path) -> AsyncIterator[SandboxDriver]:
        async with docker_driver(tmp_path, pool_size=1) as driver:
            await driver.warm(SMALL)
            yield driver


class TestFake(Commands, Files, Lives, Connections):
    @pytest.fixture
    def image(self) -> str:
        return FAKE_IMAGE

    @pytest.fixture
    async def driver(self, tmp_path: Path) -> AsyncIterator[SandboxDriver]:
        driver = FakeDriver(tmp_path)
        yield driver
        await driver.aclose()


class TestExecFallback(Lives, NoConnections):
    @pytest.fixture
    def image(self) -> str:
        return BARE_IMAGE

    @pytest.fixture
    async def driver(self, tmp_path: Path) -> AsyncIterator[SandboxDriver]:
        async with docker_driver(tmp_path) as driver:
            yield driver


class TestPlainVolumes(Lives):
    """Where the daemon is not root, or loop devices do not work."""

    @pytest.fixture
    def image(self) -> str:
        return IMAGE

    @pytest.fixture
    async def driver(self, tmp_path: Path) -> AsyncIterator[SandboxDriver]:
        async with docker_driver(tmp_path, kernel_disk=False) as driver:
            yield driver

    async def test_the_missing_disk_limit_is_told(self, driver: SandboxDriver) -> None:
        disk = next(wall for wall in await driver.walls() if wall.name == "disk")
        assert (disk.holds, bool(disk.mend)) == (False, True)

    async def test_an_image_whose_workspace_belongs_to_root_is_refused(self, driver: SandboxDriver) -> None:
        with pytest.raises(RuntimeUnavailable, match="not writable"):
            await driver.launch(SandboxSpec("runtime", BARE_IMAGE, SMALL))
