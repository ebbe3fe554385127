"""What tests of threats start from: a whole app, one with a browser in it, a site and its logins, or a sandbox alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.port import Sandbox
from tests.browser.signing import Rig, open_rig
from tests.sandbox.rigs import docker_driver, sandbox_of
from tests.security.app import World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[DockerDriver]:
    async with docker_driver(tmp_path) as driver:
        yield driver


@pytest.fixture
async def sandbox(driver: DockerDriver) -> AsyncIterator[Sandbox]:
    async with sandbox_of(driver) as launched:
        yield launched


@pytest.fixture(scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """One-time codes are new every 6 s, so that two of them cost no test half a minute."""
    async with open_rig(tmp_path_factory.mktemp("rig"), period_s=6) as rig:
        yield rig


@pytest.fixture
async def rig(opened: Rig) -> Rig:
    """With a fresh browser."""
    await opened.fresh()
    return opened
